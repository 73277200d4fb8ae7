"""Where a namespace is, and who enters it."""

import errno
import threading
from pathlib import Path

import pytest

from gred.control.kernel import namespaces
from gred.control.kernel.namespaces import inside, namespace_path


@pytest.fixture
def named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(namespaces, "NAMED", tmp_path)
    return tmp_path


def test_a_name_is_under_the_directory_of_names(named: Path) -> None:
    assert namespace_path("blue") == named / "blue"


def test_a_path_stays_what_it_is(named: Path) -> None:
    assert namespace_path("/proc/1/ns/net") == Path("/proc/1/ns/net")


def test_a_number_is_a_process_unless_it_is_a_name(named: Path) -> None:
    assert namespace_path("4711") == Path("/proc/4711/ns/net")
    (named / "4711").touch()
    assert namespace_path("4711") == named / "4711"


def test_without_a_namespace_work_is_done_right_here() -> None:
    assert inside(None, threading.current_thread) is threading.current_thread()


def test_a_namespace_that_is_not_there_is_no_entry(named: Path) -> None:
    with pytest.raises(FileNotFoundError):
        inside("nowhere", lambda: None)


def test_a_file_that_is_no_namespace_is_refused(named: Path) -> None:
    (named / "file").touch()
    with pytest.raises(OSError) as caught:  # noqa: PT011 - the number is looked at
        inside("file", lambda: None)
    assert caught.value.errno in {errno.EINVAL, errno.EPERM}  # EPERM: not root


def test_descriptors_do_not_pile_up(named: Path) -> None:
    (named / "file").touch()
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(10):
        with pytest.raises(OSError):  # noqa: PT011 - any will do
            inside("file", lambda: None)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
