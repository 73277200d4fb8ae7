"""Runs one program beside the loop: no shell, a session of its own, its time and its words bounded.

The program has nothing of gred but user, capabilities, sandbox and descriptors 0 to 2: /dev/null,
and a pipe for what it writes. Knows no tunnel and decides nothing; nothing here blocks longer than
execve(2) takes.

Not asyncio's subprocesses: uvloop copies the whole process for one, which stops packets for
milliseconds; subprocess.Popen lends its memory until execve(2), as vfork(2) does.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence

GRACE_SECONDS = 1.0  # between SIGTERM and SIGKILL
LINES_MAX = 20  # that are told, of one run
LINE_MAX = 200  # characters of a line that are told
_READ = 65536  # bytes at once: what a pipe holds. pipe(7)
_LAST_READS = 16  # of what is left in the pipe when the program has ended


class Program:
    """One run of *command*, a path and arguments. Used on *loop*.

    *take_line* is called with each line it writes, the first few, printable and cut short.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        command: Sequence[str],
        environment: Mapping[str, str],
        take_line: Callable[[str], None],
    ) -> None:
        self._loop = loop
        self._take_line = take_line
        self._lines = 0
        self._partial = b""
        self._why = ""
        self._due: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._ended: asyncio.Future[str] = loop.create_future()
        self._output, output = os.pipe()
        try:
            os.set_blocking(self._output, False)
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",
                env=environment,
                start_new_session=True,
            )
            self._pidfd = self._watch()
        except BaseException:
            os.close(self._output)
            raise
        finally:
            os.close(output)
        loop.add_reader(self._output, self._read)
        loop.add_reader(self._pidfd, self._exited)

    @property
    def unheard(self) -> int:
        """How many lines it wrote beyond those that were told."""
        return max(0, self._lines - LINES_MAX)

    def end_in(self, seconds: float, why: str) -> None:
        """End it, and what it started, in *seconds*, as *why* says; sooner if that is said already.

        SIGTERM first, SIGKILL to what is left of it after that.
        """
        due = self._loop.time() + max(0.0, seconds)
        if self._ended.done() or self._why or (self._due is not None and self._due <= due):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._due, self._timer = due, self._loop.call_at(due, self._terminate, why)

    async def wait(self) -> str:
        """Wait until it has ended; return what went wrong, in words: empty for exit status 0.

        Cancelled, it is killed, and nobody hears of it any more.
        """
        try:
            return await asyncio.shield(self._ended)
        except asyncio.CancelledError:
            if not self._ended.done():
                self._lines = LINES_MAX
                self._why = self._why or "killed"
                self._signal(signal.SIGKILL)
            raise

    def _watch(self) -> int:
        try:
            return os.pidfd_open(self._process.pid)
        except OSError:
            self._process.kill()
            self._process.wait()
            raise

    def _terminate(self, why: str) -> None:
        self._why = why
        self._signal(signal.SIGTERM)
        self._timer = self._loop.call_later(GRACE_SECONDS, self._signal, signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        """Send a signal to its process group. Until it is reaped no other has its number."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    def _exited(self) -> None:
        if self._why:
            self._signal(signal.SIGKILL)  # what it started, and left
        status = self._process.poll()
        for _ in range(_LAST_READS):
            if not self._read():
                break
        if self._partial:
            self._tell(self._partial)
        if self._timer is not None:
            self._timer.cancel()
        for descriptor in (self._output, self._pidfd):
            self._loop.remove_reader(descriptor)
            os.close(descriptor)
        self._ended.set_result(self._why or _words(status or 0))

    def _read(self) -> bool:
        """Take some of what it has written; return whether there may be more."""
        try:
            data = os.read(self._output, _READ)
        except BlockingIOError:
            return False
        if not data:
            self._loop.remove_reader(self._output)
            return False
        if self._lines >= LINES_MAX:
            self._lines += data.count(b"\n")
            return True
        *lines, self._partial = (self._partial + data).split(b"\n")
        self._partial = self._partial[: 4 * LINE_MAX]  # characters have up to four bytes
        for line in lines:
            self._tell(line)
        return True

    def _tell(self, line: bytes) -> None:
        self._lines += 1
        if self._lines <= LINES_MAX:
            self._take_line(printable(line))
            if self._lines == LINES_MAX:
                self._partial = b""


def printable(line: bytes) -> str:
    """Return *line* as it may stand in a log: on one line, nothing invisible, not too long."""
    text = line.rstrip(b"\r")[: 4 * LINE_MAX].decode("utf-8", "backslashreplace")
    text = text.replace("\t", " ")
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return text if len(text) <= LINE_MAX else text[: LINE_MAX - 3] + "..."


def _words(status: int) -> str:
    if status >= 0:
        return f"exit status {status}" if status else ""
    try:
        return f"ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"ended by signal {-status}"
