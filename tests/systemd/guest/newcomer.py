"""The way of somebody new to gred, by the very lines of README, typed in a shell.

One function for each cell, by its name, as in checks.
"""

import contextlib
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.systemd import readme
from tests.systemd.guest.service import starts, until
from tests.systemd.guest.system import CONFIGURATION, UNIT, messages, pings, run, show

_SECTION = "How it is"
_OUTER = {"gred": "192.168.1.10", "peer": "192.168.1.13"}
_INNER = {"gred": "10.1.2.1", "peer": "10.1.2.2"}
_INTERFACE = Path("/sys/class/net/Tunnel-1/ifindex")
_PEER = ("ip", "-n", "peer")
_ENDS = ("local", _OUTER["peer"], "remote", _OUTER["gred"], "ttl", "64")
# Who types them ends a ping with Ctrl-C, and sees where something fails.
_SHELL = 'set -eux\nping() { command ping -n -c 3 -W 60 "$@"; }\n'


def a_newcomer_finds_the_way() -> str:
    """From an installed gred to a key that is changed; what is before was done to install it."""
    asking, path = readme.sections()[_SECTION]
    assert path.commands[0].startswith("apt install "), path
    assert path.commands[1] == "make install", path
    assert len(path.commands) < 25, path
    reload = path.commands.index("systemctl reload gred")
    with _other_end():
        said = _type(path.commands[2:reload])
        assert " 0% packet loss" in said, said
        index = _INTERFACE.read_text()
        *typed, last = path.commands[reload:]
        _type(typed)
        told = []

        def refused() -> bool:
            pings(_INNER["gred"], count=1, namespace="peer")
            told.append(" ".join(run(*last.split(), check=False).split()))
            return told[-1].startswith("Tunnel-1: mismatch")

        until(refused)
        assert "sends no key, and this end expects key 7: Key=7 there" in told[-1], told
        run(*_PEER, "link", "set", "newcomer", "type", "gre", *_ENDS, "key", "7")
        assert pings(_INNER["peer"], count=3) == 3, messages()
        until(lambda: "1 up" in show("StatusText"))
        assert _INTERFACE.read_text() == index
        *statuses, followed = asking.commands
        assert _type(statuses).count("Tunnel-1") > 1
        with subprocess.Popen(followed.split(), stdout=subprocess.PIPE, text=True) as events:
            assert events.stdout is not None
            line = events.stdout.readline()
            events.terminate()
        assert line.strip(), "no event"
    return told[-1]


def _type(commands: Sequence[str]) -> str:
    done = subprocess.run(
        ["/bin/bash", "-c", _SHELL + "\n".join(commands)],
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, f"{done.stdout}\n{messages()}"
    return done.stdout


@contextlib.contextmanager
def _other_end() -> Iterator[None]:
    """Have the networks of README, the kernel's GRE at the other end, and gred off."""
    before = CONFIGURATION.read_text()
    run("systemctl", "disable", "--now", UNIT)
    run("ip", "address", "add", f"{_OUTER['gred']}/24", "dev", "under")
    run(*_PEER, "address", "add", f"{_OUTER['peer']}/24", "dev", "under")
    run(*_PEER, "link", "add", "newcomer", "type", "gre", *_ENDS)
    run(*_PEER, "address", "add", f"{_INNER['peer']}/24", "dev", "newcomer")
    run(*_PEER, "link", "set", "newcomer", "up")
    try:
        yield
    finally:
        run(*_PEER, "link", "delete", "newcomer")
        run(*_PEER, "address", "delete", f"{_OUTER['peer']}/24", "dev", "under")
        run("ip", "address", "delete", f"{_OUTER['gred']}/24", "dev", "under")
        CONFIGURATION.write_text(before)
        starts()
