"""Makes, once, a small system with systemd that a virtual machine can boot. Boots nothing.

    python -m tests.systemd.root

unpacks it with debootstrap, from the mirror that this machine's apt uses and in the release that
this machine has, into a cache directory: ``$GRED_ROOT_CACHE``, or ``~/.cache/gred/root``. Beside
it, in ``wheels``, is what pip needs to install gred there without a network. Needs root.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path

import tests

# A minimal system, what README asks for, and what the checks use.
PACKAGES = (
    *("systemd-sysv", "dbus", "udev", "kmod", "procps"),
    *("python3", "python3-venv", "python3-dev", "gcc", "libc6-dev", "make", "iproute2"),
    *("iputils-ping", "nftables", "iptables", "frr", "iperf3"),
)
_REPOSITORY = Path(tests.__file__).parents[1]
_RECIPE = "recipe.json"  # what the root was made of; another recipe makes it anew


@dataclass(frozen=True, slots=True)
class Root:
    """The directory of a whole system, and one with the wheels that gred depends on."""

    tree: Path
    wheels: Path


def cache() -> Path:
    """Return the directory that has system and wheels. It may not exist."""
    return Path(os.environ.get("GRED_ROOT_CACHE") or Path.home() / ".cache/gred/root")


def find() -> Root | None:
    """Return the system that was made, unless it was made of something else than now."""
    recipe = cache() / _RECIPE
    if not recipe.exists() or json.loads(recipe.read_text()) != _recipe():
        return None
    return Root(cache() / "tree", cache() / "wheels")


def missing() -> str | None:
    """Say what this machine lacks for a system to boot, with the name of the package."""
    if find() is not None:
        return None
    return (
        "needs a small system to boot"
        " (Debian package debootstrap, then `python -m tests.systemd.root` as root)"
    )


def make() -> Root:
    """Make the system. Needs root, debootstrap, and pip's way to its packages.

    Raises subprocess.CalledProcessError when one of them fails.
    """
    cache().parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache().parent) as temporary:
        place = Path(temporary) / "root"
        place.mkdir()
        _debootstrap(place / "tree")
        _download(place / "tree", place / "wheels")
        (place / _RECIPE).write_text(json.dumps(_recipe()))
        if cache().exists():
            shutil.rmtree(cache())
        place.rename(cache())
    root = find()
    assert root is not None
    return root


def _recipe() -> dict[str, list[str]]:
    return {"packages": sorted(PACKAGES), "wheels": sorted(_requirements())}


def _requirements() -> list[str]:
    """Return what pip installs with gred: dependencies, and what builds it."""
    project = tomllib.loads((_REPOSITORY / "pyproject.toml").read_text())
    return [*project["project"]["dependencies"], *project["build-system"]["requires"]]


def _debootstrap(tree: Path) -> None:
    """Unpack the system; in a mount namespace, so that no mount in it outlives this process."""
    codename, mirror = _mirror()
    command = [
        *("debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}"),
        *(codename, str(tree), mirror),
    ]
    done = subprocess.run(
        ["unshare", "--mount", *command],
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode != 0:
        log = tree / "debootstrap/debootstrap.log"
        sys.stderr.write(done.stdout + (log.read_text(errors="replace") if log.exists() else ""))
        done.check_returncode()
    shutil.rmtree(tree / "var/cache/apt/archives")


def _mirror() -> tuple[str, str]:
    """Return this machine's release and where its apt finds that. Raises ValueError."""
    release = dict(
        line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if line
    )
    codename = release.get("VERSION_CODENAME", "").strip('"')
    targets = subprocess.check_output(
        [
            *("apt-get", "indextargets", "--format", "$(CODENAME) $(COMPONENT) $(REPO_URI)"),
            *("Created-By: Packages",),
        ],
        text=True,
    )
    for target in targets.splitlines():
        name, component, mirror = target.split(" ", 2)
        if name == codename and component == "main":
            return codename, mirror
    raise ValueError(f"apt has no source for {codename}, or was not updated: apt-get update")


def _download(tree: Path, wheels: Path) -> None:
    """Fetch wheels for the system's Python, which may be another than this one."""
    version = next((tree / "usr/lib").glob("python3.*")).name.removeprefix("python")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "download"]
    options = ["--only-binary=:all:", "--python-version", version, "--dest", str(wheels)]
    subprocess.run([*pip, *options, *_requirements()], check=True)


def main() -> int:
    """Make the system, unless that was done before."""
    root = find() or make()
    print(root.tree)  # noqa: T201 - a command
    return 0


if __name__ == "__main__":
    sys.exit(main())
