"""Who else says that it configures an interface, by the files in which network managers say so.

Asks nobody: neither manager needs to answer. Files that cannot be read say nothing.
"""

from collections.abc import Iterator
from pathlib import Path

# Of systemd-networkd, see sd-network(3), and of NetworkManager: one file for each interface index.
NETWORKD, NETWORK_MANAGER = Path("/run/systemd/netif/links"), Path("/run/NetworkManager/devices")


def manager(index: int) -> str:
    """Return who configures interface *index* of this network namespace, and by which file.

    Empty where nobody says so.
    """
    networkd = dict(_pairs(NETWORKD / str(index)))
    if file := networkd.get("NETWORK_FILE"):
        return f"systemd-networkd ({file})"
    if dict(_pairs(NETWORK_MANAGER / str(index))).get("managed") == "true":
        return "NetworkManager"
    return ""


def _pairs(path: Path) -> Iterator[tuple[str, str]]:
    try:
        text = path.read_text(errors="replace")
    except OSError:
        return
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        if equals:
            yield name.strip(), value.strip()
