"""gred in one network namespace with interfaces of the kernel's GRE; one report for each step.

    here: gred, and now and then the kernel ── under0 ── there: the kernel; or gred

For the virtual machine alone.
"""

import contextlib
import json
import re
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from gred.lab.daemon import Daemon
from gred.lab.hosts import Host, Lab
from gred.lab.traffic import ping
from tests.interop.guest.laboratory import READY_S

HERE, THERE, OTHER = "192.0.2.1", "192.0.2.2", "192.0.2.3"
HERE6, THERE6 = "2001:db8::1", "2001:db8::2"
COUNT = 4  # echo requests each time
# Name, type of ip-link(8) and its options, section of gred without addresses, net inside.
_TUNNELS = (
    ("t", "gre", f"{HERE} {THERE}", "key 7", "Key=7", 1),
    ("tap", "gretap", f"{HERE} {THERE}", "key 8", "Mode=gretap\nKey=8", 2),
    ("six", "ip6gre", f"{HERE6} {THERE6}", "encaplimit none", "", 3),
)
STEPS = (
    "twin at start",
    "twin deleted",
    "twin while running",
    "twin set down",
    "gretap twin",
    "ip6gre twin",
    "wider twin",
    "side by side",
    "gre0 up",
    "gre0 down",
    "peer is not refused",
    "ends well",
)
_TWIN = f"local {HERE} remote {THERE} key 7"


class Beside:
    """Two hosts, and the gred of each, if it has one."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self.here, self.there = lab.host("here"), lab.host("there")
        lab.wire(self.here, self.there)
        for host, addresses in ((self.here, (HERE, HERE6)), (self.there, (THERE, THERE6, OTHER))):
            for address in addresses:
                host.address(f"{address}/{64 if ':' in address else 24}")
            for name in ("all", "default"):
                host.sysctl(f"net.ipv4.conf.{name}.rp_filter", "0")
        for name, kind, ends, options, _section, net in _TUNNELS:
            ours, theirs = ends.split()
            self.link(self.there, name, kind, f"local {theirs} remote {ours} {options}")
            self.there.address(f"10.9.{net}.2/24", name)
        # There before gred: what it must find at its start.
        self.twin(1, "k", "gre", _TWIN)
        text = "[Daemon]\nLogFormat=json\n"
        for name, _kind, ends, _options, section, net in _TUNNELS:
            ours, theirs = ends.split()
            text += f"[Tunnel {name}]\nLocal={ours}\nRemote={theirs}\n{section}\n"
            text += f"Address=10.9.{net}.1/24\n"
        self.daemon = self.launch(self.here, text)

    def launch(self, host: Host, text: str) -> Daemon:
        """Start a gred on *host*; return it when it is ready."""
        path = Path(self._lab.directory()) / f"{host.name}.conf"
        path.write_text(text)
        daemon = Daemon(self._lab, host, path)
        try:
            daemon.wait_ready(READY_S)
        except Exception as error:
            raise AssertionError(daemon.log()) from error
        return daemon

    def link(self, host: Host, name: str, kind: str, options: str) -> None:
        """Make an interface of the kernel's GRE, up."""
        host.ip("link", "add", "name", name, "type", kind, *options.split())
        host.ip("link", "set", "dev", name, "up")

    def twin(self, net: int, name: str, kind: str, options: str) -> None:
        """Make one here that takes what gred's tunnel does, and let answers leave through it."""
        self.link(self.here, name, kind, options)
        self.here.ip("route", "add", f"10.9.{net}.2", "dev", name)

    def arrived(self, net: int = 1, *, answered: bool = True) -> int:
        """Return how many of COUNT echo requests from there arrive here, each copy counted.

        *answered*: whether the answers find their way back.
        """
        before = self.counted("InEchos")
        timeout = 10.0 if answered else 1.0
        got = ping(self.there, f"10.9.{net}.1", count=COUNT, timeout=timeout).received
        assert got == answered * COUNT, f"{got} of {COUNT} answered\n{self.daemon.log()}"
        # A second copy is handled before the answer to a later request, but for the last.
        ping(self.there, HERE, count=1)
        return self.counted("InEchos") - before - 1

    def events(self, name: str, **fields: Any) -> list[dict[str, Any]]:
        """Return gred's log lines *name* with these *fields*."""
        lines = [json.loads(x) for x in self.daemon.log().splitlines() if x.startswith("{")]
        return [x for x in lines if x["event"] == name and fields.items() <= x.items()]

    @contextlib.contextmanager
    def said(self, name: str, word: str = "", **fields: Any) -> Iterator[None]:
        """Wait, at the end of the block, until gred has said it once more, with *word* in it."""
        before = len(self.events(name, **fields))
        yield
        found = wait(lambda: self.events(name, **fields)[before:], f"{name} {fields}", self.daemon)
        assert word in found[0].get("detail", ""), found

    def counted(self, name: str) -> int:
        """Return what the kernel here has counted of ICMP, in the words of /proc/net/snmp."""
        text = self.here.inside(lambda: Path("/proc/thread-self/net/snmp").read_text())
        names, values = re.findall(r"^Icmp: (.*)$", text, re.MULTILINE)
        return int(dict(zip(names.split(), values.split(), strict=True))[name])


def wait(look: Callable[[], Any], what: str, daemon: Daemon) -> Any:
    """Return the first true value of *look*."""
    deadline = time.monotonic() + 30.0
    while not (found := look()):
        assert time.monotonic() < deadline, f"{what} did not come\n{daemon.log()}"
        time.sleep(0.05)
    return found


