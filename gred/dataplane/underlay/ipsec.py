"""IPsec policies of single sockets: what they send leaves protected, or not at all.

The policies of a host can be flushed by whoever may, and a device can be exempt from them; that of
a socket goes before both, and nobody else can take it away. Numbers are those of linux/xfrm.h. What
is to be done to packets (templates) comes as the kernel has it; nothing here knows keys or states.
"""

import socket
import struct

from gred.dataplane.linux import IP_XFRM_POLICY, IPV6_XFRM_POLICY
from gred.dataplane.underlay.contract import Family

_IN, _OUT = 0, 1
_ALLOW, _BLOCK = 0, 1
_ESP = 50
TRANSPORT = 0
_MODE_AT = 48  # in xfrm_user_tmpl
_ALL = 0xFFFFFFFF
_FOREVER = 0xFFFFFFFFFFFFFFFF
_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
# xfrm_selector, lifetimes and their counts, xfrm_userpolicy_info behind them.
_SELECTOR = struct.Struct("=16s16s8xHBBB3xiI")
_LIFETIME = struct.pack("=8Q", *[_FOREVER] * 4, *[0] * 4) + bytes(32)
_POLICY = struct.Struct("=IIBBBB4x")
# xfrm_user_tmpl: xfrm_id, family, source, reqid, mode, share, optional, algorithms.
_TEMPLATE = struct.Struct("=16s4sB3xHxx16sIBBBx3I")


def sends(family: Family, templates: bytes) -> bytes:
    """Return the policy of a socket all of whose packets leave as *templates* say; empty: none."""
    return _policy(family, _OUT, _ALLOW if templates else _BLOCK) + templates


def mode(templates: bytes) -> int:
    """Return the mode of ESP that *templates* ask for; empty: transport."""
    return templates[_MODE_AT] if templates else TRANSPORT


def receives(family: Family, remote: bytes, mode: int) -> bytes:
    """Return the policy of a socket that gets of *remote* only what came in ESP of *mode*."""
    template = _TEMPLATE.pack(
        b"", b"", _ESP, _FAMILIES[family], b"", 0, mode, 0, 0, _ALL, _ALL, _ALL
    )
    return _policy(family, _IN, _ALLOW, remote) + template


def set_policy(opened: socket.socket, family: Family, policy: bytes) -> None:
    """Give a socket its *policy*. Raises OSError: EPERM without CAP_NET_ADMIN."""
    if family == 4:
        opened.setsockopt(socket.IPPROTO_IP, IP_XFRM_POLICY, policy)
    else:
        opened.setsockopt(socket.IPPROTO_IPV6, IPV6_XFRM_POLICY, policy)


def _policy(family: Family, direction: int, action: int, source: bytes = b"") -> bytes:
    """Return xfrm_userpolicy_info; it selects what comes from *source*, empty: all packets."""
    selector = _SELECTOR.pack(b"", source, _FAMILIES[family], 0, 8 * len(source), 0, 0, 0)
    return selector + _LIFETIME + _POLICY.pack(0, 0, direction, action, 0, 0)
