"""``gred``: reads the configuration, sets up logs and loop, and runs the daemon as a service.

Puts the parts together; what they do is theirs. Nothing here is reached by a packet.
"""

import asyncio
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import structlog

from gred import __version__
from gred.config import load
from gred.control.daemon import Daemon
from gred.control.errors import ExitCode
from gred.control.events import Event
from gred.dataplane import codec
from gred.dataplane.descriptors import raise_the_limit
from gred.management import logs
from gred.management.check import read
from gred.management.control.commands import Asked, Happenings, commands
from gred.management.control.server import ControlError, Server
from gred.management.events import EventLog
from gred.management.metrics.following import Metrics
from gred.management.metrics.lag import LagMeter
from gred.management.metrics.moment import Measured, Taker
from gred.management.notify import Notifier
from gred.management.places import socket_path
from gred.management.reloading import Reloadable, Reloading
from gred.management.service import Service, Startable
from gred.management.store import DescriptorStore
from gred.management.tracing import PacketTracer

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from gred.config import Config

SWITCH_SECONDS = 0.0001  # the interpreter's default is 0.005


class Daemonic(Startable, Reloadable, Asked, Measured, Protocol):
    """What is run: it starts, stops, follows another configuration and says what it knows."""


MakeDaemon = Callable[..., Daemonic]
LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def run(path: Path, *, foreground: bool, verbosity: int, make_daemon: MakeDaemon = Daemon) -> int:
    """Run the daemon with the configuration in *path* until a signal; return the exit code."""
    config = read(path)
    if config is None:
        return int(ExitCode.BAD_CONFIGURATION)
    logs.configure(config.daemon.log_format, verbosity=verbosity, foreground=foreground)
    log: FilteringBoundLogger = structlog.get_logger()
    raise_the_limit()
    loop_name, factory = choose_loop(log)
    # Looking at thousands of tunnels keeps a thread busy. Each call that moves packets gives the
    # interpreter away and takes it again, and would wait for as long as this.
    sys.setswitchinterval(SWITCH_SECONDS)
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(
            _serve(
                config,
                partial(load, path),
                make_daemon,
                log,
                make_tracer(log, verbosity),
                loop_name=loop_name,
                hangup_stops=foreground and _on_terminal(),
            )
        )


def choose_loop(log: "FilteringBoundLogger") -> tuple[str, LoopFactory]:
    """Return uvloop, or the standard library's loop where uvloop is not to be had."""
    try:
        import uvloop  # noqa: PLC0415 - optional
    except ImportError as error:
        log.warning("loop_is_slow", loop="asyncio", detail=f"uvloop is absent: {error}")
        return "asyncio", asyncio.new_event_loop
    return "uvloop", uvloop.new_event_loop


def make_tracer(log: "FilteringBoundLogger", verbosity: int) -> PacketTracer | None:
    """Return what logs each packet from ``-vv`` on; ``None`` below: nothing is then traced."""
    if verbosity < 2:
        return None
    from gred.management.decode import Decoder  # noqa: PLC0415 - scapy is paid for at -vv only

    return PacketTracer(log, Decoder().line, hexdump=verbosity >= 3)


async def _serve(
    config: "Config",
    read_again: "Callable[[], Config]",
    make_daemon: MakeDaemon,
    log: "FilteringBoundLogger",
    tracer: PacketTracer | None,
    *,
    loop_name: str,
    hangup_stops: bool,
) -> int:
    events, happenings = EventLog(log), Happenings(time.time)

    def listen(event: Event) -> None:
        events(event)
        happenings.note(event)
        service.status_changed()

    loop = asyncio.get_running_loop()
    notifier = Notifier(os.environ)
    store = DescriptorStore.of(os.environ, notifier)
    kept = {} if store is None else {"store": store}
    daemon = make_daemon(config, loop, listener=listen, trace=tracer, **kept)
    reloading = Reloading(daemon, read_again, log)
    service = Service(
        daemon,
        log,
        notifier,
        facts={"version": __version__, "loop": loop_name},
        reload=reloading.reload,
        on_interval=tracer.flush if tracer else lambda: None,
        hangup_stops=hangup_stops,
    )
    meter = LagMeter(loop)
    facts = {"version": __version__, "python": sys.version.split()[0], "loop": loop_name}
    facts |= {"codec": codec.IMPLEMENTATION}
    metrics = Metrics(
        Taker(daemon, facts, reloading.reloads, meter),
        meter,
        lambda: (service.ready, daemon.status()),
        log,
    )
    reloading.follow = metrics.follow
    about = {"version": __version__, "pid": os.getpid(), "configuration": config.file}
    server = None
    if config.daemon.control_socket is not None:
        path = socket_path(Path(config.file), config.daemon.control_socket)
        server = Server(path, commands(daemon, happenings, reloading, about), log)
        try:
            await server.open()
        except ControlError as error:
            log.warning("control_socket_failed", detail=str(error))
    try:
        await metrics.follow(config.daemon)
        return await service.run()
    finally:
        await reloading.close()
        await metrics.close()
        if server is not None:
            await server.close()


def _on_terminal() -> bool:
    return any(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stderr))
