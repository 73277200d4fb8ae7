"""A virtual machine that sees this machine's files and runs one command under another kernel.

QEMU boots a kernel with an initramfs made here; the root of the machine is made of directories of
this one, over 9p and read-only, with a tmpfs above them for what is written. `run` takes the whole
of this machine and one command; `boot` another system and its own first process. Knows nothing of
tunnels. Emulation (tcg) unless ``GRED_INTEROP_KVM=1`` asks for KVM: a /dev/kvm that opens may still
hang the guest. ``GRED_GUEST_TIMEOUT`` is the time that it may take, in seconds.
"""

import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.interop import kernel as kernels
from tests.interop.kernel import Kernel

BUSYBOX = Path("/bin/busybox")
TIMEOUT = float(os.environ.get("GRED_GUEST_TIMEOUT") or 1500)
"""Until a machine is given up. Alone on two cores none needs more than 300; they are not alone."""
REPORTS = "/dev/ttyS1"  # lines written here are what run() returns
PROGRAMS = {
    "qemu-system-x86_64": "qemu-system-x86",
    "busybox": "busybox-static",
    "cpio": "cpio",
    "modprobe": "kmod",
    "ethtool": "ethtool",  # in the guest, as the next
    "tc": "iproute2",
}
_MODULES = ("virtio_pci", "9pnet_virtio", "9p", "overlay")
_INIT = """\
#!/bin/busybox sh
busybox() {{ /bin/busybox "$@"; }}
share() {{ busybox mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=262144,cache=loose "$@"; }}
busybox mount -t proc proc /proc
for module in /modules/*; do busybox insmod "$module"; done
busybox mkdir /upper /whole
busybox mount -t tmpfs tmpfs /upper
busybox mkdir /upper/files /upper/work
{mounts}
busybox mount -t devtmpfs dev /whole/dev
exec /bin/busybox switch_root /whole {command}
"""
_SCRIPT = """\
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs run /run
mkdir -p /lib/modules
test {modules} = /lib/modules || mount --bind {modules} /lib/modules
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
cd {directory}
modprobe tun
stty -F {reports} raw
{command} > {reports}
busybox poweroff -f
"""


class MachineError(Exception):
    """The machine did not boot, or did not end in time. The text has what its console showed."""


@dataclass(frozen=True, slots=True)
class Output:
    """What the command printed, and what else the console showed."""

    lines: list[str]
    console: str


def missing() -> str | None:
    """Say what this machine lacks for a virtual one, with the name of the package, or ``None``."""
    for program, package in PROGRAMS.items():
        if shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") is None:
            return f"needs {program} (Debian package {package})"
    if b"/ld-linux" in BUSYBOX.read_bytes():
        return f"needs a {BUSYBOX} that is linked statically (Debian package busybox-static)"
    if os.uname().machine != "x86_64":
        return "needs an x86-64 machine"
    if kernels.find() is None:
        return (
            f"needs a Linux kernel for QEMU (Debian package {kernels.PACKAGE}, unpacked by"
            " `python -m tests.interop.kernel`)"
        )
    return None


def run(kernel: Kernel, command: Sequence[str], *, directory: Path) -> Output:
    """Boot, run *command* in *directory*, power off; return what it wrote. Raises MachineError."""
    script = _script(kernel, command, directory)
    return _boot(kernel, ["/bin/sh", "-c", script], layers=[Path("/")], shares={})


def boot(kernel: Kernel, *, layers: Sequence[Path]) -> Output:
    """Boot a system until it powers off; return what it wrote to REPORTS. Raises MachineError.

    The root is the directories *layers*, the uppermost first, with the kernel's modules in it.
    """
    shares = {"/usr/lib/modules": kernel.root / "lib/modules"}
    return _boot(kernel, ["/sbin/init"], layers=layers, shares=shares)


