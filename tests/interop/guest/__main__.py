"""Tries the cells named as arguments, all of them without; prints one line of JSON for each.

Standard output carries nothing else; what goes wrong beside the cells is on standard error.
"""

import json
import signal
import sys
import time
import traceback
from dataclasses import asdict
from typing import NoReturn

from gred.lab.daemon import DaemonError
from gred.lab.hosts import Lab
from tests.interop.guest import checks, scenarios
from tests.interop.guest.laboratory import Laboratory
from tests.interop.matrix import CELLS, Cell, Result

CELL_S = 90


def main(names: list[str]) -> int:
    """Build the laboratory, try each cell, tear it down."""
    signal.signal(signal.SIGALRM, _expire)
    with Lab("interop") as lab:
        laboratory = Laboratory(lab)
        try:
            laboratory.start_gred()
        except DaemonError as error:
            _complain(f"{error}\n{laboratory.log()}")
            return 1
        for cell in CELLS:
            if not names or cell.name in names:
                sys.stdout.write(f"{json.dumps(asdict(_try(laboratory, cell)))}\n")
                sys.stdout.flush()
        _complain(laboratory.log())
    return 0


def _try(laboratory: Laboratory, cell: Cell) -> Result:
    started = time.monotonic()
    signal.alarm(CELL_S)
    try:
        if cell.form is not None:
            detail = getattr(checks, cell.function)(laboratory, cell.form)
        else:
            detail = getattr(scenarios, cell.function)(laboratory)
        passed = True
    except AssertionError as error:
        detail, passed = str(error), False
    except Exception:  # noqa: BLE001 - the next cell is tried all the same
        detail, passed = traceback.format_exc(), False
    finally:
        signal.alarm(0)
    return Result(cell.name, passed, detail, round(time.monotonic() - started, 2))


def _complain(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def _expire(_number: int, _frame: object) -> NoReturn:
    raise AssertionError(f"not done in {CELL_S} s")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
