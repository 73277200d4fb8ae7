"""Decides which programs of a tunnel run, and when: PostUp=, OnStateChange=, PreDown=.

    interface there -> PostUp     state changes -> OnStateChange     tunnel is to go -> PreDown

A tunnel has one program under way at a time. What becomes due meanwhile waits: of states the newest
alone, and not one that was told already. Nothing waits for a program but the end of its own tunnel,
and that for a bounded time: a service manager gives ten seconds to all of a stop.
"""

import asyncio
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from gred.config.model import Command
from gred.control.errors import words
from gred.control.events import (
    Event,
    HookEnded,
    HookFailed,
    HookOutput,
    InterfaceDeleted,
    Listener,
    TunnelFailed,
    TunnelTroubled,
    TunnelUp,
)
from gred.control.tunnel import Tunnel, TunnelState

if TYPE_CHECKING:
    from gred.control.parts import Attachment
    from gred.control.programs import Program

POST_UP, PRE_DOWN, ON_STATE_CHANGE = "PostUp", "PreDown", "OnStateChange"
AT_ONCE = 8  # programs of all tunnels: a thousand that come up do not start a thousand
STOP_SECONDS = 5.0  # for all programs of tunnels that go together; SIGKILL comes a second later
_FINISH_SECONDS = 1.5  # of that for what is under way
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_STATES = (TunnelUp, TunnelTroubled, TunnelFailed, InterfaceDeleted)


class _Runs:
    """What one tunnel runs."""

    __slots__ = ("changed", "left", "made", "post_up", "program", "task", "told")

    def __init__(self) -> None:
        self.made: Attachment | None = None  # the interface that PostUp= was run for
        self.told = TunnelState.DOWN  # the state that OnStateChange= was told last
        self.post_up = self.changed = False  # what is due
        self.left = False  # nothing is run any more
        self.task: asyncio.Task[None] | None = None
        self.program: Program | None = None


