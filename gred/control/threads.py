"""Work that blocks, in a thread. Nothing here knows what the work is."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def in_thread(work: Callable[[], T]) -> T:
    """Run *work* in a thread. Cancelled, wait for its end: what it makes must be known."""
    job = asyncio.get_running_loop().run_in_executor(None, work)
    try:
        return await asyncio.shield(job)
    except asyncio.CancelledError:
        await asyncio.wait([job])
        if not job.cancelled():
            job.exception()  # looked at, so that nobody is told: the cancellation matters more
        raise
