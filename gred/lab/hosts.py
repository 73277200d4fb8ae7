"""A laboratory of network namespaces: hosts, the wires between them, the programs on them.

Used by the demonstration, the tests and the benchmarks. Everything is made by ip(8), inside
namespaces whose names carry this process's pid, and everything is removed again: on exit, on an
exception, on a signal. Nothing here touches the namespace the process itself lives in, and no
process is signalled that was not started here.
"""

import atexit
import contextlib
import ctypes
import json
import os
import select
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, TypeVar

from gred.lab.interruptions import Interruptions
from gred.lab.waiting import wait_for

T = TypeVar("T")
Say = Callable[[str], None]

NAMESPACES = Path("/var/run/netns")  # where ip-netns(8) keeps the names
UNDERLAY = "under0"  # what the wire is called at both ends
_CLONE_NEWNET = 0x4000_0000  # linux/sched.h
_GRACE_S = 10.0  # from SIGTERM to SIGKILL
_CARRIER_S = 5.0


class LabError(Exception):
    """A step of the laboratory failed. The text is one line: the command and what it answered."""


class Host:
    """One network namespace, which plays one machine. Made by ``Lab.host``."""

    def __init__(self, lab: "Lab", name: str, namespace: str) -> None:
        self._lab = lab
        self.name = name
        self.namespace = namespace

    def ip(self, *arguments: str) -> str:
        """Run ``ip`` with *arguments* in this namespace; return its output. Raises LabError."""
        self._lab.say(shlex.join(["ip", "-n", self.namespace, *arguments]))
        return self._run_ip(*arguments)

    def address(self, address: str, device: str = UNDERLAY) -> None:
        """Add *address*, with its prefix length, to *device*. It is usable at once."""
        at_once = ("nodad",) if ":" in address else ()
        self.ip("addr", "add", address, "dev", device, *at_once)

    def sysctl(self, name: str, value: str) -> None:
        """Set the network setting *name*, with dots, in this namespace."""
        self._lab.say(f"ip netns exec {self.namespace} sysctl -qw {name}={value}")
        path = Path("/proc/sys", *name.split("."))
        self.inside(lambda: path.write_text(value))

    def inside(self, function: Callable[[], T]) -> T:
        """Call *function* in a thread that lives in this namespace; return or raise what it does.

        A socket opened there stays in the namespace and may be used by every thread.
        """
        result: list[T] = []
        problem: list[BaseException] = []

        def enter_and_call() -> None:
            try:
                _enter(NAMESPACES / self.namespace)
                result.append(function())
            except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
                problem.append(error)

        thread = threading.Thread(target=enter_and_call, name=f"inside-{self.name}", daemon=True)
        thread.start()
        thread.join()
        if problem:
            raise problem[0]
        return result[0]

    def socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """Open a socket in this namespace. The caller closes it."""
        return self.inside(lambda: socket.socket(family, kind, protocol))

    def start(
        self,
        arguments: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        stdout: int | IO[bytes] = subprocess.DEVNULL,
        stderr: int | IO[bytes] = subprocess.DEVNULL,
    ) -> subprocess.Popen[bytes]:
        """Start a program in this namespace. The laboratory ends it, if ``Lab.stop`` has not."""
        return self._lab.start(
            self._entered(*arguments),
            environment=environment,
            stdout=stdout,
            stderr=stderr,
        )

    def statistics(self, interface: str) -> dict[str, int]:
        """Return what ``ip -s link`` counts on *interface*, as ``rx_packets``, ``tx_bytes``..."""
        both = self._show(interface)["stats64"]
        return {f"{way}_{name}": n for way, counts in both.items() for name, n in counts.items()}

    def state(self, interface: str) -> str:
        """Return the operational state of *interface*, as ``ip link`` prints it: ``UP``..."""
        return str(self._show(interface)["operstate"])

    def _show(self, interface: str) -> dict[str, Any]:
        shown = self._run_ip("-s", "-j", "link", "show", "dev", interface)
        found: list[dict[str, Any]] = json.loads(shown)
        return found[0]

    def _run_ip(self, *arguments: str) -> str:
        shown = ["ip", "-n", self.namespace, *arguments]
        return self._lab.run(self._entered("ip", *arguments), shown=shown)

    def _entered(self, *command: str) -> list[str]:
        """Return *command* as it is run in this namespace.

        By nsenter(1): ip(8) mounts a /sys of the namespace's own, with -n as well, and that fails
        in a chroot whose root is no mount point.
        """
        return ["nsenter", f"--net={NAMESPACES / self.namespace}", *command]