def twin_at_start(lab: Beside) -> None:
    (told,) = wait(lambda: lab.events("tunnel_twin", tunnel="t"), "tunnel_twin", lab.daemon)
    assert "the kernel's interface k takes the same packets" in told["detail"]
    assert not lab.events("tunnel_up", tunnel="t"), lab.daemon.log()
    assert lab.arrived() == COUNT
    assert lab.here.statistics("t")["rx_packets"] == 0, "they are the kernel's"


def twin_deleted(lab: Beside) -> None:
    with lab.said("tunnel_up", tunnel="t"):
        lab.here.ip("link", "del", "dev", "k")
    assert lab.arrived() == COUNT


def twin_while_running(lab: Beside) -> None:
    with lab.said("tunnel_twin", "the kernel's interface k takes the same packets", tunnel="t"):
        lab.twin(1, "k", "gre", _TWIN)
    assert lab.arrived() == COUNT
    assert lab.here.statistics("t")["rx_packets"] == COUNT, "of the step before"


def twin_set_down(lab: Beside) -> None:
    with lab.said("tunnel_up", tunnel="t"):
        lab.here.ip("link", "set", "dev", "k", "down")
    assert lab.arrived() == COUNT
    lab.here.ip("link", "del", "dev", "k")


def gretap_twin(lab: Beside) -> None:
    with lab.said("tunnel_up", tunnel="tap"):
        with lab.said("tunnel_twin", "interface ktap takes", tunnel="tap"):
            lab.link(lab.here, "ktap", "gretap", f"local {HERE} remote {THERE} key 8")
        lab.here.ip("link", "del", "dev", "ktap")
    assert lab.arrived(2) == COUNT


def ip6gre_twin(lab: Beside) -> None:
    with lab.said("tunnel_up", tunnel="six"):
        with lab.said("tunnel_twin", "interface ksix takes", tunnel="six"):
            options = f"local {HERE6} remote {THERE6} encaplimit none"
            lab.twin(3, "ksix", "ip6gre", options)
        assert lab.arrived(3) == COUNT
        lab.here.ip("link", "del", "dev", "ksix")
    assert lab.arrived(3) == COUNT


def wider_twin(lab: Beside) -> None:
    """The kernel's interface has no remote: it takes the packets of every one."""
    with lab.said("tunnel_up", tunnel="t"):
        with lab.said("tunnel_twin", "interface wide takes", tunnel="t"):
            lab.link(lab.here, "wide", "gre", f"local {HERE} key 7")
        assert lab.arrived(answered=False) == COUNT
        lab.here.ip("link", "del", "dev", "wide")


def side_by_side(lab: Beside) -> None:
    """Another key, another remote: each has its own packets, and nobody calls that an error."""
    links = (("keyed", 4, THERE, "key 9"), ("remote", 5, OTHER, ""))
    with lab.said("other_receiver", "the kernel"):
        for name, net, remote, options in links:
            lab.link(lab.here, name, "gre", f"local {HERE} remote {remote} {options}")
            lab.here.address(f"10.9.{net}.1/24", name)
            lab.link(lab.there, name, "gre", f"local {remote} remote {HERE} {options}")
            lab.there.address(f"10.9.{net}.2/24", name)
    twins = len(lab.events("tunnel_twin"))
    refused = len(lab.events("packet_refused"))
    for net in (1, 2, 3, 4, 5):
        assert lab.arrived(net) == COUNT, net
    found = lab.events("packet_refused")[refused:]
    assert not [x for x in found if x["reason"] != "foreign"], found
    assert len(lab.events("tunnel_twin")) == twins
    with lab.said("other_receiver_gone"):
        for name, *_ in links:
            lab.here.ip("link", "del", "dev", name)
            lab.there.ip("link", "del", "dev", name)


def gre0_up(lab: Beside) -> None:
    with lab.said("other_receiver", "gre0 is up"):
        lab.here.ip("link", "set", "dev", "gre0", "up")
    assert lab.arrived() == 2 * COUNT, "gre0 takes a copy of each: this is what gred warns of"


def gre0_down(lab: Beside) -> None:
    with lab.said("other_receiver_gone"):
        lab.here.ip("link", "set", "dev", "gre0", "down")
    assert lab.arrived() == COUNT


def peer_is_not_refused(lab: Beside) -> None:
    """The kernel here answers port unreachable to what gred takes; a gred there is not misled."""
    lab.there.ip("link", "del", "dev", "t")
    text = f"[Daemon]\nLogFormat=json\n[Tunnel t]\nLocal={THERE}\nRemote={HERE}\nKey=7\n"
    ours, lab.daemon = lab.daemon, lab.launch(lab.there, text + "Address=10.9.1.2/24\n")
    before = lab.counted("OutDestUnreachs")
    try:
        for _ in range(5):
            assert lab.arrived() == COUNT
        assert lab.counted("OutDestUnreachs") > before, "else this shows nothing"
        assert not lab.events("tunnel_refused"), lab.daemon.log()
    finally:
        lab.daemon.stop()
        lab.daemon = ours


def ends_well(lab: Beside) -> None:
    assert lab.daemon.stop() == 0
    drops = [event for event in lab.events("drops") if "rx_no_tunnel" in event]
    assert not drops, drops
    assert "Traceback" not in lab.daemon.log(), lab.daemon.log()


def main(chosen: list[str]) -> int:
    """Take the steps, report each in JSON: its name, why it failed or nothing, and seconds."""
    with Lab("beside") as laboratory:
        laboratory.run(["modprobe", "-a", "ip_gre", "ip6_gre"])
        lab = Beside(laboratory)
        for step in chosen or STEPS:
            began, why = time.monotonic(), ""
            try:
                globals()[step.replace(" ", "_")](lab)
            except Exception:  # noqa: BLE001 - the next step is taken all the same
                why = traceback.format_exc()
            line = json.dumps([step, why, round(time.monotonic() - began, 1)])
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()
        sys.stderr.write(lab.daemon.log())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
