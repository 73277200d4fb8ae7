"""What the service does besides moving packets, as its user and within its sandbox.

One function for each cell, by its name, as in checks.
"""

import contextlib
import json
import socket
import struct
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from tests.systemd.guest.service import configured, details, until
from tests.systemd.guest.system import INNER, OUTER, log, messages, pings, run

_MEMBER = ("setpriv", "--reuid=65534", "--regid=gred", "--clear-groups")
_OUTSIDER = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
_RUNTIME = Path("/run/gred")
_UP = 'gred_tunnel_up{tunnel="tunnel"} 1.0'
_ASK = """\
import socket, sys
with socket.socket(socket.AF_UNIX) as asking:
    asking.connect(sys.argv[1])
    asking.sendall(b"GET /metrics HTTP/1.0\\r\\n\\r\\n")
    sys.stdout.write(asking.makefile("rb").read().decode())
"""


def metrics_are_had() -> str:
    """By TCP, at a socket of the group, and in a file that node_exporter can read by a link.

    All as docs/monitoring.md has it; what the service cannot have is told with what would help.
    """
    path, file = _RUNTIME / "metrics.sock", _RUNTIME / "gred.prom"
    link = Path("/var/lib/prometheus/node-exporter/gred.prom")
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(file)
    with configured(f"[Daemon]\nMetricsListen=127.0.0.1:10047\nMetricsTextfile={file}\n"):
        text = _get("http://127.0.0.1:10047/metrics")
        assert _UP in text, text
        assert _get("http://127.0.0.1:10047/ready").startswith("1 tunnel: 1 up")
        until(link.exists)
        assert _UP in run(*_OUTSIDER, "cat", str(link))
        link.unlink()
        run("chown", "gred", str(link.parent))  # there itself it may not write all the same
        with configured(f"[Daemon]\nMetricsListen=unix:{path}\nMetricsTextfile={link}\n"):
            ask = ("python3", "-c", _ASK, str(path))
            assert _UP in run(*_MEMBER, *ask)
            refused = run(*_OUTSIDER, *ask, check=False)
            assert "Permission denied" in refused, refused
            until(lambda: bool(details("metrics_failed")))
            (said,) = details("metrics_failed")
            assert "/run/gred of the service is such a one" in said, said
            assert not link.exists()
            assert not file.exists()
    assert not path.exists()
    assert not file.exists()
    return f"{len(text)} characters; {said}"


def _get(url: str) -> str:
    """Return what is at *url*, as soon as somebody listens there."""
    found: list[str] = []

    def answered() -> bool:
        with contextlib.suppress(urllib.error.URLError):
            found.append(urllib.request.urlopen(url, timeout=60).read().decode())  # noqa: S310 - own
        return bool(found)

    until(answered)
    return found[0]


_HOOK = """\
#!/bin/sh
# A line for each thing that it may do or not, by docs/hooks.md.
try() { if "$@" >/dev/null 2>&1; then echo "may: $*"; else echo "may not: $*"; fi; }
echo "$GRED_HOOK of $GRED_TUNNEL as $(id -un)"
try ip route replace 10.77.0.0/16 dev "$GRED_TUNNEL"
try nft add table ip hooked
try tc qdisc replace dev "$GRED_TUNNEL" root pfifo limit 2000
try touch /run/gred/hooked
try touch /tmp/hooked
try touch /etc/hooked
try touch /var/lib/hooked
try ls /home/somebody
try ip netns exec peer true
try nsenter --net=/run/netns/peer true
try test "$(/usr/local/lib/suid-id -un)" = root
"""
_MAY = ("ip route", "nft add", "tc qdisc", "touch /run/gred/hooked", "touch /tmp/hooked")


def a_hook_runs_in_the_sandbox() -> str:
    """It changes the network as gred may, and nothing beyond what docs/hooks.md says."""
    home = Path("/home/somebody")
    hook, root = Path("/usr/local/lib/gred-hook"), Path("/usr/local/lib/suid-id")
    hook.write_text(_HOOK)
    hook.chmod(0o755)
    home.mkdir()
    try:
        run("install", "--mode=4755", "/usr/bin/id", str(root))
        with configured(tunnel=f"PostUp={hook}\n"):
            check = run("gred", "check", check=False)
            assert f"{hook}: " not in check, check
            until(lambda: bool(log("GRED_EVENT=hook_ended")))
            said = [str(entry["GRED_LINE"]) for entry in log("GRED_EVENT=hook_output")]
        assert said[0] == "PostUp of tunnel as gred", said
        may = [line.removeprefix("may: ") for line in said if line.startswith("may: ")]
        assert [line for line in may if not line.startswith(_MAY)] == [], said
        assert len(may) == len(_MAY), said
        assert "10.77.0.0/16" in run("ip", "route", "show", "dev", "tunnel"), said
        assert "table ip hooked" in run("nft", "list", "tables"), said
        assert "pfifo" in run("tc", "qdisc", "show", "dev", "tunnel"), said
        assert (_RUNTIME / "hooked").owner() == "gred", said
        assert not Path("/tmp/hooked").exists(), "its /tmp is its own"  # noqa: S108
    finally:
        run("nft", "delete", "table", "ip", "hooked", check=False)
        run("ip", "route", "delete", "10.77.0.0/16", check=False)
        run("tc", "qdisc", "delete", "dev", "tunnel", "root", check=False)
        (_RUNTIME / "hooked").unlink(missing_ok=True)
        home.rmdir()
        hook.unlink()
        root.unlink()
    return "; ".join(said)


