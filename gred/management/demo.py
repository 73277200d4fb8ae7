"""The demonstration: two hosts, two tunnels, two real daemons, and what crossed.

For someone who learns GRE: it says each step in ip(8) terms before it takes it. Nothing here is
special to the demonstration but the laboratory: the daemons are gred itself, run from configuration
files. It decides the outcome only from what arrived.
"""

import os
import shlex
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from gred.config import load
from gred.control.errors import ExitCode, wrong_node
from gred.control.kernel.devices import describe_node
from gred.control.kernel.netlink import Netlink
from gred.lab.capture import Capture
from gred.lab.daemon import Daemon, DaemonError
from gred.lab.hosts import UNDERLAY, Host, Lab, LabError
from gred.lab.interruptions import Interrupted
from gred.lab.traffic import EchoResult, multicast, ping, transfer
from gred.management import demo_configurations as configurations
from gred.management.check import describe, look

_DRAWING = """\
   left                                                right
   10.1.2.1/24  Tunnel-1 ........... GRE ........... Tunnel-1  10.1.2.2/24
   20.1.2.1/24  Tunnel-2 ........... GRE ........... Tunnel-2  20.1.3.1/24
                   |                                     |
     192.168.1.10  under0 ------- a veth pair ------- under0  192.168.1.13
    192.168.100.1                                             192.168.100.2
"""
_TUNNELS = ("Tunnel-1", "Tunnel-2")
_UNDERLAY_ADDRESSES = {
    "left": ("192.168.1.10/24", "192.168.100.1/24"),
    "right": ("192.168.1.13/24", "192.168.100.2/24"),
}
_FILES = {
    "left": (configurations.TUNNEL_1_LEFT, configurations.TUNNEL_2_LEFT),
    "right": (configurations.TUNNEL_1_RIGHT, configurations.TUNNEL_2_RIGHT),
}
_PINGS = 5
_DATAGRAMS = 10
_TRANSFER = 8 << 20
_MOVE_S = 60.0  # a slow or busy machine is no broken tunnel
_CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_NET_RAW": 13, "CAP_SYS_ADMIN": 21}  # capability.h


def run_demo(pcap: Path | None) -> int:
    """Run the demonstration on stdout; return the exit code.

    0: everything arrived. 1: something did not, or a step failed. 69: no /dev/net/tun. 77: not
    root. 128 and the signal's number: interrupted. *pcap*: a file that keeps what crossed the
    underlay. Nothing else is left behind in any case.
    """
    if refusal := _refusal():
        print(f"gred demo: {refusal[0]}", file=sys.stderr)
        return int(refusal[1])
    try:
        with Lab("gred", say=lambda line: _say(f"   {line}")) as lab:
            outcome = _demonstrate(lab, pcap)
            _title("6. The hosts are removed, and the wire with them")
        return int(_show(outcome))
    except Interrupted as interruption:
        _complain(f"interrupted by {interruption}; nothing is left behind")
        return 128 + interruption.number
    except BrokenPipeError:  # `gred demo | head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(ExitCode.FAILURE)
    except DaemonError as error:
        _complain(str(error))
        told = error.status in {ExitCode.NO_TUN, ExitCode.NO_PERMISSION}
        return int(error.status or ExitCode.FAILURE) if told else int(ExitCode.FAILURE)
    except (LabError, OSError) as error:
        _complain(str(error))
        return int(ExitCode.FAILURE)


def _refusal() -> tuple[str, ExitCode] | None:
    """Return why this machine cannot show it, and the exit code."""
    effective = next(
        int(line.split()[1], 16)
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("CapEff:")
    )
    missing = [name for name, bit in _CAPABILITIES.items() if not effective >> bit & 1]
    if missing or os.geteuid() != 0:
        wanted = ", ".join(missing or _CAPABILITIES)
        return f"run it as root: it makes network namespaces ({wanted})", ExitCode.NO_PERMISSION
    if node := describe_node():
        return wrong_node(node), ExitCode.NO_TUN
    if not Path("/dev/net/tun").exists():
        return "no /dev/net/tun: load the module tun (modprobe tun)", ExitCode.NO_TUN
    if shutil.which("ip") is None:
        return "no ip(8): install the package iproute2", ExitCode.FAILURE
    return None


