"""Brings tunnels up and takes them down, many at a time. One tunnel's trouble is that tunnel's.

    up:    open devices -> routes -> MTUs -> configure interfaces -> attach to the data plane
    down:  out of the data plane -> delete interfaces -> close devices
    left:  out of the data plane -> close devices, of which the store has copies (store.py)

What fails on its way up is taken down, all of it: it is ``DOWN`` with the reason as its detail,
told when that changes, and has a time to be tried again. The others go on. Orders to the kernel go
out in batches, whatever fails among them: a thousand tunnels are up in a second.

Owns the TUN devices it opens: it is their only closer. Whatever blocks runs in a thread. When and
whether a tunnel comes up or goes is decided elsewhere (daemon.py); what it does while it is up is
reconciler.py's.
"""

import asyncio
import os
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from gred.control.errors import SetupError, device_refused, socket_refused, words
from gred.control.events import (
    AddressShared,
    DeleteFailed,
    Event,
    InterfaceDeleted,
    Listener,
    TunnelDown,
)
from gred.control.kernel.changes import OPTIONAL, AddAddress
from gred.control.kernel.devices import describe_node
from gred.control.kernel.parts import Actual, AdoptDevice, Device, Kernel, OpenDevice
from gred.control.ordering import Work, order
from gred.control.overlaps import shared
from gred.control.parts import Attachment, Plane
from gred.control.progress import Progress
from gred.control.remains import given_before, resume
from gred.control.slices import in_slices
from gred.control.store import Store, device_name
from gred.control.survey import Observation, interfaces, survey
from gred.control.threads import in_thread
from gred.control.tunnel import Tunnel
from gred.dataplane.tunnels import Counters

AT_ONCE = 64  # tunnels configured, or let go, before somebody else has a turn

