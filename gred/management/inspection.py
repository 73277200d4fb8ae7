"""``gred peers`` and ``gred drops``: what the daemon answers, as tables for people or as JSON.

Formats what the control socket tells; nothing here decides, and nothing here opens a socket itself.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gred.control.errors import ExitCode
from gred.management.control.client import NoAnswerError, RefusedError, ask, complain
from gred.management.meanings import MEANINGS
from gred.management.units import span

Rows = list[Mapping[str, Any]]


def peers(path: Path, names: list[str], *, as_json: bool) -> int:
    """Print the remotes of the tunnels *names*, or of all, and who sends for none of them."""
    found = _asked(path, "peers", names, "peer", "unknown_sender")
    if isinstance(found, int):
        return found
    known, unknown = found
    if as_json:
        print(json.dumps({"peers": known, "unknown_senders": unknown}, indent=2))
        return int(ExitCode.OK)
    print(*_peers(known), sep="\n")
    if unknown:
        print("", "no tunnel takes what these send:", *_senders(unknown), sep="\n")
    return int(ExitCode.OK)


def drops(path: Path, names: list[str], *, as_json: bool) -> int:
    """Print what the tunnels *names*, or all, have dropped, and what was no tunnel's."""
    found = _asked(path, "drops", names, "drop")
    if isinstance(found, int):
        return found
    (counted,) = found
    if as_json:
        print(json.dumps({"drops": counted}, indent=2))
    else:
        print(*_drops(counted), sep="\n")
    return int(ExitCode.OK)


def _asked(path: Path, command: str, names: list[str], *kinds: str) -> list[Rows] | int:
    """Return what is answered to *command*, a list for each of *kinds*; or the exit code."""
    found: dict[str, Rows] = {kind: [] for kind in kinds}
    try:
        for line in ask(path, command, tunnels=names):
            for kind in kinds:
                if kind in line:
                    found[kind].append(line[kind])
    except (NoAnswerError, RefusedError) as error:
        return complain(error)
    return list(found.values())


# --- for people -----------------------------------------------------------------------------------


def _peers(known: Rows) -> Iterator[str]:
    if not known:
        yield "no remotes"
        return
    yield from _aligned(
        (one["tunnel"], one["remote"], one["inner"] or "-", one["origin"], _ago(one["heard"]))
        for one in known
    )


def _senders(unknown: Rows) -> Iterator[str]:
    for one in unknown:
        key = "no key" if one["key"] is None else f"key {one['key']}"
        protocol = "" if one["protocol"] is None else f", protocol 0x{one['protocol']:04x}"
        yield (
            f"  {one['source']} -> {one['destination']}, {key}{protocol}: {one['reason']},"
            f" seen {one['count']} times, last {span(one['last_seen'])} ago"
        )
        if one["nearest"]:
            yield f"    nearest is {one['nearest']}: {one['differs']}"
        elif one["detail"]:
            yield f"    {one['detail']}"


def _drops(counted: Rows) -> Iterator[str]:
    if not counted:
        yield "nothing was dropped"
        return
    yield from _aligned(
        (
            one["tunnel"] or "(no tunnel)",
            one["direction"],
            str(one["count"]),
            one["reason"],
            MEANINGS.get(one["reason"], ""),
        )
        for one in counted
    )


def _ago(heard: float | None) -> str:
    return "" if heard is None else f"heard {span(heard)} ago"


def _aligned(rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yield *rows* as lines whose columns begin at the same place."""
    table = list(rows)
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()
