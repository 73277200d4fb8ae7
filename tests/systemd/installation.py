"""Installs gred in a fresh system by the very lines of README, as root in a chroot. Boots nothing.

What is written goes into a directory of its own above the system, which stays as it was. The
commands have no network: a cached directory has what pip asks for.
"""

import shlex
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import tests
from tests.systemd import readme
from tests.systemd.root import Root

REPOSITORY = Path(tests.__file__).parents[1]
SOURCE = Path("/usr/local/src/gred")
_WHEELS = Path("/mnt/wheels")
_SHIMS = Path("/mnt/shims")
# Nothing of the system runs yet: what is enabled is started at boot. There is no network: what is
# to be installed must be there, but for git, which fetches what is here already.
_PROGRAMS = {
    "apt": 'test "$1" = install; shift\n'
    'for name in "$@"; do test "$name" = git || dpkg-query --show "$name"; done',
    "systemctl": 'test "$1 $2" != "enable --now" || { shift 2; set -- enable "$@"; }\n'
    'exec /usr/bin/systemctl "$@"',
}
# Mounts are made in a namespace and go with it, as do the processes.
_SCRIPT = """\
set -eu
umask 077  # as careful administrators have it
mount --make-rprivate /
mount -t overlay -o lowerdir={lower},upperdir={upper},workdir={work} root {whole}
mount -t proc proc {whole}/proc
mount --bind /dev {whole}/dev
mkdir -p {whole}{wheels} {whole}{shims}
mount --bind {cached} {whole}{wheels}
mount --bind {programs} {whole}{shims}
exec env -i PATH={shims}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root \\
    LANG=C.UTF-8 SYSTEMD_OFFLINE=1 PIP_NO_INDEX=1 PIP_FIND_LINKS={wheels} \\
    chroot {whole} /bin/sh -eux -c {commands}
"""


class InstallationError(Exception):
    """A command failed. The text has what was run and printed."""


def service_lines() -> list[str]:
    """Return the commands of README's section about the service."""
    return readme.commands("As a service")


def run(root: Root, upper: Path, commands: Sequence[str], *, below: Sequence[Path] = ()) -> str:
    """Run *commands* in gred's source, in *root*; return what they printed.

    What they write goes to *upper*, beside which is room for more; *below* are directories that
    others wrote, the uppermost first. Raises InstallationError.
    """
    work, whole, shims = (upper.with_name(name) for name in ("work", "whole", "shims"))
    for path in (upper, work, whole, shims):
        path.mkdir(exist_ok=True)
    for name, text in _PROGRAMS.items():
        (shims / name).write_text(f"#!/bin/sh -e\n{text}\n")
        (shims / name).chmod(0o755)
    if not below:
        _unpack(upper / SOURCE.relative_to("/"))
    script = _SCRIPT.format(
        lower=":".join(map(str, (*below, root.tree))),
        upper=upper,
        work=work,
        whole=whole,
        cached=root.wheels,
        wheels=_WHEELS,
        programs=shims,
        shims=_SHIMS,
        commands=shlex.quote("\n".join([f"cd {SOURCE}", *commands])),
    )
    done = subprocess.run(
        ["unshare", "--mount", "--net", "--pid", "--fork", "/bin/sh", "-c", script],
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode != 0:
        raise InstallationError(done.stdout)
    return done.stdout


def _unpack(target: Path) -> None:
    """Copy what a checkout has: nothing that was built."""
    for path in _tracked():
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / path, target / path)


def _tracked() -> Iterator[str]:
    command = ["git", "-C", str(REPOSITORY), "ls-files", "-z", "--cached", "--others"]
    names = subprocess.check_output([*command, "--exclude-standard"], text=True)
    return (name for name in names.split("\0") if name and (REPOSITORY / name).is_file())
