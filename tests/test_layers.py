"""The house's one-way streets: management -> control -> dataplane -> wire.

config and lab stand alone; of the planes only the demonstration knows the laboratory.
Inside a plane, too, no way leads back: of two modules at most one knows the other.
"""

import ast
import tomllib
from collections import deque
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
    "prometheus_client": "gred.management.metrics.families",
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


def module_name(path: Path, package: Path = PACKAGE) -> str:
    parts = ["gred", *path.relative_to(package).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def ties(package: Path) -> dict[str, set[str]]:
    """Which modules of *package* each of its modules names, for types and in functions, too.

    That a module's package runs before it is no tie: a package may offer what its modules have.
    """
    paths = [path for ending in ("py", "pyi") for path in package.rglob(f"*.{ending}")]
    files = {module_name(path, package): path for path in paths}
    found: dict[str, set[str]] = {}
    for module, path in files.items():
        source, is_package = path.read_text(encoding="utf-8"), path.stem == "__init__"
        named = {item.name for item in imports(source, module, is_package=is_package)}
        found[module] = {_module(name, files) for name in named} & files.keys() - {module}
    return found


def _module(name: str, files: dict[str, Path]) -> str:
    """The module that a dotted name is or is in; empty for those of other packages."""
    while name and name not in files:
        name = name.rpartition(".")[0]
    return name


def circles(tied: dict[str, set[str]]) -> list[str]:
    """The shortest way from each module back to itself, where there is one; each circle once."""
    found: dict[frozenset[str], str] = {}
    for start in sorted(tied):
        before: dict[str, str] = {}
        queue = deque([start])
        while queue and start not in before:
            module = queue.popleft()
            for target in sorted(tied[module] - before.keys()):
                before[target] = module
                queue.append(target)
        if start in before:
            way = [start, before[start]]
            while way[-1] != start:
                way.append(before[way[-1]])
            found.setdefault(frozenset(way), " -> ".join(reversed(way)))
    return list(found.values())


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
        "if TYPE_CHECKING:\n    from gred.control.events import Event",
        "def f():\n    import gred.control.survey",
    ],
)
def test_a_tunnel_in_the_room_of_the_kernel_is_seen(source: str) -> None:
    assert kernel_offences(source, "gred.control.kernel.netlink")


def test_what_the_room_of_the_kernel_may_import_passes() -> None:
    source = "from gred.control.kernel import dumps\nfrom gred.control.errors import words\n"
    assert kernel_offences(source, "gred.control.kernel.netlink") == []


def test_no_modules_go_in_circles() -> None:
    tied = ties(PACKAGE)
    assert {"gred.dataplane.batch", "gred.dataplane.codec"} <= tied["gred.dataplane.egress"]
    assert circles(tied) == []


@pytest.mark.parametrize(
    ("tree", "circle"),
    [
        (
            {
                "dataplane/a.py": "from gred.dataplane.b import B",
                "dataplane/b.py": "if TYPE_CHECKING:\n    from gred.dataplane.a import A",
            },
            "gred.dataplane.a -> gred.dataplane.b -> gred.dataplane.a",
        ),
        (
            {
                "control/a.py": "from gred.control import c",
                "control/b.py": "def f():\n    from . import a",
                "control/c/__init__.py": "from gred.control.b import B",
                "control/d.py": "from gred.control import a",
            },
            "gred.control.a -> gred.control.c -> gred.control.b -> gred.control.a",
        ),
        (
            {"config/__init__.py": "from .a import A", "config/a.py": "from gred.config import A"},
            "gred.config -> gred.config.a -> gred.config",
        ),
        (
            {"wire/a.py": "from gred.wire import b", "wire/b.pyi": "import gred.wire.a"},
            "gred.wire.a -> gred.wire.b -> gred.wire.a",
        ),
    ],
)
def test_a_circle_is_seen(tmp_path: Path, tree: dict[str, str], circle: str) -> None:
    plant(tmp_path, tree)
    assert circles(ties(tmp_path)) == [circle]


def test_what_meets_again_below_is_no_circle(tmp_path: Path) -> None:
    tree = {
        "wire/__init__.py": "from gred.wire.a import A",
        "wire/a.py": "from gred.wire import b, c",
        "wire/b.py": "from gred.wire.d import D",
        "wire/c.py": "from gred.wire.d import D\nimport struct",
        "wire/d.py": "import gred",
    }
    plant(tmp_path, tree)
    assert circles(ties(tmp_path)) == []


def plant(package: Path, tree: dict[str, str]) -> None:
    """Write a made-up package: its files by their path."""
    for name, source in tree.items():
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source, encoding="utf-8")


# The twins of the extensions, and the only ones who may choose them.
DOORS = {"gred.dataplane.codec", "gred.dataplane.io"}


def test_only_the_doors_lead_to_the_pure_twins() -> None:
    """What is used beside the extension does not live in a file called pure."""
    pure = {module for module in ties(PACKAGE) if module.rpartition(".")[2].startswith("pure_")}
    users = {module for module, names in ties(PACKAGE).items() if names & pure}
    assert pure
    assert users - pure == DOORS


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
        ("gred.dataplane.plane", "from gred.control.tunnel import Tunnel"),
        ("gred.dataplane.plane", "from gred import control"),
        ("gred.dataplane.plane", "def f():\n    import gred.config.model"),
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
        ("gred.dataplane.plane", "import asyncio\nfrom gred.wire.drop import DropReason"),
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


def test_every_package_is_installed() -> None:
    """Those that pyproject.toml forgets are missed only where gred is installed."""
    told = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8"))
    listed = set(told["tool"]["setuptools"]["packages"])
    there = {
        str(path.parent.relative_to(PACKAGE.parent)).replace("/", ".")
        for path in PACKAGE.rglob("__init__.py")
    }
    assert listed == there
