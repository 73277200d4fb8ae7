"""IPsec=require under ESP by a kernel that has it: what protects comes and goes, in every order.

    here: gred ── under0 ── there: gred, and for one tunnel the kernel's GRE

While each step is taken the wire is captured: not one packet of protocol 47 may be on it. States
and policies are an administrator's (ip xfrm). For the virtual machine alone.
"""

import contextlib
import json
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from gred.lab.capture import Capture
from gred.lab.daemon import Daemon
from gred.lab.hosts import UNDERLAY, Host, Lab
from gred.lab.traffic import ping
from tests.interop.guest.beside import wait
from tests.interop.guest.laboratory import READY_S
from tests.netns import clear_text

# Name, ends, and net inside; the last one has the kernel at its other end.
TUNNELS = (
    ("four", "192.0.2.1", "192.0.2.2", 1),
    ("six", "2001:db8::1", "2001:db8::2", 2),
    ("kernel", "192.0.2.1", "192.0.2.3", 3),
)
GRED_THERE = TUNNELS[:2]
STEPS = (
    "gred first",
    "policies first",
    "policies flushed here",
    "policies flushed there",
    "all flushed under traffic",
    "a state deleted",
    "killed and started again",
    "reloaded",
    "the device is exempt",
    "a cipher that encrypts nothing",
    "the mtu follows",
    "clear text is not taken",
    "ends well",
)
_KEY = "0x" + "5a" * 64
_SHA = {"sha1": ("hmac(sha1)", 40, 96), "sha256": ("hmac(sha256)", 64, 128)}
_SHA["sha512"] = ("hmac(sha512)", 128, 256)


def gcm(bits: int = 128, check: int = 128) -> str:
    """Return an algorithm in the words of ip-xfrm(8)."""
    return f"aead rfc4106(gcm(aes)) {_KEY[: 2 + bits // 4 + 8]} {check}"


def cbc(digest: str, cipher: str = "cbc(aes)", key: str = _KEY[:34]) -> str:
    name, digits, cut = _SHA[digest]
    return f"enc {cipher} {key} auth-trunc {name} {_KEY[: 2 + digits]} {cut}"


CHACHA = f"aead rfc7539esp(chacha20,poly1305) {_KEY[:74]} 128"
NULL = cbc("sha256", "ecb(cipher_null)", "''")
IN_UDP = "encap espinudp 4500 4500 0.0.0.0"
# Algorithm, mode, encapsulation, MTU of a plain tunnel over IPv4 on a route of 1500 bytes.
TABLE = (
    (gcm(), "transport", "", 1442),
    (gcm(256), "transport", "", 1442),
    (CHACHA, "transport", "", 1442),
    (gcm(128, 64), "transport", "", 1450),
    (cbc("sha1"), "transport", "", 1434),
    (cbc("sha256"), "transport", "", 1434),
    (cbc("sha512"), "transport", "", 1418),
    (gcm(), "transport", IN_UDP, 1434),
    (cbc("sha256"), "transport", IN_UDP, 1418),
    (gcm(), "tunnel", "", 1422),
    (gcm(), "tunnel", IN_UDP, 1414),
    (cbc("sha256"), "tunnel", "", 1414),
    (cbc("sha256"), "tunnel", IN_UDP, 1398),
)


