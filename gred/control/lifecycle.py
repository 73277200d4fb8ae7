"""Brings tunnels up and takes them down, many at a time. One tunnel's trouble is that tunnel's.

    up:    open devices -> routes -> MTUs -> configure interfaces -> attach to the data plane
    down:  out of the data plane -> delete interfaces -> close devices

What fails on its way up is taken down, all of it: it is ``DOWN`` with the reason as its detail,
told when that changes, and has a time to be tried again. The others go on. Orders to the kernel go
out in batches, whatever fails among them: a thousand tunnels are up in a second.

Owns the TUN devices it opens: it is their only closer. Whatever blocks runs in a thread. When and
whether a tunnel comes up or goes is decided elsewhere (daemon.py); what it does while it is up is
reconciler.py's.
"""

import asyncio
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from gred.control.errors import SetupError, device_refused, socket_refused, words
from gred.control.interfaces import differences
from gred.control.kernel.devices import describe_node
from gred.control.kernel.parts import Device, Kernel, OpenDevice
from gred.control.overlaps import shared
from gred.control.parts import Event, Listener, Plane, Port
from gred.control.progress import Progress
from gred.control.survey import Observation, survey
from gred.control.threads import in_thread
from gred.control.tunnel import Tunnel
from gred.dataplane.tunnels import Counters

AT_ONCE = 64  # interfaces configured, or tunnels let go, before somebody else has a turn

Failures = dict[Tunnel, SetupError]


