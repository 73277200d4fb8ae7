"""A thread that hands metrics out: by HTTP, into a file, or both.

All work on requests and text is done there, on a loop of its own. The daemon's loop only takes
moments (moment.py). Text is made at most once a second, however many ask.
"""

import asyncio
import contextlib
import errno
import gc
import os
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Protocol, TypeVar

from gred.config.model import ListenAddress
from gred.management.metrics import textfile
from gred.management.metrics.http import HEAD_MAX, HttpServer, Request, Response, refusal
from gred.management.metrics.moment import Moment

WRITE_EVERY = 15.0  # seconds
FRESH = 1.0  # seconds for which a text is handed out again
PATIENCE = 2.0  # seconds that the daemon's loop may take to answer
SOCKET_MODE = 0o660
BACKLOG = 32

T = TypeVar("T")

_INDEX = (
    b"gred\n\n/metrics  for Prometheus\n/healthz  whether it lives\n/ready    whether it started\n"
)


class ListenError(Exception):
    """The address cannot be had; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Listening:
    """A socket that listens, and the file that goes with it, if there is one."""

    socket: socket.socket
    path: Path | None = None
    inode: int = 0

    def close(self) -> None:
        """Listen no more."""
        self.socket.close()
        if self.path is not None:
            with contextlib.suppress(OSError):
                if self.path.stat().st_ino == self.inode:  # else it is another daemon's by now
                    self.path.unlink()


class Renders(Protocol):
    """Turns moments into text; see families.py."""

    def http(self, moment: Moment, accept: str) -> tuple[bytes, str]:
        """Return the text for whoever accepts *accept*, and its content type."""
        ...

    def file(self, moment: Moment) -> bytes:
        """Return the text for a file."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """What an exporter asks of the daemon, on its *loop*.

    *ready* returns whether it has started, and a line for people. *trouble* is called with what is
    wrong with the file, in words, and with "" when it is well again.
    """

    loop: asyncio.AbstractEventLoop
    take: Callable[[], Coroutine[Any, Any, Moment]]
    ready: Callable[[], tuple[bool, str]]
    trouble: Callable[[str], None]


class Exporter:
    """Works from ``start`` to ``stop``. *listening* is closed by it."""

    def __init__(
        self,
        renderer: Renders,
        sources: Sources,
        listening: "Listening | None",
        file: Path | None,
    ) -> None:
        self._renderer = renderer
        self._sources = sources
        self._listening = listening
        self._file = file
        self._trouble = ""
        self._texts: dict[str, tuple[float, bytes, str]] = {}
        self._making: asyncio.Lock | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._main: asyncio.Task[None] | None = None
        self._began = threading.Event()
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()
        self._began.wait()

    def stop(self) -> None:
        """End, and wait for that: not on the daemon's loop, which it may be asking something."""
        if self._loop is not None and self._main is not None:
            with contextlib.suppress(RuntimeError):  # it has ended
                self._loop.call_soon_threadsafe(self._main.cancel)
        self._thread.join()

    # In the thread.

    def _run(self) -> None:
        try:
            with asyncio.Runner() as runner, contextlib.suppress(asyncio.CancelledError):
                runner.run(self._work())
        except Exception as error:  # noqa: BLE001 - tunnels go on without metrics
            self._tell(f"metrics ended: {error!r}")
        finally:
            self._began.set()
            if self._listening is not None:
                self._listening.close()

    async def _work(self) -> None:
        self._loop, self._main = asyncio.get_running_loop(), asyncio.current_task()
        self._loop.set_exception_handler(
            lambda _loop, context: self._tell(str(context.get("message", "")))
        )
        self._making = asyncio.Lock()
        self._began.set()
        clients = HttpServer(self.answer)
        server = None
        if self._listening is not None:
            start = (
                asyncio.start_unix_server
                if self._listening.socket.family == socket.AF_UNIX
                else asyncio.start_server
            )
            server = await start(clients.accept, sock=self._listening.socket, limit=HEAD_MAX)
        try:
            while True:
                if self._file is not None:
                    await self._write(self._file)
                await asyncio.sleep(WRITE_EVERY)
        finally:
            if server is not None:
                server.close()
                await clients.close()
            if self._file is not None:
                textfile.remove(self._file)

    async def answer(self, request: Request) -> Response:
        """Answer one request."""
        match request.path:
            case "/metrics":
                return await self._metrics(request.accept)
            case "/healthz" | "/ready" as path:
                try:
                    ready, line = await self._ask(self._ready())
                except TimeoutError:
                    message = f"the event loop has not answered for {PATIENCE:g} seconds\n"
                    return Response(message.encode(), HTTPStatus.SERVICE_UNAVAILABLE)
                if path == "/healthz":
                    return Response(b"ok\n")
                status = HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE
                return Response(f"{line}\n".encode(), status)
            case "/":
                return Response(_INDEX)
        return refusal(HTTPStatus.NOT_FOUND)

    async def _metrics(self, accept: str) -> Response:
        assert self._making is not None  # noqa: S101 - made before the first request
        async with self._making:
            made, text, content_type = self._texts.get(accept, (float("-inf"), b"", ""))
            if time.monotonic() - made >= FRESH:
                try:
                    with _no_collections():
                        moment = await self._ask(self._sources.take())
                        text, content_type = self._renderer.http(moment, accept)
                        del moment
                except TimeoutError:
                    return refusal(HTTPStatus.SERVICE_UNAVAILABLE)
                # Of a few that ask in different forms, not of whoever makes forms up.
                self._texts = self._texts if len(self._texts) < 4 else {}
                self._texts[accept] = time.monotonic(), text, content_type
            return Response(text, content_type=content_type)

    async def _write(self, path: Path) -> None:
        assert self._making is not None  # noqa: S101 - made before the first file
        try:
            async with self._making:
                with _no_collections():
                    moment = await self._ask(self._sources.take())
                    text = self._renderer.file(moment)
                    del moment
            textfile.write(path, text)
        except TimeoutError:
            return  # the next one will be written
        except OSError as error:
            self._tell(
                f"cannot write {path}: {error.strerror or error} (its directory must be there, and"
                " gred's own user may write to it: /run/gred of the service is such a one)"
            )
        else:
            self._tell("")

    async def _ready(self) -> tuple[bool, str]:
        return self._sources.ready()

    async def _ask(self, question: Coroutine[Any, Any, T]) -> T:
        """Have the daemon's loop answer. Raises TimeoutError."""
        try:
            asked = asyncio.run_coroutine_threadsafe(question, self._sources.loop)
        except RuntimeError:  # it is closed
            question.close()
            raise TimeoutError from None
        async with asyncio.timeout(PATIENCE):
            return await asyncio.wrap_future(asked)

    def _tell(self, trouble: str) -> None:
        """Tell what is wrong, once."""
        if trouble != self._trouble:
            self._trouble = trouble
            with contextlib.suppress(RuntimeError):
                self._sources.loop.call_soon_threadsafe(self._sources.trouble, trouble)


