"""The codec's door: the C extension where it was built, else its pure-Python twin.

``GRED_NO_EXTENSIONS=1`` selects the twin. Contract: _codec.pyi. Nothing else belongs here.
"""

import os
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

__all__ = [
    "IMPLEMENTATION",
    "checksum",
    "decapsulate",
    "encapsulate",
    "find_learners",
    "find_unlearned_source",
    "order_frames",
    "route_frames",
    "spread_datagrams",
]

NATIVE: Final = (
    os.environ.get("GRED_NO_EXTENSIONS") != "1" and find_spec("gred.dataplane._codec") is not None
)
IMPLEMENTATION: Final = "c" if NATIVE else "python"

if TYPE_CHECKING or NATIVE:
    from gred.dataplane._codec import (
        checksum,
        decapsulate,
        encapsulate,
        find_learners,
        find_unlearned_source,
        order_frames,
        route_frames,
        spread_datagrams,
    )
else:
    from gred.dataplane.pure_codec import (
        checksum,
        decapsulate,
        encapsulate,
        find_learners,
        find_unlearned_source,
        order_frames,
        route_frames,
        spread_datagrams,
    )