class Lifecycle:
    """How tunnels come and go. Used on *loop*, by one caller at a time.

    *progress* is told how far that is.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        kernel: Kernel,
        open_device: OpenDevice,
        plane: Plane,
        listener: Listener,
        progress: Progress,
    ) -> None:
        self._loop = loop
        self._kernel = kernel
        self._open_device = open_device
        self._plane = plane
        self._listener = listener
        self._progress = progress
        self.past: dict[str | None, Counters] = {}
        """What tunnels have counted that are gone, or were made anew."""

    def counted(self, name: str, port: Port) -> Counters:
        """Return what a tunnel has counted since its first interface was made."""
        past, counters = self.past.get(name), port.counters()
        return counters if past is None else past + counters

    def _part(self, name: str, port: Port) -> None:
        """Let the data plane forget a tunnel, and remember what it has counted."""
        self._plane.remove_tunnel(port)
        self.past[name] = self.counted(name, port)

    async def bring_up(self, tunnels: Sequence[Tunnel], *, starting: bool = False) -> None:
        """Give *tunnels* devices, and these all they need; ``attach`` is what is left to do.

        Those that fail are given up. Raises SetupError when nothing can be asked of the kernel, and
        when *starting* also for what concerns the process: then none of *tunnels* has a device.
        """
        self._progress.begin("opened", len(tunnels))
        try:
            await self.give_up(await in_thread(lambda: self._open(tunnels)), starting=starting)
            # The first look comes before our own addresses and routes can bend it.
            seen = await look(self._kernel, tunnels)
            opened = with_device(tunnels)
            for tunnel, _device in opened:
                tunnel.move(seen[tunnel.name].standing)
                tunnel.mtu = tunnel.wanted_mtu(seen[tunnel.name])
            configs = [tunnel.config for tunnel, _device in opened]
            for config, detail in await in_thread(lambda: list(shared(self._kernel, configs))):
                self._tell("address_shared", "warning", tunnel=config.name, detail=detail)
            await self.give_up(await self._configure(opened), starting=starting)
        except BaseException:
            for tunnel, _device in with_device(tunnels):
                tunnel.retry.failed(self._loop.time())
            await self.delete(tunnels)
            raise
        self._progress.begin("up", len(with_device(tunnels)))

    async def _configure(self, opened: Sequence[tuple[Tunnel, Device]]) -> Failures:
        """Give devices all they need, some at once; return which were refused what."""
        self._progress.begin("configured", len(opened))
        failures: Failures = {}
        for start in range(0, len(opened), AT_ONCE):
            some = opened[start : start + AT_ONCE]
            settings = [tunnel.settings(device) for tunnel, device in some]
            refused = await in_thread(partial(self._kernel.configure, settings))
            for (tunnel, _device), error in zip(some, refused, strict=True):
                if error is not None:
                    failures[tunnel] = error
            self._progress.advance(len(some))
        return failures

    def attach(self, tunnel: Tunnel, device: Device) -> None:
        """Hand *device* to the data plane: from here on packets move.

        Raises SetupError; then ``give_up`` is due.
        """
        try:
            tunnel.port = self._plane.add_tunnel(device, tunnel.parameters())
        except OSError as error:
            raise socket_refused(error, place=tunnel.place, version=tunnel.config.family) from error
        except OverflowError as error:
            raise SetupError(f"{tunnel.place}: cannot add the tunnel: {error}") from error
        tunnel.retry.worked(self._loop.time())
        self._progress.advance()

    async def give_up(self, failures: Mapping[Tunnel, SetupError], *, starting: bool) -> None:
        """Take down what failed, say why where that is news, and note when to try again.

        When *starting*, what concerns the process is raised instead.
        """
        if starting:
            for error in failures.values():
                if error.is_of_the_process:
                    raise error
        now = self._loop.time()
        events: list[Event] = []
        for tunnel, error in failures.items():
            self._detach(tunnel)
            events += tunnel.fail(str(error))
            tunnel.retry.failed(now)
        await self.delete(list(failures))
        for event in events:
            self._listener(event)

    def lose(self, tunnel: Tunnel, device: Device, detail: str) -> None:
        """Give up what is left of a tunnel whose interface is gone or can be read no more."""
        self._detach(tunnel)
        device.close()  # does not wait: as a rule the interface is gone
        tunnel.lose()
        tunnel.detail = detail
        tunnel.retry.broke(self._loop.time())
        self._tell("interface_deleted", "warning", tunnel=tunnel.name, detail=detail)

    async def take_down(self, tunnels: Sequence[Tunnel]) -> None:
        """Take *tunnels* out of the data plane and out of the kernel, because they are to go."""
        self._progress.begin("let go", len(tunnels))
        for number, tunnel in enumerate(tunnels, 1):
            if self._detach(tunnel):
                self._tell("tunnel_down", tunnel=tunnel.name)
            self._progress.advance()
            if number % AT_ONCE == 0:
                await asyncio.sleep(0)
        await self.delete(tunnels)

    async def delete(self, tunnels: Sequence[Tunnel]) -> None:
        """Delete the interfaces of *tunnels* and close their devices. The data plane let go."""
        devices = [device for _tunnel, device in with_device(tunnels)]
        for tunnel in tunnels:
            tunnel.lose()
        if not devices:
            return
        self._progress.begin("deleted", len(devices))  # the kernel does it in one step
        try:
            await in_thread(lambda: self._kernel.delete(devices))
        except OSError as error:
            # Closing deletes them as well, one by one.
            self._tell("delete_failed", "warning", detail=words(error))
        finally:
            await in_thread(lambda: self._close(devices))

    def _detach(self, tunnel: Tunnel) -> bool:
        """Take *tunnel* out of the data plane; return whether it was in."""
        port, tunnel.port = tunnel.port, None
        if port is not None:
            self._part(tunnel.name, port)
        return port is not None

    def _open(self, tunnels: Sequence[Tunnel]) -> Failures:
        failures: Failures = {}
        for tunnel in tunnels:
            try:
                tunnel.device = self._open_device(
                    tunnel.name,
                    offload=tunnel.config.offload,
                    mode=tunnel.device_mode,
                    namespace=tunnel.config.namespace,
                )
            except OSError as error:
                failures[tunnel] = device_refused(
                    error,
                    place=tunnel.place,
                    name=tunnel.name,
                    exists=_exists(tunnel.name),
                    node=describe_node(),
                )
            self._progress.advance()
        return failures

    def _close(self, devices: Iterable[Device]) -> None:
        for device in devices:
            device.close()
            self._progress.advance()

    def _tell(
        self, name: str, level: str = "info", *, tunnel: str | None = None, **fields: object
    ) -> None:
        self._listener(Event(name, level, tunnel, fields))


async def look(
    kernel: Kernel, tunnels: Iterable[Tunnel], *, interfaces: bool = False
) -> dict[str, Observation]:
    """Survey those of *tunnels* that have a device. Raises SetupError.

    *interfaces*: also whether they are as gred set them up. Where nothing has changed the
    observation is the very one that the tunnel was shown last.
    """
    asked = with_device(tunnels)
    before = {tunnel.name: tunnel.seen for tunnel, _device in asked}

    def survey_all() -> dict[str, Observation]:
        seen = survey(kernel, [(tunnel.config, device) for tunnel, device in asked])
        if interfaces:
            wanted = [tunnel.settings(device) for tunnel, device in asked]
            for name, lacks in differences(kernel, wanted).items():
                seen[name] = replace(seen[name], difference=lacks)
        return {name: _same(before[name], now) for name, now in seen.items()}

    try:
        return await in_thread(survey_all)
    except OSError as error:
        raise SetupError(f"cannot ask the kernel over netlink: {words(error)}") from error


def with_device(tunnels: Iterable[Tunnel]) -> list[tuple[Tunnel, Device]]:
    """Return those of *tunnels* that have a device, with it."""
    return [(tunnel, tunnel.device) for tunnel in tunnels if tunnel.device is not None]


def _exists(name: str) -> bool:
    try:
        socket.if_nametoindex(name)
    except OSError:
        return False
    return True


def _same(before: Observation | None, now: Observation) -> Observation:
    return before if before is not None and before == now else now