def _boot(
    kernel: Kernel,
    command: Sequence[str],
    *,
    layers: Sequence[Path],
    shares: Mapping[str, Path],
) -> Output:
    with tempfile.TemporaryDirectory(prefix="gred-machine-") as temporary:
        place = Path(temporary)
        initramfs, reports, console = (place / name for name in ("initramfs", "reports", "console"))
        init = _INIT.format(mounts=_mounts(len(layers), list(shares)), command=shlex.join(command))
        _make_initramfs(kernel, init, place / "tree", initramfs)
        with console.open("wb") as output:
            process = subprocess.Popen(
                _qemu(kernel, initramfs, reports, [*layers, *shares.values()]),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                process_group=0,
            )
        try:
            status = process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            process.kill()
            process.wait()
        reported, shown = (path.read_text(errors="replace") for path in (reports, console))
        if status != 0:
            how = f"exit status {status}" if status else f"not done in {TIMEOUT:g} s"
            raise MachineError(f"QEMU: {how}\n{shown}\nReported until then:\n{reported}")
        return Output(reported.splitlines(), shown)


def _mounts(layers: int, points: Sequence[str]) -> str:
    """Return the commands that mount the first *layers* shares at /whole, the others in it."""
    lower = [f"/lower{number}" for number in range(layers)]
    lines = [f"busybox mkdir {path}; share host{n} {path}" for n, path in enumerate(lower)]
    options = f"lowerdir={':'.join(lower)},upperdir=/upper/files,workdir=/upper/work"
    lines.append(f"busybox mount -t overlay -o {options} root /whole")
    for number, point in enumerate(points, layers):
        path = shlex.quote(f"/whole{point}")
        lines.append(f"busybox mkdir -p {path}; share host{number} {path}")
    return "\n".join(lines)


def _script(kernel: Kernel, command: Sequence[str], directory: Path) -> str:
    return _SCRIPT.format(
        modules=shlex.quote(str(kernel.root / "lib/modules")),
        directory=shlex.quote(str(directory)),
        command=shlex.join(command),
        reports=REPORTS,
    )


def _make_initramfs(kernel: Kernel, text: str, tree: Path, target: Path) -> None:
    """Pack busybox, the modules that reach the root file system, and *text* as /init."""
    for name in ("bin", "dev", "proc", "modules"):
        (tree / name).mkdir(parents=True)
    shutil.copy(BUSYBOX, tree / "bin/busybox")
    for number, path in enumerate(kernel.modules(*_MODULES)):
        name = path.name.partition(".")[0]
        (tree / f"modules/{number:02}-{name}.ko").write_bytes(kernels.read_module(path))
    init = tree / "init"
    init.write_text(text)
    init.chmod(0o755)
    names = "\n".join(str(path.relative_to(tree)) for path in sorted(tree.rglob("*")))
    with target.open("wb") as packed:
        pack = ["cpio", "--quiet", "-o", "-H", "newc"]
        subprocess.run(pack, cwd=tree, input=names.encode(), stdout=packed, check=True)


def _qemu(kernel: Kernel, initramfs: Path, reports: Path, shared: Sequence[Path]) -> list[str]:
    kvm = os.environ.get("GRED_INTEROP_KVM") == "1"
    accelerator = ["-accel", "kvm", "-cpu", "host"] if kvm else ["-accel", "tcg,thread=multi"]
    if not kvm:
        accelerator += ["-cpu", "max"]
    shares = []
    for number, path in enumerate(shared):
        options = "security_model=none,readonly=on,multidevs=remap"
        shares += ["-fsdev", f"local,id=host{number},path={path},{options}"]
        shares += ["-device", f"virtio-9p-pci,fsdev=host{number},mount_tag=host{number}"]
    return [
        "qemu-system-x86_64", *accelerator, "-m", "2048", "-smp", "2",
        "-nodefaults", "-nographic", "-no-reboot",
        "-serial", "stdio", "-serial", f"file:{reports}",
        "-kernel", str(kernel.image), "-initrd", str(initramfs),
        "-append", "console=ttyS0 panic=-1 quiet no_timer_check",
        *shares,
    ]  # fmt: skip