T = TypeVar("T")
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
        store: Store,
        adopt_device: AdoptDevice,
    ) -> None:
        self._loop = loop
        self._kernel = kernel
        self._open_device = open_device
        self._plane = plane
        self._listener = listener
        self._progress = progress
        self._store = store
        self._adopt_device = adopt_device
        self.past: dict[str | None, Counters] = {}
        """What tunnels have counted that are gone, or were made anew."""
        self.adopted = 0
        """How many devices came from the store."""

    def counted(self, name: str, attachment: Attachment) -> Counters:
        """Return what a tunnel has counted since its first interface was made."""
        past, counters = self.past.get(name), attachment.counters()
        return counters if past is None else past + counters

    def _part(self, name: str, attachment: Attachment) -> None:
        """Let the data plane forget a tunnel, and remember what it has counted."""
        self._plane.remove_tunnel(attachment)
        self.past[name] = self.counted(name, attachment)

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
                tunnel.move(seen[tunnel.name].binding)
                tunnel.mtu = tunnel.wanted_mtu(seen[tunnel.name])
            configs = [tunnel.config for tunnel, _device in opened]
            for config, detail in await in_thread(lambda: list(shared(self._kernel, configs))):
                self._listener(AddressShared(tunnel=config.name, detail=detail))
            await self.give_up(await self._configure(opened), starting=starting)
        except BaseException:
            for tunnel, _device in with_device(tunnels):
                tunnel.retry.failed(self._loop.time())
            await self.delete(tunnels, leave=starting)
            raise
        self._progress.begin("up", len(with_device(tunnels)))

    async def _configure(self, opened: Sequence[tuple[Tunnel, Device]]) -> Failures:
        """Give devices all they need, some at once; return which were refused what."""
        self._progress.begin("configured", len(opened))
        failures: Failures = {}
        wanted = [tunnel.settings(device) for tunnel, device in opened]
        found = await in_thread(lambda: interfaces(self._kernel, wanted))
        for start in range(0, len(opened), AT_ONCE):
            some = opened[start : start + AT_ONCE]
            failures |= await self._configure_some(some, found)
            self._progress.advance(len(some))
        return failures

    async def _configure_some(
        self, opened: Sequence[tuple[Tunnel, Device]], found: Mapping[str, Actual]
    ) -> Failures:
        now = self._loop.time()
        work: list[Work] = []
        async for tunnel, device in in_slices(opened):
            settings = tunnel.settings(device)
            if device.adopted and tunnel.remains:
                tunnel.upkeep.given = given_before(tunnel.remains, settings)
            # One that is gone already is refused all of it.
            actual = found.get(tunnel.name, Actual(up=False, mtu=0))
            work.append((settings, tunnel.upkeep.plan(settings, actual, now)))
        failures: Failures = {}
        for (tunnel, _device), (settings, plan), refused in zip(
            opened, work, await order(self._kernel, work), strict=True
        ):
            tunnel.upkeep.take(settings, plan, refused, now)
            for change, error in refused.items():
                # Without IPv6 there is no link-local address to be had.
                spared = AddAddress(settings.link_local) if settings.link_local else None
                if not isinstance(change, OPTIONAL) and change != spared:
                    failures[tunnel] = error
                    break
        return failures

    def attach(self, tunnel: Tunnel, device: Device) -> None:
        """Hand *device* to the data plane: from here on packets move.

        Raises SetupError; then ``give_up`` is due.
        """
        try:
            tunnel.attachment = self._plane.add_tunnel(device, tunnel.parameters())
        except OSError as error:
            raise socket_refused(error, place=tunnel.place, version=tunnel.config.family) from error
        except OverflowError as error:
            raise SetupError(f"{tunnel.place}: cannot add the tunnel: {error}") from error
        resume(tunnel.remains, tunnel.attachment)
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
        self._store.remove(device_name(tunnel.name))
        device.close()  # does not wait: as a rule the interface is gone
        tunnel.lose()
        tunnel.detail = detail
        tunnel.retry.broke(self._loop.time())
        self._listener(InterfaceDeleted(tunnel=tunnel.name, detail=detail))

    async def take_down(self, tunnels: Sequence[Tunnel], *, leave: bool = False) -> None:
        """Take *tunnels* out of the data plane and out of the kernel, because they are to go.

        *leave*: not out of the kernel, as far as the store has them.
        """
        self._progress.begin("let go", len(tunnels))
        for number, tunnel in enumerate(tunnels, 1):
            if self._detach(tunnel):
                self._listener(TunnelDown(tunnel=tunnel.name))
            self._progress.advance()
            if number % AT_ONCE == 0:
                await asyncio.sleep(0)
        await self.delete(tunnels, leave=leave)

    async def delete(self, tunnels: Sequence[Tunnel], *, leave: bool = False) -> None:
        """Delete the interfaces of *tunnels* and close their devices. The data plane let go.

        *leave*: let those be that the store has. If it has them not, they go as they are closed.
        """
        devices = [device for _tunnel, device in with_device(tunnels)]
        names = [device_name(tunnel.name) for tunnel, _device in with_device(tunnels)]
        for tunnel in tunnels:
            tunnel.lose()
        if not devices:
            return
        self._progress.begin("deleted", len(devices))  # the kernel does it in one step

        def delete() -> None:
            going = []
            for name, device in zip(names, devices, strict=True):
                if leave and self._store.holds(name):
                    continue
                self._store.remove(name)  # else the interface stays, or is adopted
                going.append(device)
            if going:
                self._kernel.delete(going)

        try:
            await in_thread(delete)
        except OSError as error:
            # Closing deletes them as well, one by one.
            self._listener(DeleteFailed(detail=words(error)))
        finally:
            await in_thread(lambda: self._close(devices))

    def _detach(self, tunnel: Tunnel) -> bool:
        """Take *tunnel* out of the data plane; return whether it was in."""
        attachment, tunnel.attachment = tunnel.attachment, None
        if attachment is not None:
            self._part(tunnel.name, attachment)
        return attachment is not None

    def _open(self, tunnels: Sequence[Tunnel]) -> Failures:
        failures: Failures = {}
        for tunnel in tunnels:
            try:
                tunnel.device = self._adopt(tunnel) or self._open_device(
                    tunnel.name,
                    offload=tunnel.config.offload,
                    mode=tunnel.device_mode,
                    namespace=tunnel.config.namespace,
                )
                if not tunnel.device.adopted:
                    self._store.keep(device_name(tunnel.name), tunnel.device.fileno())
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

    def _adopt(self, tunnel: Tunnel) -> Device | None:
        """Return the device that is kept for *tunnel*, if it fits; else it is kept no longer."""
        name = device_name(tunnel.name)
        descriptor = self._store.take(name)
        if descriptor is None:
            return None
        try:
            device = self._adopt_device(
                descriptor,
                offload=tunnel.config.offload,
                mode=tunnel.device_mode,
                namespace=tunnel.config.namespace,
            )
        except OSError:
            self._store.remove(name)
            os.close(descriptor)
            self._store.settle()  # the name is free once nobody has the device
            return None
        tunnel.was_alive = device.was_running
        self.adopted += 1
        return device

    def _close(self, devices: Iterable[Device]) -> None:
        for device in devices:
            device.close()
            self._progress.advance()


async def look(kernel: Kernel, tunnels: Iterable[Tunnel]) -> dict[str, Observation]:
    """Survey those of *tunnels* that have a device. Raises SetupError.

    Where nothing has changed the observation is the very one that the tunnel was shown last.
    """
    asked = with_device(tunnels)
    return await _asked(lambda: _survey(kernel, asked, {}))


async def look_inside(
    kernel: Kernel, tunnels: Iterable[Tunnel]
) -> tuple[dict[str, Observation], dict[str, Actual]]:
    """Survey as ``look`` does, and return what the interfaces are that are where they ought to be.

    Only a hash of it is kept: a thousand interfaces are some megabytes.
    """
    asked = with_device(tunnels)
    wanted = [tunnel.settings(device) for tunnel, device in asked]
    given = [tunnel.upkeep.given for tunnel, _device in asked]
    # To find what is to go.
    wanted += [old for old, new in zip(given, wanted, strict=True) if old and old != new]

    def survey_all() -> tuple[dict[str, Observation], dict[str, Actual]]:
        actual = interfaces(kernel, wanted)
        return _survey(kernel, asked, actual), actual

    return await _asked(survey_all)


def _survey(
    kernel: Kernel, asked: Sequence[tuple[Tunnel, Device]], actual: Mapping[str, Actual]
) -> dict[str, Observation]:
    before = {tunnel.name: tunnel.seen for tunnel, _device in asked}
    seen = survey(kernel, [(tunnel.config, device) for tunnel, device in asked])
    for name, one in actual.items():
        seen[name] = replace(seen[name], inside=hash(one))
    return {name: _same(before[name], now) for name, now in seen.items()}


async def _asked(work: Callable[[], T]) -> T:
    try:
        return await in_thread(work)
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
