"""Finds or fetches a Linux kernel with its modules. Boots and installs nothing.

    python -m tests.interop.kernel

downloads Debian's kernel package with apt-get and unpacks what the tests need of it into a cache
directory: ``$GRED_KERNEL_CACHE``, or ``~/.cache/gred/kernel``. Where nothing was fetched, a kernel
that this machine has installed with the GRE modules will do.
"""

import lzma
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

PACKAGE = "linux-image-amd64"
_WANTED = (
    "./boot/vmlinuz-*",
    "./lib/modules/*/modules.*",
    "./lib/modules/*/kernel/arch/x86/crypto/*",
    "./lib/modules/*/kernel/crypto/*",
    "./lib/modules/*/kernel/drivers/net/tun.ko*",
    "./lib/modules/*/kernel/drivers/net/veth.ko*",
    "./lib/modules/*/kernel/drivers/net/vrf.ko*",
    "./lib/modules/*/kernel/drivers/virtio/*",
    "./lib/modules/*/kernel/fs/9p/*",
    "./lib/modules/*/kernel/fs/fscache/*",
    "./lib/modules/*/kernel/fs/netfs/*",
    "./lib/modules/*/kernel/fs/overlayfs/*",
    "./lib/modules/*/kernel/lib/*",
    "./lib/modules/*/kernel/net/*",
)


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel image, and the directory that has its modules in ``lib/modules``."""

    image: Path
    root: Path
    release: str

    def modules(self, *names: str) -> list[Path]:
        """Return the files of the modules *names* and of what they need, in the order to load."""
        found: dict[Path, None] = {}
        for name in names:
            command = ["modprobe", "-d", str(self.root), "-S", self.release, "--show-depends", name]
            for line in subprocess.check_output(command, text=True).splitlines():
                if line.startswith("insmod "):  # not "builtin"
                    found[Path(line.split()[1])] = None
        return list(found)


def cache() -> Path:
    """Return the directory for the kernel that was fetched. It may not exist."""
    fallback = Path.home() / ".cache/gred/kernel"
    return Path(os.environ.get("GRED_KERNEL_CACHE") or fallback)


def find() -> Kernel | None:
    """Return the kernel that was fetched, or else the newest installed one that knows GRE."""
    for root in (cache(), Path("/")):
        images = sorted((root / "boot").glob("vmlinuz-*"), key=_age, reverse=True)
        for image in images:
            release = image.name.removeprefix("vmlinuz-")
            modules = root / "lib/modules" / release
            if next(modules.glob("kernel/net/ipv4/ip_gre.ko*"), None) and os.access(image, os.R_OK):
                return Kernel(image, root, release)
    return None


def read_module(path: Path) -> bytes:
    """Return a module as busybox can load it. Raises ValueError for a compression it cannot."""
    match path.suffix:
        case ".ko":
            return path.read_bytes()
        case ".xz":
            return lzma.decompress(path.read_bytes())
        case ".zst":
            return subprocess.check_output(["zstd", "-dcq", path])
    raise ValueError(f"cannot decompress {path}")


def fetch() -> Kernel:
    """Download the kernel package and unpack it into the cache. Needs apt-get, dpkg and kmod.

    Raises subprocess.CalledProcessError when one of them fails.
    """
    depends = subprocess.check_output(["apt-cache", "depends", PACKAGE], text=True)
    found = re.search(r"Depends: (linux-image-\S+)", depends)
    if found is None:
        raise ValueError(f"{PACKAGE} depends on no linux-image package: run apt-get update")
    release = found[1].removeprefix("linux-image-")
    target = cache()
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as temporary:
        directory = Path(temporary)
        subprocess.run(["apt-get", "-qq", "download", found[1]], cwd=directory, check=True)
        package = next(directory.glob("*.deb"))
        unpacked = directory / "root"
        unpacked.mkdir()
        with subprocess.Popen(["dpkg", "--fsys-tarfile", package], stdout=subprocess.PIPE) as tar:
            command = ["tar", "-x", "-C", str(unpacked), "--wildcards", *_WANTED]
            subprocess.run(command, stdin=tar.stdout, check=True)
        subprocess.run(["depmod", "-b", unpacked, release], check=True)
        if target.exists():
            shutil.rmtree(target)
        unpacked.rename(target)
    kernel = find()
    if kernel is None or kernel.root != target:
        raise ValueError(f"{found[1]} has no GRE module")
    return kernel


def _age(image: Path) -> tuple[int, ...]:
    """Sort 6.9 before 6.12."""
    return tuple(int(number) for number in re.findall(r"\d+", image.name))


def main() -> int:
    """Fetch, unless that was done before."""
    kernel = find()
    if kernel is None or kernel.root != cache():
        kernel = fetch()
    print(f"{kernel.image} ({kernel.release})")  # noqa: T201 - a command
    return 0


if __name__ == "__main__":
    sys.exit(main())
