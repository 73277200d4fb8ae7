"""Tries the cells named as arguments; a line of JSON for each on standard output. Then powers off.

Runs under the guest's own Python, which has nothing installed.
"""

import json
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict

from tests.systemd.guest import across, checks, newcomer, sandboxed
from tests.systemd.matrix import CELLS, Result

_MODULES = (checks, newcomer, sandboxed, across)


def main(names: list[str]) -> int:
    """Try each cell in the order of the matrix."""
    try:
        for cell in CELLS:
            if cell in names:
                report(_try(cell))
        checks.restore()
    finally:
        subprocess.run(["systemctl", "poweroff", "--no-block"], check=True)
    return 0


def report(result: Result) -> None:
    """Hand *result* to the host."""
    sys.stdout.write(f"{json.dumps(asdict(result))}\n")
    sys.stdout.flush()


def _check(cell: str) -> Callable[[], str | None]:
    """Return the function behind *cell*."""
    (found,) = [vars(module)[cell] for module in _MODULES if cell in vars(module)]
    check: Callable[[], str | None] = found
    return check


def _try(cell: str) -> Result:
    started = time.monotonic()
    try:
        detail, passed = _check(cell)() or "", True
    except AssertionError as error:
        detail, passed = str(error), False
    except subprocess.CalledProcessError as error:
        detail, passed = f"{error}\n{error.stdout}\n{error.stderr}", False
    except Exception:  # noqa: BLE001 - the next cell is tried all the same
        detail, passed = traceback.format_exc(), False
    return Result(cell, passed, detail, round(time.monotonic() - started, 2))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
