"""Who holds a socket."""

import os
import socket
from pathlib import Path

from gred.control.kernel.holders import Process, holders


def test_our_own_socket_is_ours() -> None:
    with socket.socket(socket.AF_UNIX) as opened:
        inode = os.fstat(opened.fileno()).st_ino
        found = holders([inode])
    name = Path("/proc/self/comm").read_text().strip()
    assert found == {inode: Process(os.getpid(), name)}


def test_one_that_nobody_has_is_left_out() -> None:
    assert holders([1 << 60]) == {}
    assert holders([]) == {}


def test_where_processes_cannot_be_seen_nobody_holds_anything(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    assert holders([7], processes=tmp_path) == {}
    assert holders([7], processes=tmp_path / "none") == {}


def test_the_first_process_keeps_sockets_for_others(tmp_path: Path) -> None:
    for pid, name in (("1", "systemd"), ("70", "gred")):
        (tmp_path / pid / "fd").mkdir(parents=True)
        (tmp_path / pid / "fd" / "3").symlink_to("socket:[7]")
        (tmp_path / pid / "comm").write_text(f"{name}\n")
    assert holders([7], processes=tmp_path) == {7: Process(70, "gred")}
