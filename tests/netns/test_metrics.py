"""Metrics of a real daemon: by HTTP and in a file, through reloads, beside packets."""

import itertools
import json
import socket
import threading
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gred.lab.hosts import Host
from gred.lab.traffic import ping
from gred.lab.waiting import wait_for
from tests import require
from tests.netns.daemons import Daemons, events, wait_for_event
from tests.netns.once import implementation  # noqa: F401 - control alone
from tests.netns.test_reload import config, configuration, index, reload

PORT = 10047

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def get(host: Host, path: str, at: str = f"127.0.0.1:{PORT}", accept: str = "") -> tuple[int, str]:
    """Return status and body of what is asked inside *host*."""
    if at.startswith("/"):
        where: str | tuple[str, int] = at
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    else:
        address, _colon, port = at.rpartition(":")
        family = socket.AF_INET6 if "[" in address else socket.AF_INET
        client = host.socket(family, socket.SOCK_STREAM)
        where = address.strip("[]"), int(port)
    with client:
        client.settimeout(10)
        client.connect(where)
        client.sendall(f"GET {path} HTTP/1.1\r\nAccept: {accept}\r\n\r\n".encode())
        told = b"".join(iter(lambda: client.recv(65536), b""))
    head, _blank, body = told.partition(b"\r\n\r\n")
    return int(head.split()[1]), body.decode()


def samples(text: str) -> Samples:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def scrape(host: Host, **where: str) -> Samples:
    status, text = get(host, "/metrics", **where)
    assert status == 200, text
    return samples(text)


