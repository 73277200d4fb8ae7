"""Orders changes to many interfaces, some at once: whoever else waits for the thread has a turn.

Nothing here decides which changes, or what a refusal means.
"""

from collections.abc import Sequence
from functools import partial

from gred.control.kernel.changes import Change
from gred.control.kernel.parts import InterfaceSettings, Kernel, Refusals
from gred.control.threads import in_thread

AT_ONCE = 64  # interfaces

Work = tuple[InterfaceSettings, Sequence[Change]]


async def order(kernel: Kernel, work: Sequence[Work]) -> list[Refusals]:
    """Order all *work* of *kernel*; return what was refused of each."""
    refused: list[Refusals] = []
    for start in range(0, len(work), AT_ONCE):
        some = work[start : start + AT_ONCE]
        refused += await in_thread(partial(kernel.change, some))
    return refused