class Lab:
    """Hosts, wires and programs that live as long as the ``with`` block.

    *label* begins the names of the namespaces; with the pid after it they are unique to this
    process, so two laboratories of one process need two labels. *say* is given each step in ip(8)
    terms before it is done.
    """

    def __init__(self, label: str = "gred", *, say: Say | None = None) -> None:
        self._prefix = f"{label}-{os.getpid()}"
        self._namespaces: list[str] = []
        self._processes: list[subprocess.Popen[bytes]] = []
        self._directory: Path | None = None
        self._interruptions = Interruptions()
        self.say: Say = say or (lambda _line: None)

    def __enter__(self) -> Self:
        for program, package in (("ip", "iproute2"), ("nsenter", "util-linux")):
            if shutil.which(program) is None:
                raise LabError(f"{program} not found: install {package}")
        atexit.register(self.close)  # for a signal in the instant before __exit__ holds them
        self._interruptions.install()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def host(self, name: str, *, ipv6: bool = True) -> Host:
        """Make a namespace with its loopback up.

        Nobody in it detects duplicate IPv6 addresses or solicits routers. With *ipv6* false the
        devices made later have no IPv6, and so no chatter, at all.
        """
        namespace = f"{self._prefix}-{name}"
        with self._interruptions.held():
            self._namespaces.append(namespace)
            self.ip("netns", "add", namespace)
        host = Host(self, name, namespace)
        if Path("/proc/sys/net/ipv6").exists():
            quiet = (
                {"accept_dad": "0", "accept_ra": "0", "router_solicitations": "0"}
                if ipv6
                else {"disable_ipv6": "1"}
            )
            for setting, value in quiet.items():
                host.sysctl(f"net.ipv6.conf.default.{setting}", value)
        host.ip("link", "set", "lo", "up")
        return host

    def directory(self) -> Path:
        """Return a directory for files that go when the laboratory goes."""
        with self._interruptions.held():
            if self._directory is None:
                self._directory = Path(tempfile.mkdtemp(prefix=f"{self._prefix}-"))
        return self._directory

    def wire(
        self,
        left: Host,
        right: Host,
        *,
        device: str = UNDERLAY,
        mtu: int = 1500,
        queues: int = 1,
    ) -> None:
        """Join two hosts by a veth pair, called *device* at both ends, up, without addresses.

        *queues*: for sending and for receiving, at each end. Returns when packets pass: until the
        kernel has noticed the carrier it drops them.
        """
        end = ["mtu", str(mtu)]
        if queues > 1:
            end += ["numtxqueues", str(queues), "numrxqueues", str(queues)]
        left.ip(
            *("link", "add", device, *end, "type", "veth"),
            *("peer", "name", device, *end, "netns", right.namespace),
        )
        left.ip("link", "set", device, "up")
        right.ip("link", "set", device, "up")
        wait_for(
            lambda: all(host.state(device) == "UP" for host in (left, right)),
            f"a carrier on {device}",
            _CARRIER_S,
            pause=0.005,
        )

    def ip(self, *arguments: str) -> str:
        """Say and run ``ip`` with *arguments*; return its output. Raises LabError."""
        command = ["ip", *arguments]
        self.say(shlex.join(command))
        return self.run(command)

    def run(self, command: Sequence[str], *, shown: Sequence[str] | None = None) -> str:
        """Run *command* to its end; return its output. Raises LabError when it fails.

        *shown*: how an error names it.
        """
        with self._interruptions.held():
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
                process_group=0,  # the terminal's Ctrl-C is for us alone
            )
        if done.returncode:
            answer = " ".join(done.stderr.split()) or f"exit status {done.returncode}"
            raise LabError(f"{shlex.join(shown or command)}: {answer}")
        return done.stdout

    def start(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        stdout: int | IO[bytes] = subprocess.DEVNULL,
        stderr: int | IO[bytes] = subprocess.DEVNULL,
    ) -> subprocess.Popen[bytes]:
        """Start *command*; *environment* is added to this process's own."""
        with self._interruptions.held():
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                env={**os.environ, **(environment or {})},
                process_group=0,
            )
            self._processes.append(process)
        return process

    def stop(self, process: subprocess.Popen[bytes], number: int = signal.SIGTERM) -> int:
        """Signal a process that was started here, wait for its end, return its exit status.

        SIGKILL follows when it has not ended in ten seconds.
        """
        process.send_signal(number)
        try:
            status = process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            status = process.wait()
        with self._interruptions.held():
            if process in self._processes:
                self._processes.remove(process)
        return status

    def close(self) -> None:
        """End every process, remove every namespace and file. Harmless twice.

        A signal that arrives meanwhile is raised when all is gone.
        """
        self._interruptions.hold()
        try:
            self._end_processes()
            while self._namespaces:
                namespace = self._namespaces[-1]
                if (NAMESPACES / namespace).exists():
                    command = ["ip", "netns", "delete", namespace]
                    with contextlib.suppress(Exception):  # nobody listens any more
                        self.say(shlex.join(command))
                    with contextlib.suppress(LabError):  # the next one still has to go
                        self.run(command)
                self._namespaces.pop()
            if self._directory is not None:
                shutil.rmtree(self._directory, ignore_errors=True)
                self._directory = None
        finally:
            atexit.unregister(self.close)
            self._interruptions.restore()
            self._interruptions.release()

    def _end_processes(self) -> None:
        for process in self._processes:
            process.terminate()
        deadline = time.monotonic() + _GRACE_S
        while self._processes:
            process = self._processes[-1]
            if not _reap(process, max(0.0, deadline - time.monotonic())):
                process.kill()
                _reap(process)
            self._processes.pop()


def _reap(process: subprocess.Popen[bytes], seconds: float | None = None) -> bool:
    """Wait for the end of *process*, *seconds* at most; return whether it came.

    Not by Popen.wait(): an interruption that was raised within it may have left its lock taken, and
    then it waits for ever.
    """
    if process.returncode is not None:
        return True
    try:
        descriptor = os.pidfd_open(process.pid)
        try:
            if not select.select([descriptor], [], [], seconds)[0]:
                return False
        finally:
            os.close(descriptor)
        _pid, status = os.waitpid(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    except (ProcessLookupError, ChildProcessError):
        pass  # it was waited for, and the interruption came before that was noted
    return True


def _enter(namespace: Path) -> None:
    """Move the calling thread into *namespace*. os.setns came with Python 3.12."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.setns(descriptor, _CLONE_NEWNET) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(namespace))
    finally:
        os.close(descriptor)
