"""Looks at what gred needs of the host, whatever its tunnels: device, rights, other receivers.

Changes nothing: a device is opened only where its driver is loaded, and is no interface then.
"""

import grp
import math
import os
import pwd
import stat
from collections.abc import Sequence
from pathlib import Path

from gred.config.model import TunnelConfig
from gred.control import receivers
from gred.control.errors import words
from gred.control.kernel import settings
from gred.control.kernel.devices import describe_node
from gred.control.kernel.dumps import read_gre_links
from gred.control.kernel.holders import holders
from gred.control.kernel.messages import links_query
from gred.control.kernel.raw_sockets import LOOPBACK, raw_sockets
from gred.control.kernel.rtnetlink import Rtnetlink
from gred.control.twins import Claim
from gred.dataplane import codec
from gred.dataplane.tun import NODE
from gred.dataplane.underlay.raw import RECEIVE_BUFFER
from gred.management.account import USER
from gred.management.doctor.capabilities import in_initial_namespace, of_process
from gred.management.doctor.facts import (
    Buffers,
    Capabilities,
    Codec,
    Holder,
    KernelGre,
    KernelLink,
    Receivers,
    Running,
    Tun,
    Unseen,
)

_MODULES = ("ip_gre", "ip6_gre", "gre", "fou")
_RAW = Path("/proc/thread-self/net/raw")
_MISC = Path("/proc/misc")  # drivers of character device 10


def tun() -> Tun:
    """Look at /dev/net/tun."""
    node = Path(NODE)
    try:
        found = node.stat()
    except FileNotFoundError:
        return Tun(present=False)
    except OSError as error:
        return Tun(present=True, opens=False, error=words(error))
    if wrong := describe_node():
        return Tun(present=True, wrong=wrong)
    opens, error_text = None, ""
    if not os.access(node, os.R_OK | os.W_OK):
        opens, error_text = False, words(PermissionError(13, "Permission denied"))
    elif _driver_is_loaded():
        try:
            os.close(os.open(node, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK))
            opens = True
        except OSError as error:
            opens, error_text = False, words(error)
    return Tun(present=True, opens=opens, error=error_text, service_user=_service_user_may(found))


def _driver_is_loaded() -> bool:
    try:
        return any(line.split()[1:] == ["tun"] for line in _MISC.read_text().splitlines())
    except OSError:
        return False


def _service_user_may(node: os.stat_result) -> bool | None:
    try:
        user = pwd.getpwnam(USER)
        groups = {user.pw_gid, *(one.gr_gid for one in grp.getgrall() if USER in one.gr_mem)}
    except (KeyError, OSError):
        return None
    if node.st_uid == user.pw_uid:
        wanted = stat.S_IRUSR | stat.S_IWUSR
    elif node.st_gid in groups:
        wanted = stat.S_IRGRP | stat.S_IWGRP
    else:
        wanted = stat.S_IROTH | stat.S_IWOTH
    return node.st_mode & wanted == wanted


def capabilities(tunnels: Sequence[TunnelConfig]) -> Capabilities | Unseen:
    """Look at this process's own."""
    wanted = ["net_admin", "net_raw"]
    if any(tunnel.namespace is not None for tunnel in tunnels):
        wanted.append("sys_admin")
    missing = of_process("self", wanted)
    if missing is None:
        return Unseen("there is no /proc/self/status")
    return Capabilities(user=_user(os.geteuid()), missing=missing, initial=in_initial_namespace())


def implementation() -> Codec:
    """Tell which twin this program runs."""
    return Codec(
        implementation=codec.IMPLEMENTATION,
        chosen=os.environ.get("GRED_NO_EXTENSIONS") == "1",
    )


def kernel_gre() -> KernelGre | Unseen:
    """Look for the kernel's own GRE."""
    try:
        with Rtnetlink() as kernel:
            links = read_gre_links(kernel.dump(links_query()))
    except OSError as error:
        return Unseen(f"interfaces: {words(error)}")
    return KernelGre(
        modules=tuple(name for name in _MODULES if _is_loaded(name)),
        links=tuple(
            KernelLink(
                name=link.name,
                kind=link.kind,
                version=link.version,
                takes_all=link.local is None and link.remote is None and link.key is None,
            )
            for link in links
        ),
    )


def _is_loaded(module: str) -> bool:
    if Path("/sys/module", module).exists():
        return True
    try:
        lines = Path("/proc/modules").read_text().splitlines()
    except OSError:
        return False
    return any(line.split(" ", 1)[0] == module for line in lines)


def other_receivers(
    claims: Sequence[tuple[str, Claim]], ethernet: frozenset[str]
) -> Receivers | Unseen:
    """Look who else takes GRE. *claims*: what the configured tunnels take, by name."""
    if not _RAW.exists():
        return Unseen(f"there is no {_RAW}")
    others = receivers.Receivers().look()
    # From the loopback no peer sends: who is bound there only sends.
    sockets = [one for one in raw_sockets() if one.local != LOOPBACK]
    processes = holders([one.inode for one in sockets])
    gred = {party.pid for party in others.parties}
    users = {_owner(pid) for pid in gred} - {None}
    found = [
        Holder(
            version=one.family,
            user=_user(one.uid),
            inode=one.inode,
            pid=process.pid if (process := processes.get(one.inode)) else None,
            program=process.name if process else "",
            # Not visible, but a gred of that user has such sockets.
            gred=process.pid in gred if process else one.uid in users,
        )
        for one in sockets
    ]
    # A gred with tunnels of these names is taken for the one that runs this configuration.
    strangers = [
        party
        for party in others.parties
        if not {name for name, _claim in party.claims} & {name for name, _claim in claims}
    ]
    held = receivers.rivals(claims, (math.inf, ""), strangers)
    held |= receivers.kernels(claims, ethernet, others.links)
    return Receivers(
        holders=tuple(found),
        running=tuple(
            Running(pid=party.pid, tunnels=tuple(name for name, _claim in party.claims))
            for party in others.parties
        ),
        rivals=held,
    )


def _owner(pid: int) -> int | None:
    try:
        return Path("/proc", str(pid)).stat().st_uid
    except OSError:
        return None


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def buffers() -> Buffers | Unseen:
    """Look at the limit of receive buffers."""
    try:
        return Buffers(asked=RECEIVE_BUFFER, limit=settings.number("core", "rmem_max"))
    except OSError as error:
        return Unseen(f"net.core.rmem_max: {words(error)}")
