"""The house's one-way streets: management -> control -> dataplane -> wire.

config and lab stand alone; of the planes only the demonstration knows the laboratory.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import gred

PACKAGE = Path(gred.__file__).parent

MAY_IMPORT = {
    "wire": {"wire"},
    "config": {"config"},
    "dataplane": {"dataplane", "wire"},
    "control": {"control", "dataplane", "wire", "config"},
    "management": {"management", "control", "dataplane", "wire", "config"},
    "lab": {"lab"},
}

# Formats are pure: what could reach a socket, a clock, a file, a log or another process.
IMPURE = {
    *("asyncio", "fcntl", "io", "logging", "mmap", "multiprocessing", "os", "pathlib", "random"),
    *("secrets", "select", "selectors", "shutil", "signal", "socket", "ssl", "structlog"),
    *("subprocess", "sys", "syslog", "tempfile", "termios", "threading", "time", "uvloop"),
}

# What may be imported besides, by one module alone.
ALSO = {"gred.management.demo": {"lab"}}

# Where a third party's package may be imported: a plane, or one module of it.
AT_HOME = {
    "iniconfig": "gred.config",
    "pytun": "gred.dataplane",
    "pyroute2": "gred.control.kernel.messages",
    "scapy": "gred.management.decode",
    "structlog": "gred.management",
    "uvloop": "gred.management",
}

# Paid for only when asked for: never when the module is imported.
LAZY = {"scapy", "uvloop"}


@dataclass(frozen=True)
class Import:
    name: str
    line: int
    at_module_level: bool


def imports(source: str, module: str, *, is_package: bool = False) -> Iterator[Import]:
    """Every import in *source* by its absolute dotted name, those in functions too."""
    yield from _imports(ast.parse(source), module, is_package=is_package, at_module_level=True)


def _imports(
    node: ast.AST, module: str, *, is_package: bool, at_module_level: bool
) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        inner = at_module_level and not isinstance(
            child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
        )
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(alias.name, child.lineno, at_module_level)
        elif isinstance(child, ast.ImportFrom):
            base = _absolute(child, module, is_package=is_package)
            for alias in child.names:
                yield Import(f"{base}.{alias.name}", child.lineno, at_module_level)
        else:
            yield from _imports(child, module, is_package=is_package, at_module_level=inner)


def _absolute(node: ast.ImportFrom, module: str, *, is_package: bool) -> str:
    if not node.level:
        return node.module or ""
    parts = module.split(".")
    kept = parts[: len(parts) - node.level + is_package]
    return ".".join([*kept, *([node.module] if node.module else [])])


def plane_of(name: str) -> str | None:
    """The plane that a dotted name is in; None for the package itself and for other packages."""
    parts = name.split(".")
    return parts[1] if parts[0] == "gred" and len(parts) > 1 and parts[1] in MAY_IMPORT else None


def is_within(name: str, home: str) -> bool:
    return name == home or name.startswith(home + ".")


def offences(source: str, module: str, *, is_package: bool = False) -> list[str]:
    """What *source*, as the text of *module*, imports and may not."""
    plane = plane_of(module)
    known = MAY_IMPORT.get(plane or "", set()) | ALSO.get(module, set())
    found = []
    for item in imports(source, module, is_package=is_package):
        top = item.name.split(".", 1)[0]
        target = plane_of(item.name)
        if plane and target and target not in known:
            found.append(f"line {item.line}: {plane} imports {item.name}")
        if plane is None and target not in {None, "management"}:
            found.append(f"line {item.line}: the package itself imports {item.name}")
        if plane == "wire" and top in IMPURE:
            found.append(f"line {item.line}: wire is pure and imports {top}")
        if top in AT_HOME and not is_within(module, AT_HOME[top]):
            found.append(f"line {item.line}: {top} is imported outside {AT_HOME[top]}")
        if top in LAZY and item.at_module_level:
            found.append(f"line {item.line}: {top} is imported before it is asked for")
    return found


# All that the room of the kernel has from the rest of control: errors in words, and arithmetic.
KERNEL_MAY_IMPORT = ("errors", "mtu", "path_mtu")


def kernel_offences(source: str, module: str, *, is_package: bool = False) -> list[str]:
    """What the text of a *module* of control.kernel imports of control and may not."""
    allowed = ["gred.control.kernel", *(f"gred.control.{name}" for name in KERNEL_MAY_IMPORT)]
    return [
        f"line {item.line}: control.kernel imports {item.name}"
        for item in imports(source, module, is_package=is_package)
        if is_within(item.name, "gred.control")
        and not any(is_within(item.name, home) for home in allowed)
    ]


def module_name(path: Path) -> str:
    parts = ["gred", *path.relative_to(PACKAGE).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=module_name)
def test_no_import_points_the_wrong_way(path: Path) -> None:
    found = offences(
        path.read_text(encoding="utf-8"), module_name(path), is_package=path.name == "__init__.py"
    )
    assert found == []


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("control/kernel/*.py")), ids=module_name)
def test_the_room_of_the_kernel_knows_no_tunnel(path: Path) -> None:
    found = kernel_offences(
        path.read_text(encoding="utf-8"), module_name(path), is_package=path.name == "__init__.py"
    )
    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        "from gred.control.tunnel import Tunnel",
        "from gred.control import daemon",
        "from .. import receivers",
        "if TYPE_CHECKING:\n    from gred.control.parts import Event",
        "def f():\n    import gred.control.survey",
    ],
)
def test_a_tunnel_in_the_room_of_the_kernel_is_seen(source: str) -> None:
    assert kernel_offences(source, "gred.control.kernel.netlink")


def test_what_the_room_of_the_kernel_may_import_passes() -> None:
    source = "from gred.control.kernel import dumps\nfrom gred.control.errors import words\n"
    assert kernel_offences(source, "gred.control.kernel.netlink") == []


def test_every_directory_of_the_package_is_a_known_plane() -> None:
    packages = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert packages == set(MAY_IMPORT)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("gred.wire.gre", "from gred.dataplane import tunnels"),
        ("gred.wire.gre", "from ..config import model"),
        ("gred.wire.gre", "import socket"),
        ("gred.wire.gre", "from time import monotonic"),
        ("gred.config.model", "import gred.wire.drop"),
        ("gred.dataplane.forwarder", "from gred.control.tunnel import Tunnel"),
        ("gred.dataplane.forwarder", "from gred import control"),
        ("gred.dataplane.forwarder", "def f():\n    import gred.config.model"),
        ("gred.control.daemon", "from gred.management import logs"),
        ("gred.control.daemon", "if TYPE_CHECKING:\n    import structlog"),
        ("gred.control.tunnel", "import pyroute2"),
        ("gred.lab.traffic", "def f():\n    from scapy.layers import inet"),
        ("gred.lab.daemon", "from gred.config import load"),
        ("gred.management.check", "from gred.lab.hosts import Lab"),
        ("gred.control.daemon", "from gred.lab.hosts import Lab"),
        ("gred.management.decode", "from scapy.layers import inet"),
        ("gred.__main__", "from gred.control import daemon"),
    ],
)
def test_a_wrong_arrow_is_seen(module: str, source: str) -> None:
    assert offences(source, module)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("gred.wire.gre", "import struct\nfrom . import checksum"),
        ("gred.dataplane.forwarder", "import asyncio\nfrom gred.wire.drop import DropReason"),
        ("gred.control.kernel.messages", "import pyroute2"),
        ("gred.control.daemon", "from gred.config import load"),
        ("gred.management.decode", "def f():\n    from scapy.layers import inet"),
        ("gred.management.cli", "from gred import __version__"),
        ("gred.management.demo", "from gred.lab.hosts import Lab"),
        ("gred.lab.daemon", "import gred\nfrom gred.lab.hosts import Host"),
    ],
)
def test_a_right_arrow_passes(module: str, source: str) -> None:
    assert offences(source, module) == []
