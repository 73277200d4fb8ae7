"""Work on many things on the loop, a slice at a time: packets come first.

Nothing here knows what the work is. Whoever works in slices lets others act in between: what was
true of a thing when the list was made may not be when its turn comes.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from typing import TypeVar

T = TypeVar("T")

SLICE = 0.001  # seconds; what a packet waits for at most, besides the work on one thing


async def in_slices(things: Iterable[T]) -> AsyncIterator[T]:
    """Yield *things*; after each SLICE seconds let the loop look after packets."""
    end = time.monotonic() + SLICE  # the loop's own clock stands still within a round
    for thing in things:
        yield thing
        if time.monotonic() >= end:
            await asyncio.sleep(0)
            end = time.monotonic() + SLICE
