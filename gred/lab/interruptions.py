"""Signals that end the laboratory: raised when no step is half done. No namespace is known here."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(KeyboardInterrupt):
    """SIGINT, SIGTERM or SIGHUP arrived. A KeyboardInterrupt, so that pytest stops for it too."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class Interruptions:
    """Turns the first signal into ``Interrupted``, but never while a step is half done.

    Later signals are ignored: what they ask for, cleaning up and leaving, has begun.
    """

    def __init__(self) -> None:
        self._held = 0
        self._raised = False
        self._pending: int | None = None
        self._before: dict[signal.Signals, Any] = {}

    def install(self) -> None:
        """Take the signals over; where that cannot be, who may take them cleans up."""
        if threading.current_thread() is not threading.main_thread():
            return  # only the main thread may set handlers; its owner cleans up
        for number in _SIGNALS:
            if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
                continue  # nohup(1): asked to survive its terminal
            self._before[number] = signal.signal(number, self._arrived)

    def restore(self) -> None:
        """Give the signals back to whom they had."""
        while self._before:
            number, handler = self._before.popitem()
            signal.signal(number, handler)

    def _arrived(self, number: int, _frame: FrameType | None) -> None:
        if self._raised:
            return
        if self._held:
            self._pending = number
        else:
            self._raised = True
            raise Interrupted(number)

    def hold(self) -> None:
        """Keep what arrives from now on back."""
        self._held += 1

    def release(self) -> None:
        """Raise what arrived since the first ``hold`` that is not yet released."""
        self._held -= 1
        if not self._held and self._pending is not None:
            number, self._pending = self._pending, None
            self._raised = True
            raise Interrupted(number)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold for the time of a ``with`` block."""
        self.hold()
        try:
            yield
        finally:
            self.release()