def of(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return name, frozenset(labels.items())


def with_metrics(text: str, options: str = f"MetricsListen=127.0.0.1:{PORT}") -> str:
    return text.replace("[Daemon]\n", f"[Daemon]\n{options}\n")


def test_what_is_counted_is_scraped(hosts: tuple[Host, Host], daemons: Daemons) -> None:
    one, other = hosts
    near = daemons.start(one, with_metrics(config(0, "Keepalive=1s")))
    first = scrape(one)
    assert first[of("gred_tunnel_up", tunnel="t1")] == 1
    assert first[of("gred_tunnel_state", tunnel="t2", state="silent")] == 1
    assert first[of("gred_keepalive_up", tunnel="t2", remote="192.0.2.2")] == 0
    daemons.start(other, config(1))
    assert ping(one, "10.7.1.2").received == 3
    wait_for(lambda: scrape(one)[of("gred_tunnel_up", tunnel="t2")] == 1, "it is answered")
    told = scrape(one)
    assert told[of("gred_tunnel_transmit_packets_total", tunnel="t1")] >= 3
    assert told[of("gred_keepalive_rtt_seconds", tunnel="t2", remote="192.0.2.2", kind="mean")] > 0
    assert told[of("gred_tunnel_mtu_bytes", tunnel="t1", kind="interface")] == 1472
    assert first.keys() <= told.keys(), "a series vanished"
    assert get(one, "/healthz") == (200, "ok\n")
    assert get(one, "/ready") == (200, "2 tunnels: 2 up\n")
    assert get(one, "/else")[0] == 404
    near.stop()


def test_node_exporter_and_people_see_what_an_interface_is(
    hosts: tuple[Host, Host], daemons: Daemons
) -> None:
    one = hosts[0]
    near = daemons.start(one, config(0))
    before = "GRE 192.0.2.1 -> 192.0.2.2 key 2 (gred)"
    assert alias(one, "t2") == before
    number = index(one, "t2")
    reload(near, configuration(daemons, one), config(0).replace("Key=2", "Key=7"))
    wait_for(lambda: alias(one, "t2") == before.replace("key 2", "key 7"), "it says the new key")
    one.ip("link", "set", "t2", "alias", "uplink")
    reload(near, configuration(daemons, one), config(0, "TTL=9").replace("Key=2", "Key=7"))
    wait_for_event(near, "tunnel_changed", detail="TTL=64 -> 9")
    assert (alias(one, "t2"), index(one, "t2")) == ("uplink", number)


def alias(host: Host, name: str) -> str:
    found: str = json.loads(host.ip("-json", "link", "show", name))[0].get("ifalias", "")
    return found


def test_a_reload_begins_moves_and_ends_it(
    hosts: tuple[Host, Host], daemons: Daemons, tmp_path: Path
) -> None:
    one = hosts[0]
    path = tmp_path / "metrics.sock"
    near = daemons.start(one, config(0))
    file = configuration(daemons, one)
    with pytest.raises(ConnectionRefusedError):
        scrape(one)
    reload(near, file, with_metrics(config(0), f"MetricsListen=[::1]:{PORT}"))
    first = scrape(one, at=f"[::1]:{PORT}")
    reload(near, file, with_metrics(config(0, "Offload=no"), f"MetricsListen=unix:{path}"))
    assert first.keys() <= scrape(one, at=str(path)).keys(), "a series vanished"
    with pytest.raises(ConnectionRefusedError):
        scrape(one, at=f"[::1]:{PORT}")
    reload(near, file, config(0))
    assert not path.exists()


def test_no_series_vanishes_while_tunnels_are_made_anew(
    hosts: tuple[Host, Host], daemons: Daemons
) -> None:
    """What Offload= changes is another interface: the tunnel is taken down and brought up again."""
    one = hosts[0]
    near = daemons.start(one, with_metrics(config(0, "Keepalive=1s")))
    file = configuration(daemons, one)
    first = scrape(one).keys()
    lacking, ended = [], threading.Event()

    def ask() -> None:
        for number in itertools.count():
            if ended.is_set():
                return
            # Another form each time: nobody else's text is handed out.
            status, text = get(one, "/metrics", accept=f"text/plain;q=0.{number}")
            lacking.append((status, first - samples(text).keys()))

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        for word in ("no", "auto") * 4:
            text = config(0, f"Offload={word}\nKeepalive=1s", f"Offload={word}")
            reload(near, file, with_metrics(text))
    finally:
        ended.set()
        asking.join()
    assert len(lacking) > 8
    assert {status for status, _series in lacking} == {200}
    assert not any(series for _status, series in lacking)


def test_an_address_that_is_taken_is_told_once(
    hosts: tuple[Host, Host], daemons: Daemons, tmp_path: Path
) -> None:
    one, other = hosts
    with one.socket(socket.AF_INET, socket.SOCK_STREAM) as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", PORT))
        taken.listen()
        near = daemons.start(one, with_metrics(config(0)))
        daemons.start(other, config(1))
        line = wait_for_event(near, "metrics_failed")
        assert line["detail"].startswith(f"no metrics at 127.0.0.1:{PORT}: Address already in use")
        assert ping(one, "10.7.1.2").received == 3
    near.stop()
    assert [event["event"] for event in events(near)].count("metrics_failed") == 1


def test_a_file_for_node_exporter(
    hosts: tuple[Host, Host], daemons: Daemons, tmp_path: Path
) -> None:
    """Which is another user; and gred has the capabilities and the umask of the service."""
    one = hosts[0]
    file = tmp_path / "gred.prom"
    setpriv = require.program("setpriv", package="util-linux")
    kept = "-all,+net_admin,+net_raw"
    limits = [setpriv, f"--bounding-set={kept}", f"--inh-caps={kept}", "--no-new-privs"]
    wrapper = ["sh", "-c", 'umask 077; exec "$@"', "sh", *limits]
    near = daemons.start(one, with_metrics(config(0), f"MetricsTextfile={file}"), wrapper=wrapper)
    wait_for(file.exists, "it is written")
    told = samples(file.read_text())
    assert of("gred_tunnel_up", tunnel="t1") in told
    assert told[of("gred_metrics_written_timestamp_seconds")] > 0
    assert not [name for name, _labels in told if name.startswith("process_")]
    assert file.stat().st_mode & 0o777 == 0o644
    assert [one.name for one in tmp_path.iterdir()] == ["gred.prom"]
    near.stop()
    assert not file.exists(), "nobody writes it anymore"