@contextlib.contextmanager
def _no_collections() -> Iterator[None]:
    """Let nobody look for unused cycles meanwhile: there are none in what is made here.

    Among the values of thousands of tunnels that takes milliseconds, and stops all threads.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def listen(where: ListenAddress) -> Listening:
    """Return what listens at *where*. Raises ListenError."""
    try:
        if where.address is not None:
            return Listening(_listen_to(where))
        path = Path(where.path)
        return Listening(_listen_at(path), path, path.stat().st_ino)
    except OSError as error:
        # create_server adds the address to what strerror says.
        why = str(error) if error.errno is None else os.strerror(error.errno)
        raise ListenError(
            f"no metrics at {where}: {why} ({_remedy(error.errno, where)})"
        ) from error


def _listen_to(where: ListenAddress) -> socket.socket:
    is_ipv6 = where.address is not None and where.address.version == 6
    return socket.create_server(
        (str(where.address), where.port),
        family=socket.AF_INET6 if is_ipv6 else socket.AF_INET,
        backlog=BACKLOG,
        dualstack_ipv6=is_ipv6 and str(where.address) == "::" and socket.has_dualstack_ipv6(),
    )


def _listen_at(path: Path) -> socket.socket:
    """Return a socket at *path*; one that a dead daemon left is replaced."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.is_socket():
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
                asking.settimeout(1.0)
                if asking.connect_ex(os.fsencode(path)) == errno.ECONNREFUSED:
                    path.unlink()
        listening.bind(os.fsencode(path))
        path.chmod(SOCKET_MODE)
        listening.listen(BACKLOG)
    except BaseException:
        listening.close()
        raise
    return listening


def _remedy(number: int | None, where: ListenAddress) -> str:
    if where.address is None:
        return "/run/gred is a directory that the service may write to; it is tried again"
    match number:
        case errno.EADDRINUSE:
            return f"who has it: ss -ltnp sport = {where.port}; it is tried again"
        case errno.EADDRNOTAVAIL:
            return f"{where.address} is no address of this host yet; it is tried again"
        case errno.EACCES:
            return "ports below 1024 need CAP_NET_BIND_SERVICE; choose a larger one"
    return "it is tried again"
