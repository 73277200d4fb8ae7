"""Metrics as the configuration asks for them, at the start and at each reload.

What cannot be had is told in one line and tried again; tunnels go on. Nothing here makes text.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from gred.control.threads import in_thread
from gred.management.metrics.lag import LagMeter

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from gred.config.model import DaemonConfig, ListenAddress
    from gred.management.metrics.exporter import Exporter, Listening, Renders
    from gred.management.metrics.moment import Taker

AGAIN = 10.0  # seconds until an address is tried again
MISSING = (
    "no metrics: the Python package prometheus-client is not installed (pip install"
    " prometheus-client in gred's environment, or apt install python3-prometheus-client)"
)


def make_renderer() -> "Renders":
    """Return what makes text. Raises ImportError."""
    from gred.management.metrics.families import Renderer  # noqa: PLC0415 - paid for where used

    return Renderer()


class Metrics:
    """Used on the daemon's loop, which it measures. *ready*: see Sources."""

    def __init__(
        self,
        taker: "Taker",
        meter: LagMeter,
        ready: Callable[[], tuple[bool, str]],
        log: "FilteringBoundLogger",
        *,
        make: "Callable[[], Renders]" = make_renderer,
    ) -> None:
        self._meter = meter
        self._log = log
        self._make = make
        self._loop = asyncio.get_running_loop()
        self._taker = taker
        self._ready = ready
        self._wanted: tuple[ListenAddress | None, str | None] = (None, None)
        self._exporter: Exporter | None = None
        self._told = ""
        self._again: asyncio.TimerHandle | None = None
        self._trying: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()

    async def follow(self, config: "DaemonConfig") -> None:
        """Hand metrics out as *config* says, from now on."""
        async with self._lock:
            wanted = config.metrics_listen, config.metrics_textfile
            if wanted == self._wanted:
                return
            await self._end()
            self._wanted, self._told = wanted, ""
            await self._begin()

    async def close(self) -> None:
        """Hand none out anymore. Harmless twice."""
        if self._trying is not None:
            self._trying.cancel()
            await asyncio.wait([self._trying])
        async with self._lock:
            await self._end()
            self._wanted = (None, None)

    async def _begin(self, listening: "Listening | None" = None) -> None:
        """Begin what is wanted; *listening*: where that is, unless it is to be opened first."""
        where, file = self._wanted
        if where is None and file is None:
            return
        from gred.management.metrics import exporter as exporting  # noqa: PLC0415 - as above

        try:
            renderer = await in_thread(self._make)
        except ImportError:
            self._log.warning("metrics_failed", detail=MISSING)
            return
        listening = listening or self._listen()
        if listening is None and file is None:
            return
        sources = exporting.Sources(
            loop=self._loop, take=self._taker.take, ready=self._ready, trouble=self._troubled
        )
        path = None if file is None else Path(file)
        self._exporter = exporting.Exporter(renderer, sources, listening, path)
        await in_thread(self._exporter.start)
        self._meter.start()
        if listening is not None:
            self._log.info("metrics", listen=str(where))

    def _listen(self) -> "Listening | None":
        """Return what listens where it is wanted; None: nowhere, or it will be tried again."""
        from gred.management.metrics import exporter as exporting  # noqa: PLC0415 - as above

        where = self._wanted[0]
        if where is None:
            return None
        try:
            return exporting.listen(where)
        except exporting.ListenError as error:
            if str(error) != self._told:
                self._told = str(error)
                self._log.warning("metrics_failed", detail=self._told)
            self._again = self._loop.call_later(AGAIN, self._try_again)
            return None

    async def _end(self) -> None:
        self._meter.stop()
        if self._again is not None:
            self._again.cancel()
            self._again = None
        if self._exporter is not None:
            exporter, self._exporter = self._exporter, None
            await in_thread(exporter.stop)

    def _try_again(self) -> None:
        self._again = None
        self._trying = self._loop.create_task(self._retry())

    async def _retry(self) -> None:
        async with self._lock:
            if self._again is None and (listening := self._listen()) is not None:
                await self._end()
                await self._begin(listening)

    def _troubled(self, trouble: str) -> None:
        if trouble:
            self._log.warning("metrics_failed", detail=trouble)
        else:
            self._log.info("metrics", textfile=self._wanted[1])