@dataclass(slots=True)
class _Check:
    """One line of the result: what was tried, how much of it arrived."""

    what: str
    sent: int
    received: int
    note: str = ""
    passed: bool = field(init=False)

    def __post_init__(self) -> None:
        self.passed = self.sent > 0 and self.received == self.sent


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What arrived, what the interfaces counted, how many daemons did not stop as they should."""

    checks: list[_Check]
    counters: dict[tuple[Host, str], dict[str, int]]
    unclean: int


def _demonstrate(lab: Lab, pcap: Path | None) -> _Outcome:
    _say("gred demo: two hosts, two GRE tunnels between them, one gred daemon on each host.\n")
    _say(_DRAWING)

    _title("1. The hosts are network namespaces, the wire is a veth pair")
    left, right = (lab.host(name, ipv6=False) for name in ("left", "right"))
    lab.wire(left, right)
    for host in (left, right):
        for address in _UNDERLAY_ADDRESSES[host.name]:
            host.address(address)

    _title("2. Each host has a configuration: a file, and a second tunnel dropped in beside it")
    files = {host: _write_configuration(lab.directory(), host) for host in (left, right)}

    _title("3. A daemon on each host makes the interfaces, their addresses and their routes")
    daemons = [Daemon(lab, host, path, arguments=["--foreground"]) for host, path in files.items()]
    for daemon in daemons:
        _say(f"   ip netns exec {daemon.host.namespace} {shlex.join(daemon.command)}")
    try:
        for daemon in daemons:
            daemon.wait_ready()
        for host in (left, right):
            for command in (("-br", "addr", "show"), ("route", "show")):
                _say(textwrap.indent(host.ip(*command).rstrip(), "      "))

        _title("4. Traffic, both ways through both tunnels")
        with Capture(left, UNDERLAY, pcap) if pcap else nullcontext() as capture:
            checks = _send_everything(left, right, daemons)
            counters = {(h, t): h.statistics(t) for t in _TUNNELS for h in (left, right)}
        if capture is not None:
            missed = f", {capture.missed} missed" if capture.missed else ""
            _say(f"   {pcap}: {capture.packets} packets of the underlay{missed}, for Wireshark")

        _title("5. The daemons stop, and their interfaces go with them")
        unclean = sum(not _stop(daemon) for daemon in daemons)
    except DaemonError:
        _show_logs(daemons)
        raise
    _show_logs(daemons)
    return _Outcome(checks, counters, unclean)


def _write_configuration(directory: Path, host: Host) -> Path:
    """Write the main file and the drop-in of *host*, say what they mean; return the main file."""
    main = directory / host.name / "gred.conf"
    second = main.with_suffix(".conf.d") / "tunnel-2.conf"
    second.parent.mkdir(parents=True)
    for path, text in zip((main, second), _FILES[host.name], strict=True):
        path.write_text(text)
        _say(f"   {path}")
        _say(textwrap.indent(text, "   | ", lambda _line: True))
    config = load(main)
    plan = host.inside(lambda: list(describe(config, look(config, Netlink()))))
    _say(textwrap.indent("\n".join(plan), "   ") + "\n")
    return main


def _send_everything(left: Host, right: Host, daemons: Sequence[Daemon]) -> list[_Check]:
    def echo(host: Host, source: str, destination: str) -> Callable[[], _Check]:
        return lambda: _echo_check(
            f"ping {source} -> {destination}",
            ping(host, destination, source=source, count=_PINGS),
        )

    def group() -> _Check:
        result = multicast(left, right, "Tunnel-1", count=_DATAGRAMS)
        return _Check(
            "multicast 10.1.2.1 -> 239.47.0.1", result.sent, result.received, "joined on right"
        )

    def stream() -> _Check:
        result = transfer(
            left, right, "20.1.3.1", source="20.1.2.1", size=_TRANSFER, timeout=_MOVE_S
        )
        note = f"SHA-256 {result.received_hash[:8]}... in {result.seconds:.2f} s"
        if not result.intact:
            note = "SHA-256 differs" if result.received == _TRANSFER else "incomplete"
        check = _Check("TCP bytes 20.1.2.1 -> 20.1.3.1", _TRANSFER, result.received, note)
        check.passed = check.passed and result.intact
        return check

    checks = []
    for attempt in (
        echo(left, "10.1.2.1", "10.1.2.2"),
        echo(right, "10.1.2.2", "10.1.2.1"),
        echo(left, "20.1.2.1", "20.1.3.1"),
        echo(right, "20.1.3.1", "20.1.2.1"),
        group,
        stream,
    ):
        check = attempt()
        _say(f"   {check.what}: {check.received} of {check.sent}")
        for daemon in daemons:
            daemon.check()
        checks.append(check)
    return checks


def _echo_check(what: str, result: EchoResult) -> _Check:
    times = [seconds * 1000 for seconds in result.round_trips]
    note = ""
    if times:
        note = f"rtt {min(times):.2f}/{sum(times) / len(times):.2f}/{max(times):.2f} ms"
    return _Check(what, result.sent, result.received, note)


def _stop(daemon: Daemon) -> bool:
    """Stop *daemon*; return whether it ended well and took its interfaces along."""
    status = daemon.stop()
    interfaces = daemon.host.ip("-br", "link", "show")
    _say(textwrap.indent(interfaces.rstrip(), "      "))
    clean = status == 0 and not any(name in interfaces for name in _TUNNELS)
    _say(f"   {daemon.host.name}: exit status {status}" + ("" if clean else ", FAILED"))
    return clean


def _show_logs(daemons: Iterable[Daemon]) -> None:
    _title("What the daemons said")
    for daemon in daemons:
        _say(f"   {daemon.host.name}:")
        _say(textwrap.indent(daemon.log().rstrip() or "(nothing)", "      "))


def _show(outcome: _Outcome) -> ExitCode:
    _title("Result")
    _show_checks(outcome.checks)
    _show_counters(outcome.counters)
    lost = sum(not check.passed for check in outcome.checks)
    if lost:
        _say(f"{lost} of {len(outcome.checks)} did not arrive whole.\n")
    if outcome.unclean:
        _say(f"{outcome.unclean} of 2 daemons did not stop as they should.\n")
    if lost or outcome.unclean:
        return ExitCode.FAILURE
    _say("Everything arrived.\n")
    return ExitCode.OK


def _show_checks(checks: Iterable[_Check]) -> None:
    rows = [("", "sent", "received", "loss", "")]
    for check in checks:
        loss = 100 * (check.sent - check.received) / check.sent
        verdict = check.note if check.passed else f"FAILED {check.note}"
        rows.append((check.what, str(check.sent), str(check.received), f"{loss:g}%", verdict))
    _table(rows)


def _show_counters(counters: dict[tuple[Host, str], dict[str, int]]) -> None:
    rows: list[tuple[str, ...]] = [
        ("interface", "tx packets", "tx bytes", "rx packets", "rx bytes", "dropped")
    ]
    for (host, tunnel), counts in counters.items():
        names = ("tx_packets", "tx_bytes", "rx_packets", "rx_bytes")
        dropped = counts["tx_dropped"] + counts["rx_dropped"]
        rows.append((f"{tunnel} {host.name}", *(str(counts[n]) for n in names), str(dropped)))
    _table(rows)
    _say(
        "   tx: from the host into the tunnel; rx: out of the tunnel. What one end sends, the\n"
        "   other receives; but an interface counts a run of TCP segments as one packet\n"
        "   (offload), and the two ends see different runs. Who joins a group tells the others\n"
        "   (IGMP).\n"
    )


def _table(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        first, *numbers = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        # words to the left, numbers to the right
        cells = [row[0].ljust(len(first)), *numbers]
        if len(row) == 5:
            cells[-1] = row[-1]
        _say(("   " + "  ".join(cells)).rstrip())
    _say("")


def _title(text: str) -> None:
    _say(f"\n{text}\n")


def _say(text: str) -> None:
    print(text, flush=True)


def _complain(text: str) -> None:
    print(f"gred demo: {text}", file=sys.stderr)
