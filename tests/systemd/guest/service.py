"""The service as the checks have it: with more configuration, started anew, waited for.

Nothing here judges what a check is about.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.systemd.guest.system import (
    CONFIGURATION,
    DROP_INS,
    OUTER,
    TUNNEL,
    UNIT,
    log,
    messages,
    run,
    show,
)


def details(event: str) -> list[str]:
    """Return the details of the lines of one *event* in the last run, in their order."""
    return [str(entry.get("GRED_DETAIL", "")) for entry in log(f"GRED_EVENT={event}")]


def until(condition: Callable[[], bool], seconds: float = 180.0) -> None:
    """Wait until *condition* holds, for *seconds* at most: emulated, everything takes its time."""
    deadline = time.monotonic() + seconds
    while not condition():
        addresses = run("ip", "address", "show", "dev", "tunnel", check=False)
        assert time.monotonic() < deadline, f"never\n{addresses}\n{messages()}"
        time.sleep(0.2)


@contextlib.contextmanager
def drop_in(text: str, *, mode: int = 0o644) -> Iterator[Path]:
    """Have one more file of configuration."""
    path = DROP_INS / "zz-check.conf"
    path.write_text(text)
    path.chmod(mode)
    try:
        yield path
    finally:
        path.unlink()


@contextlib.contextmanager
def configured(
    text: str = "", *, tunnel: str = "", remote: str = OUTER["peer"], wait: bool = True
) -> Iterator[None]:
    """Reload with other lines: *text* before the tunnel, *tunnel* in it, another *remote*.

    *wait* until it is up. Afterwards it is as it was, and up.
    """
    before = CONFIGURATION.read_text()
    changed = TUNNEL.replace(f"Remote={OUTER['peer']}", f"Remote={remote}")
    try:
        _reload(f"{text}{changed}{tunnel}", wait=wait)
        yield
    finally:
        _reload(before, wait=True)


def _reload(text: str, *, wait: bool) -> None:
    CONFIGURATION.write_text(text)
    run("systemctl", "reload", UNIT)
    if wait:
        until(lambda: "1 tunnel: 1 up" in show("StatusText"))


def starts() -> str:
    """Restart the service; return how long it took until it was ready, and of which CPU time."""
    run("systemctl", "reset-failed", UNIT, check=False)
    run("systemctl", "stop", UNIT)
    began = time.monotonic()
    done = run("systemctl", "start", UNIT, check=False)
    seconds = time.monotonic() - began
    assert show("ActiveState") == "active", f"{done}\n{messages()}"
    cpu = int(show("CPUUsageNSec")) / 1e9
    return f"{seconds:.1f} s ({cpu:.1f} s CPU)"


def interface() -> tuple[str, str]:
    """Return the index of the tunnel's interface, and all addresses and routes."""
    index = Path("/sys/class/net/tunnel/ifindex").read_text()
    return index, run("ip", "-oneline", "address", "show", "tunnel") + run("ip", "route")
