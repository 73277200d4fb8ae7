"""The command ``gred show``: the other end of one configured tunnel on stdout, notes on stderr."""

import sys
from pathlib import Path

from gred.config import ConfigurationError, TunnelConfig, load, render_tunnel
from gred.config.problems import escape, suggest
from gred.control.errors import ExitCode
from gred.management.logs import complain
from gred.management.show import cisco, ip, mikrotik, networkd
from gred.management.show.mirror import mirror
from gred.management.show.writing import NoFormError, Page, Writer

FORMS: dict[str, Writer] = {
    "gred": lambda tunnel, page: page.add(*render_tunnel(tunnel).splitlines()),
    "ip": ip.write,
    "networkd": networkd.write,
    "cisco": cisco.write,
    "mikrotik": mikrotik.write,
}


def run(path: Path, name: str, form: str) -> int:
    """Print what the other end of the tunnel *name* in *path* must configure."""
    try:
        tunnels = {tunnel.name: tunnel for tunnel in load(path).tunnels}
    except ConfigurationError as error:
        for problem in error.problems:
            complain(str(problem))
        return int(ExitCode.BAD_CONFIGURATION)
    if name not in tunnels:
        complain(f"gred show: no tunnel {escape(name)} in {path}; {_instead(name, tunnels)}")
        return int(ExitCode.FAILURE)
    try:
        text, notes = of_tunnel(tunnels[name], form)
    except NoFormError as error:
        complain(f"gred show: {error}")
        return int(ExitCode.FAILURE)
    print(text, end="")
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    return int(ExitCode.OK)


def of_tunnel(tunnel: TunnelConfig, form: str) -> tuple[str, list[str]]:
    """Return the other end of *tunnel* in a *form* of FORMS, and the notes that stand in it.

    Raises NoFormError where that system has no such tunnel.
    """
    other = mirror(tunnel)
    page = Page(notes=[*other.notes])
    FORMS[form](other.tunnel, page)
    return page.text("!" if form == "cisco" else "#"), page.notes


def _instead(name: str, tunnels: dict[str, TunnelConfig]) -> str:
    if likely := suggest(name, tunnels):
        return f"did you mean {likely}?"
    return f"it has {', '.join(tunnels)}" if tunnels else "it has none"