@dataclass
class Ipsec:
    """Two hosts, and the gred of each."""

    lab: Lab
    number: int = 0
    daemons: dict[Host, Daemon] = field(default_factory=dict)
    hosts: dict[Host, set[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.here, self.there = self.lab.host("here"), self.lab.host("there")
        self.lab.wire(self.here, self.there)
        for host, side in ((self.here, 1), (self.there, 2)):
            self.hosts[host] = {str(tunnel[side]) for tunnel in TUNNELS}
            for address in self.hosts[host]:
                host.address(f"{address}/{64 if ':' in address else 24}")
        ends = "local 192.0.2.3 remote 192.0.2.1"
        self.there.ip(*f"link add kernel type gre {ends}".split())
        self.there.ip("link", "set", "kernel", "up")
        self.there.address("10.9.3.2/24", "kernel")
        # The kernel's GRE knows no gate: its end is always protected.
        self.protect(self.there, TUNNELS[2:])

    # --- gred -------------------------------------------------------------------------------------

    def text(self, host: Host, options: str = "") -> str:
        side = 1 if host is self.here else 2
        text = "[Daemon]\nLogFormat=json\n"
        for name, *ends, net in TUNNELS if side == 1 else GRED_THERE:
            local, remote = ends if side == 1 else ends[::-1]
            text += f"[Tunnel {name}]\nLocal={local}\nRemote={remote}\nIPsec=require\n{options}\n"
            text += f"Address=10.9.{net}.{side}/24\n"
        return text

    def start(self, *hosts: Host) -> None:
        for host in hosts:
            path = self.lab.directory() / f"{host.name}.conf"
            path.write_text(self.text(host))
            daemon = self.daemons[host] = Daemon(self.lab, host, path)
            try:
                daemon.wait_ready(READY_S)
            except Exception as error:
                raise AssertionError(daemon.log()) from error

    def stop(self, *hosts: Host, number: int = signal.SIGTERM) -> None:
        for host in hosts:
            status = self.daemons[host].stop(number)
            assert status == (-number if number == signal.SIGKILL else 0), self.log()
            assert "Traceback" not in self.daemons[host].log(), self.log()

    def log(self) -> str:
        return "\n".join(f"{host.name}:\n{one.log()}" for host, one in self.daemons.items())

    def events(self, host: Host) -> list[dict[str, Any]]:
        lines = self.daemons[host].log().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def states(self, host: Host) -> dict[str, str]:
        """Return what was said last of each tunnel, less the word tunnel."""
        told = [event for event in self.events(host) if event["event"].startswith("tunnel_")]
        return {
            event["tunnel"]: event["event"].removeprefix("tunnel_")
            for event in told
            if event["event"] != "tunnel_changed"
        }

    def wait_for(self, what: str, *hosts: Host) -> None:
        """Wait until all tunnels are *what*: unprotected, or open."""
        shut = {"unprotected", "down"}
        for host in hosts or (self.here, self.there):
            wait(
                lambda host=host: all(  # type: ignore[misc]
                    (state in shut) is (what == "unprotected")
                    for state in self.states(host).values()
                ),
                what,
                self.daemons[host],
            )

    # --- ip xfrm ----------------------------------------------------------------------------------

    def protect(
        self,
        host: Host,
        tunnels: tuple[tuple[str, str, str, int], ...] = TUNNELS,
        how: str = "",
        mode: str = "transport",
        encapsulation: str = "",
    ) -> None:
        """Add states and policies for what *host* sends and receives."""
        lines = []
        for _name, near, far, net in tunnels:
            for source, destination, request in ((near, far, 0x1000), (far, near, 0x2000)):
                ends = f"src {source} dst {destination}"
                state = f"{ends} proto esp spi {request + net + 16 * self.number} reqid {request}"
                lines.append(f"state add {state} mode {mode} {how or gcm()} {encapsulation}")
                direction = "out" if source == (near if host is self.here else far) else "in"
                template = f"tmpl {ends} proto esp reqid {request} mode {mode}"
                lines.append(f"policy update {ends} proto gre dir {direction} {template}")
        self.batch(host, lines)

    @staticmethod
    def expose(host: Host) -> None:
        """Flush all that there is."""
        host.ip("xfrm", "state", "flush")
        host.ip("xfrm", "policy", "flush")

    def protect_anew(
        self,
        how: str = "",
        mode: str = "transport",
        encapsulation: str = "",
        tunnels: tuple[tuple[str, str, str, int], ...] = TUNNELS,
    ) -> None:
        """Take all states away, and protect both by others."""
        for host in (self.here, self.there):
            host.ip("xfrm", "state", "flush")
        self.number += 1
        for host in (self.here, self.there):
            self.protect(host, tunnels, how, mode, encapsulation)

    def batch(self, host: Host, lines: list[str]) -> None:
        """Have ip-xfrm(8) do it all in one go: to start a program is dear, emulated."""
        path = self.lab.directory() / f"{host.name}.batch"
        path.write_text("".join(f"xfrm {line}\n" for line in lines))
        host.ip("-batch", str(path))

    def shields(self, host: Host) -> int:
        return host.ip("xfrm", "policy").count("action block priority 1735")

    def has_shields(self, host: Host) -> None:
        """All tunnels have theirs."""
        wanted = 2 * len(TUNNELS if host is self.here else GRED_THERE)
        assert self.shields(host) == wanted, host.ip("xfrm", "policy")

    # --- packets ----------------------------------------------------------------------------------

    def arrives(self, *tunnels: tuple[str, str, str, int]) -> None:
        for name, _near, _far, net in tunnels or TUNNELS:
            got = ping(self.here, f"10.9.{net}.2", count=3, timeout=8.0).received
            assert got == 3, f"{name}: {got} of 3\n{self.log()}"

    def nothing_arrives(self) -> None:
        for name, _near, _far, net in TUNNELS:
            got = ping(self.here, f"10.9.{net}.2", count=2, timeout=0.3).received
            assert not got, f"{name}: {got} of 2\n{self.log()}"

    @contextlib.contextmanager
    def traffic(self) -> Iterator[None]:
        """Ping all tunnels from both ends, meanwhile."""
        loads = [
            host.start(
                ["ping", "-q", "-i", "0.05", "-W", "1", f"10.9.{net}.{far}"],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            for host, far in ((self.here, 2), (self.there, 1))
            for _name, _near, _far, net in (TUNNELS if host is self.here else GRED_THERE)
        ]
        yield
        for load in loads:
            load.send_signal(signal.SIGINT)
            load.wait(20)


def gred_first(lab: Ipsec) -> None:
    lab.start(lab.here, lab.there)
    lab.wait_for("unprotected")
    lab.has_shields(lab.here)
    lab.nothing_arrives()
    lab.protect(lab.here)
    lab.protect(lab.there, GRED_THERE)
    lab.wait_for("open")
    lab.arrives()


def policies_first(lab: Ipsec) -> None:
    lab.stop(lab.here, lab.there)
    assert lab.shields(lab.here) == lab.shields(lab.there) == 0
    lab.start(lab.there, lab.here)
    lab.wait_for("open")
    assert not [one for one in lab.events(lab.here) if one["event"] == "tunnel_unprotected"]
    lab.arrives()
    up = [one for one in lab.events(lab.here) if one["event"] == "tunnel_up"]
    told = {one["tunnel"]: (one["mtu"], one["ipsec"], one["packet_socket"]) for one in up}
    words, off = "protected (aes-gcm-128, ESP transport)", "no (IPsec=require)"
    assert told["four"] == told["kernel"] == (1442, words, off), told


def policies_flushed_here(lab: Ipsec) -> None:
    _flush(lab, lab.here)


def policies_flushed_there(lab: Ipsec) -> None:
    _flush(lab, lab.there)


def _flush(lab: Ipsec, host: Host) -> None:
    # Of the kernel's end, which sends in clear as soon as nobody forbids it, this is no test.
    lab.there.ip("link", "set", "kernel", "down")
    with lab.traffic():
        for _ in range(2):
            host.ip("xfrm", "policy", "flush")
            lab.wait_for("unprotected", host)
            wait(lambda: lab.shields(host) >= 4, "shields", lab.daemons[host])
            host.ip("xfrm", "state", "flush")
            lab.protect(host)
            lab.wait_for("open", host)
    lab.there.ip("link", "set", "kernel", "up")
    lab.arrives()


def all_flushed_under_traffic(lab: Ipsec) -> None:
    with lab.traffic():
        lab.expose(lab.here)
        lab.wait_for("unprotected", lab.here)
        lab.nothing_arrives()
        lab.protect(lab.here)
        lab.wait_for("open", lab.here)
    lab.arrives()


def a_state_deleted(lab: Ipsec) -> None:
    for way in ("src 192.0.2.1 dst 192.0.2.2", "src 192.0.2.2 dst 192.0.2.1"):
        with lab.traffic():
            lab.here.ip(*f"xfrm state deleteall {way} proto esp".split())
            if "dst 192.0.2.2" in way:
                wait(
                    lambda: lab.states(lab.here)["four"] == "unprotected",
                    "unprotected",
                    lab.daemons[lab.here],
                )
            assert ping(lab.here, "10.9.1.2", count=2, timeout=0.5).received == 0
            lab.expose(lab.here)
            lab.protect(lab.here)
            lab.wait_for("open", lab.here)
        lab.arrives()


def killed_and_started_again(lab: Ipsec) -> None:
    with lab.traffic():
        for host in (lab.here, lab.there, lab.here):
            lab.stop(host, number=signal.SIGKILL)
            lab.has_shields(host)
            lab.start(host)
        lab.wait_for("open")
        lab.has_shields(lab.here)
        # The same with nothing that protects by the time it starts.
        lab.stop(lab.here, number=signal.SIGKILL)
        lab.expose(lab.here)
        lab.start(lab.here)
        lab.wait_for("unprotected", lab.here)
        lab.protect(lab.here)
        lab.wait_for("open", lab.here)
    lab.arrives()


def reloaded(lab: Ipsec) -> None:
    path = lab.lab.directory() / "here.conf"
    with lab.traffic():
        for options in ("TTL=33", "TTL=34\nKey=7", ""):
            before = len(lab.events(lab.here))
            path.write_text(lab.text(lab.here, options))
            lab.daemons[lab.here].send_signal(signal.SIGHUP)
            wait(
                lambda before=before: [  # type: ignore[misc]
                    one for one in lab.events(lab.here)[before:] if one["event"] == "reloaded"
                ],
                "reloaded",
                lab.daemons[lab.here],
            )
            lab.has_shields(lab.here)
    lab.wait_for("open", lab.here)
    lab.arrives()


def the_device_is_exempt(lab: Ipsec) -> None:
    """The kernel would send in clear whatever policies say."""
    with lab.traffic():
        lab.here.sysctl(f"net.ipv4.conf.{UNDERLAY}.disable_xfrm", "1")
        lab.here.ip("route", "flush", "cache")
        assert ping(lab.here, "10.9.2.2", count=3, timeout=8.0).received == 3, lab.log()
        ping(lab.here, "10.9.1.2", count=3, timeout=1.0)
        lab.here.sysctl(f"net.ipv4.conf.{UNDERLAY}.disable_xfrm", "0")
        lab.here.ip("route", "flush", "cache")
        lab.expose(lab.here)
        lab.protect(lab.here)
    lab.wait_for("open", lab.here)
    lab.arrives()


def a_cipher_that_encrypts_nothing(lab: Ipsec) -> None:
    lab.protect_anew(NULL)
    wait(
        lambda: "encrypts nothing" in lab.events(lab.here)[-1].get("detail", ""),
        "it is told",
        lab.daemons[lab.here],
    )
    lab.wait_for("unprotected")
    lab.nothing_arrives()
    lab.protect_anew()
    lab.wait_for("open")
    lab.arrives()


def the_mtu_follows(lab: Ipsec) -> None:
    for how, mode, encapsulation, mtu in TABLE:
        lab.protect_anew(how, mode, encapsulation, TUNNELS[:1])
        for host in (lab.here, lab.there):
            _wait_for_mtu(lab, host, mtu, f"{how} {mode}")
        if not encapsulation:  # to receive that takes a socket of an IKE daemon
            wait(
                lambda: ping(lab.here, "10.9.1.2", count=1, timeout=1.0).received,
                f"{how} {mode}: an answer",
                lab.daemons[lab.here],
            )
            got = ping(lab.here, "10.9.1.2", size=mtu - 28, count=3, timeout=8.0).received
            assert got == 3, f"{how} {mode}: {got} of 3\n{lab.log()}"
    drops = [one for one in lab.events(lab.here) if "tx_too_big" in one]
    assert not drops, drops
    lab.protect_anew()
    lab.wait_for("open")


def _wait_for_mtu(lab: Ipsec, host: Host, mtu: int, what: str) -> None:
    wait(lambda: _mtu(host) == mtu, f"{what}: {mtu}", lab.daemons[host])


def _mtu(host: Host) -> int:
    return int(json.loads(host.ip("-j", "link", "show", "dev", "four"))[0]["mtu"])


def clear_text_is_not_taken(lab: Ipsec) -> None:
    """Of who could send it; for this the wire is not looked at."""
    lab.stop(lab.there)
    lab.protect_anew()
    lab.wait_for("open", lab.here)
    before = lab.here.statistics("four")["rx_packets"]
    lab.there.ip("xfrm", "policy", "flush")
    lab.there.ip("xfrm", "state", "flush")
    ends = {socket.AF_INET: ("192.0.2.2", "192.0.2.1"), socket.AF_INET6: TUNNELS[1][2:0:-1]}
    inner = bytes.fromhex("0000080045000014000000004001") + bytes(10)

    def send() -> None:
        for family, (source, destination) in ends.items():
            with socket.socket(family, socket.SOCK_RAW, clear_text.GRE) as sender:
                sender.bind((str(source), 0))
                for _ in range(50):
                    sender.sendto(inner, (str(destination), 0))

    lab.there.inside(send)
    lab.here.ip("xfrm", "policy", "flush")
    lab.there.inside(send)
    lab.wait_for("unprotected", lab.here)
    lab.there.inside(send)
    assert lab.here.statistics("four")["rx_packets"] == before
    lab.start(lab.there)


def ends_well(lab: Ipsec) -> None:
    lab.stop(lab.here, lab.there)
    assert lab.shields(lab.here) == lab.shields(lab.there) == 0


UNWATCHED = {"clear text is not taken"}


def main(chosen: list[str]) -> int:
    """Take the steps, report each in JSON: its name, why it failed or nothing, what was seen."""
    with Lab("ipsec") as laboratory:
        laboratory.run(["modprobe", "-a", "ip_gre", "esp4", "esp6"])
        lab = Ipsec(laboratory)
        for step in chosen or STEPS:
            began, why = time.monotonic(), ""
            paths = {host: laboratory.directory() / f"{host.name}.pcap" for host in lab.hosts}
            with contextlib.ExitStack() as captures:
                for host, path in paths.items():
                    captures.enter_context(Capture(host, UNDERLAY, path))
                try:
                    globals()[step.replace(" ", "_")](lab)
                except Exception:  # noqa: BLE001 - the next step is taken all the same
                    why = traceback.format_exc()
            clear, esp = (
                sum(clear_text.count(path, one, lab.hosts[host]) for host, path in paths.items())
                for one in (clear_text.GRE, clear_text.ESP)
            )
            if clear and step not in UNWATCHED:
                why += f"\n{clear} packets in clear, beside {esp} of ESP\n{lab.log()}"
            seen = f"{clear} in clear, {esp} in ESP, {time.monotonic() - began:.1f} s"
            sys.stdout.write(f"{json.dumps([step, why, seen])}\n")
            sys.stdout.flush()
        sys.stderr.write(lab.log())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
