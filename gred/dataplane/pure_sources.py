"""The check of inner sources, of the pure-Python codec. Twin: native/sources.c."""

import bisect
from ipaddress import ip_address

from gred.dataplane.layout import SOURCE_KEY
from gred.dataplane.sources import key


class SourceRanges:
    """A view of the table of ranges that `gred.dataplane.sources` writes."""

    def __init__(self, buffer: memoryview) -> None:
        self._buffer = buffer
        self._count = len(buffer) // (2 * SOURCE_KEY)

    def have(self, index: int, source: bytes) -> bool:
        """Tell whether the tunnel of record *index* takes what comes from *source*, packed."""
        wanted = key(index, ip_address(source))
        behind = bisect.bisect_right(range(self._count), wanted, key=self._first)
        return behind > 0 and wanted <= self._last(behind - 1)

    def _first(self, row: int) -> bytes:
        return bytes(self._buffer[2 * row * SOURCE_KEY :][:SOURCE_KEY])

    def _last(self, row: int) -> bytes:
        return bytes(self._buffer[(2 * row + 1) * SOURCE_KEY :][:SOURCE_KEY])