class Hooks:
    """The programs of *tunnels*. Used on *loop*; *listener* hears what they say."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, tunnels: Mapping[str, Tunnel], listener: Listener
    ) -> None:
        self._loop = loop
        self._tunnels = tunnels
        self._listener = listener
        self._runs: WeakKeyDictionary[Tunnel, _Runs] = WeakKeyDictionary()
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._last_turns = asyncio.Semaphore(AT_ONCE)

    def settled(self) -> None:
        """See which interfaces are there now."""
        for tunnel in self._tunnels.values():
            if tunnel.attachment is not None and _has_hooks(tunnel):
                self._look(tunnel)

    def note(self, event: Event) -> None:
        """Learn from *event* that a tunnel may have another state."""
        tunnel = self._tunnels.get(event.tunnel or "")
        if isinstance(event, _STATES) and tunnel is not None and _has_hooks(tunnel):
            self._look(tunnel, changed=True)

    async def leave(self, tunnels: Iterable[Tunnel]) -> None:
        """Run PreDown= of *tunnels* that have an interface; nothing of them runs after that."""
        leaving = [
            (tunnel, runs)
            for tunnel in tunnels
            if (runs := self._runs.get(tunnel)) is not None and not runs.left
        ]
        for _tunnel, runs in leaving:
            runs.left, runs.post_up, runs.changed = True, False, False
        if leaving:
            end = self._loop.time() + STOP_SECONDS
            tasks = [
                self._loop.create_task(self._leave(tunnel, runs, end)) for tunnel, runs in leaving
            ]
            try:
                await asyncio.wait(tasks)
            finally:
                for task in tasks:
                    task.cancel()

    def _look(self, tunnel: Tunnel, *, changed: bool = False) -> None:
        """See what is due, and have it run."""
        runs = self._runs.setdefault(tunnel, _Runs())
        if runs.left:
            return
        runs.changed |= changed
        if tunnel.attachment is not None and runs.made is not tunnel.attachment:
            runs.made, runs.post_up = tunnel.attachment, True
        if runs.task is None and (runs.post_up or runs.changed):
            runs.task = self._loop.create_task(self._work(tunnel, runs))

    async def _work(self, tunnel: Tunnel, runs: _Runs) -> None:
        """Run what is due until nothing is."""
        try:
            while runs.post_up or runs.changed:
                async with self._turns:
                    if runs.post_up:
                        runs.post_up = False
                        await self._run(tunnel, runs, POST_UP, TunnelState.DOWN)
                    elif runs.changed:
                        runs.changed = False
                        before, runs.told = runs.told, tunnel.state
                        if before is not tunnel.state:
                            await self._run(tunnel, runs, ON_STATE_CHANGE, before)
        finally:
            runs.task = None

    async def _leave(self, tunnel: Tunnel, runs: _Runs, end: float) -> None:
        if (task := runs.task) is not None:
            if runs.program is None:
                task.cancel()  # it waits for its turn
            else:
                runs.program.end_in(_FINISH_SECONDS, "ended because the tunnel goes")
            await asyncio.wait([task], timeout=max(0.0, end - self._loop.time()))
            task.cancel()  # only what cannot be killed is left
        if not tunnel.config.pre_down or runs.made is None or runs.made is not tunnel.attachment:
            return
        try:
            async with asyncio.timeout_at(end):
                await self._last_turns.acquire()
        except TimeoutError:
            detail = "not run: those of other tunnels took all the time"
            self._fail(tunnel, PRE_DOWN, tunnel.state, detail)
            return
        try:
            async with asyncio.timeout_at(end + 2.0):  # what cannot be killed keeps nobody
                await self._run(tunnel, runs, PRE_DOWN, tunnel.state, end=end)
        except TimeoutError:
            self._fail(tunnel, PRE_DOWN, tunnel.state, "not waited for any longer")
        finally:
            self._last_turns.release()

    async def _run(
        self,
        tunnel: Tunnel,
        runs: _Runs,
        hook: str,
        before: TunnelState,
        *,
        end: float | None = None,
    ) -> None:
        """Run the program of *hook*, if there is one, to its end; by *end* at the latest."""
        from gred.control.programs import Program  # noqa: PLC0415 - few tunnels have any

        if not (command := _command(tunnel, hook)):
            return
        began, state, allowed = self._loop.time(), tunnel.state, tunnel.config.hook_timeout

        def take(line: str) -> None:
            self._listener(HookOutput(tunnel=tunnel.name, hook=hook, line=line))

        try:
            runs.program = program = Program(
                self._loop, command, _environment(tunnel, hook, before), take
            )
        except OSError as error:
            self._fail(tunnel, hook, state, f"cannot run {command[0]}: {words(error)}")
            return
        try:
            program.end_in(allowed, f"ended because it took {allowed:g} s (HookTimeout=)")
            if end is not None:
                program.end_in(end - began, "ended because there was no more time to stop")
            detail = await program.wait()
        finally:
            runs.program = None
        unheard = program.unheard or None
        if detail:
            self._fail(tunnel, hook, state, detail, unheard)
        else:
            seconds = round(self._loop.time() - began, 3)
            self._listener(
                HookEnded(
                    tunnel=tunnel.name, hook=hook, state=state, seconds=seconds, unheard=unheard
                )
            )

    def _fail(
        self,
        tunnel: Tunnel,
        hook: str,
        state: TunnelState,
        detail: str,
        unheard: int | None = None,
    ) -> None:
        self._listener(
            HookFailed(tunnel=tunnel.name, hook=hook, state=state, detail=detail, unheard=unheard)
        )


def _has_hooks(tunnel: Tunnel) -> bool:
    config = tunnel.config
    return bool(config.post_up or config.pre_down or config.on_state_change)


def _command(tunnel: Tunnel, hook: str) -> Command:
    config = tunnel.config
    commands = {
        POST_UP: config.post_up,
        PRE_DOWN: config.pre_down,
        ON_STATE_CHANGE: config.on_state_change,
    }
    return commands[hook]


def _environment(tunnel: Tunnel, hook: str, before: TunnelState) -> dict[str, str]:
    """Return the facts; nothing of gred's own environment, which holds sockets of its manager."""
    local = tunnel.binding.local or tunnel.source
    namespace = tunnel.config.namespace
    return {
        "PATH": _PATH,
        "LANG": "C.UTF-8",
        "GRED_HOOK": hook,
        "GRED_TUNNEL": tunnel.name,
        "GRED_STATE": tunnel.state,
        "GRED_PREVIOUS_STATE": before,
        "GRED_REASON": tunnel.detail,
        "GRED_LOCAL": str(local or "any"),
        "GRED_REMOTE": tunnel.far_end,
        "GRED_MTU": str(tunnel.mtu),
        "GRED_MODE": tunnel.config.mode,
        **({} if namespace is None else {"GRED_NAMESPACE": namespace}),
    }
