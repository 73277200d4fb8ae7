"""nft(8) on a host of the laboratory."""

import subprocess

from gred.lab.hosts import Host
from tests import require


def nft(host: Host, *lines: str) -> str:
    """Have *lines* done in one transaction; return what was printed."""
    path = require.program("nft", package="nftables")
    command = ["ip", "netns", "exec", host.namespace, path, "-f", "-"]
    text = "\n".join(lines)
    done = subprocess.run(command, input=text, text=True, check=True, capture_output=True)
    return done.stdout
