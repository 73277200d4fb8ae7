"""The one exception of the readable codecs. Values only.

The batch path never raises it: there, packets are counted.
"""

from gred.wire.drop import DropReason


class MalformedPacketError(ValueError):
    """Bytes that are not what they should be. ``reason`` is what a receiver would count."""

    def __init__(self, reason: DropReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
