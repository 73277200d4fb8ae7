"""Pings through the tunnel while its service is stopped; reports as the cell named as argument."""

import sys
import time

from tests.systemd.guest.__main__ import report
from tests.systemd.guest.system import INNER, pings
from tests.systemd.matrix import Result

COUNT = 5


def main(cell: str) -> int:
    """Expect every ping to be answered."""
    started = time.monotonic()
    answered = pings(INNER["peer"], count=COUNT)
    detail = f"{answered} of {COUNT} pings answered while stopping"
    seconds = round(time.monotonic() - started, 2)
    report(Result(cell, answered == COUNT, detail, seconds))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
