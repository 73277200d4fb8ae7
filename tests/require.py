"""What a test needs of the machine. A lack is a skip that names its remedy, or a failure in CI."""

import os
import shutil
from pathlib import Path

import pytest


def lacks(reason: str) -> None:
    """Skip, or fail where everything is required."""
    if os.environ.get("GRED_REQUIRE_ALL") == "1":
        pytest.fail(f"{reason} (GRED_REQUIRE_ALL=1 makes a skip a failure)")
    pytest.skip(reason)


def root() -> None:
    """Skip unless the test may make network namespaces."""
    if os.geteuid() != 0:
        lacks("needs root")


def tun() -> None:
    """Skip unless /dev/net/tun is there."""
    if not Path("/dev/net/tun").exists():
        lacks("needs /dev/net/tun (module tun)")


def program(name: str, *, package: str) -> str:
    """Return the path of *name*, or skip with the Debian *package* that has it."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin:/usr/lib/frr")
    if found is None:
        lacks(f"needs {name} (Debian package {package})")
        raise AssertionError
    return found


def extension() -> None:
    """Skip unless the C extension was built."""
    try:
        from gred.dataplane import _codec, _io  # noqa: F401
    except ImportError:
        lacks("needs the C extension (Debian packages gcc and python3-dev, then `make venv`)")