_NAME = "far.example"


def a_name_is_followed() -> str:
    """From /etc/hosts; and where that has none from a name server, as nsswitch.conf says."""
    hosts, resolver = Path("/etc/hosts"), Path("/etc/resolv.conf")
    before = {path: path.read_text() if path.exists() else "" for path in (hosts, resolver)}
    with configured(tunnel="ResolveInterval=1s\n", remote=_NAME, wait=False):
        try:
            with _name_server() as answers:
                resolver.write_text("nameserver 127.0.0.1\n")
                answers[_NAME] = OUTER["peer"]
                until(lambda: _remote() == OUTER["peer"])
                assert pings(INNER["peer"], count=3) == 3, messages()
                hosts.write_text(f"{before[hosts]}\n{OUTER['silent']} {_NAME}\n")
                until(lambda: _remote() == OUTER["silent"])
                hosts.write_text(f"{before[hosts]}\n{OUTER['peer']} {_NAME}\n")
                until(lambda: _remote() == OUTER["peer"])
                assert pings(INNER["peer"], count=3) == 3, messages()
            return run("gred", "status", "tunnel")
        finally:
            for path, text in before.items():
                path.write_text(text)


def _remote() -> str | None:
    """Return the outer address of the other end."""
    told = json.loads(run("gred", "status", "--json", "tunnel", check=False))
    remote: str | None = told["tunnels"][0]["remote"]
    return remote


@contextlib.contextmanager
def _name_server() -> Iterator[dict[str, str]]:
    """Answer questions for IPv4 addresses of names, by the mapping; nothing else has an answer."""
    answers: dict[str, str] = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 53))
        thread = threading.Thread(target=_serve, args=(server, answers), daemon=True)
        thread.start()
        try:
            yield answers
        finally:
            with contextlib.suppress(OSError):  # there is no connection, and yet it wakes it
                server.shutdown(socket.SHUT_RDWR)
            thread.join(10)


def _serve(server: socket.socket, answers: dict[str, str]) -> None:
    """RFC 1035: header, the question as it came, and one record that points at its name."""
    while True:
        try:
            data, client = server.recvfrom(512)
        except OSError:
            return
        if not data:
            return
        end = data.index(0, 12)
        labels, place = [], 12
        while place < end:
            labels.append(data[place + 1 : place + 1 + data[place]].decode())
            place += 1 + data[place]
        (kind,) = struct.unpack_from("!H", data, end + 1)
        address = answers.get(".".join(labels)) if kind == 1 else None
        record = b""
        if address:
            record = struct.pack("!HHHIH", 0xC00C, 1, 1, 0, 4) + socket.inet_aton(address)
        head = data[:2] + struct.pack("!5H", 0x8580, 1, bool(record), 0, 0)
        server.sendto(head + data[12 : end + 5] + record, client)


def packets_are_watched() -> str:
    """By root and by members of the group; who may not is told what would help."""
    trace, file = ("gred", "trace", "-n", "2", "tunnel"), Path("/tmp/watched.pcapng")  # noqa: S108
    with _pinging():
        lines = run(*trace)
        (first, _second) = (line for line in lines.splitlines() if "x tunnel " in line)
        assert "ICMP echo-re" in first, lines
        run(*_MEMBER, "gred", "capture", "-n", "2", "-w", str(file), "tunnel")
        assert file.read_bytes().startswith(b"\x0a\x0d\x0d\x0a"), "pcapng"
        assert file.stat().st_mode & 0o777 == 0o600
        file.unlink()
    for command in (trace, ("gred", "capture", "-n", "2", "-w", str(file))):
        done = subprocess.run(
            [*_OUTSIDER, *command], check=False, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 77, done
        assert "use sudo, or be a member of group gred" in done.stderr, done
        assert not file.exists()
    return f"{first}; {done.stderr.strip()}"


@contextlib.contextmanager
def _pinging() -> Iterator[None]:
    command = ["ping", "-n", "-q", "-i", "0.2", INNER["peer"]]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait(60)
