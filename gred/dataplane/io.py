"""The I/O's door: the C extension where it was built, else its pure-Python twin.

``GRED_NO_EXTENSIONS=1`` selects the twin. Contract: _io.pyi. Nothing else belongs here.
"""

import os
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

__all__ = [
    "CAN_BYPASS",
    "IMPLEMENTATION",
    "read_frames",
    "receive_datagrams",
    "receive_udp",
    "send_bypassing",
    "send_datagrams",
    "send_udp",
    "write_frames",
]

NATIVE: Final = (
    os.environ.get("GRED_NO_EXTENSIONS") != "1" and find_spec("gred.dataplane._io") is not None
)
IMPLEMENTATION: Final = "c" if NATIVE else "python"
CAN_BYPASS: Final = NATIVE  # an optimisation, of which there is no twin

if TYPE_CHECKING or NATIVE:
    from gred.dataplane._io import (
        read_frames,
        receive_datagrams,
        receive_udp,
        send_bypassing,
        send_datagrams,
        send_udp,
        write_frames,
    )
else:
    from gred.dataplane.pure_io import (
        read_frames,
        receive_datagrams,
        receive_udp,
        send_datagrams,
        send_udp,
        write_frames,
    )
