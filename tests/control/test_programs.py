"""Real programs beside a real loop."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from gred.control import programs
from gred.control.programs import LINES_MAX, Program, printable
from tests.control.conftest import Run
from tests.waiting import until

LONG = 60.0


class Ran:
    """One program that is under way; made on a running loop."""

    def __init__(self, script: str, *, environment: dict[str, str] | None = None) -> None:
        self.lines: list[str] = []
        self.program = Program(
            asyncio.get_running_loop(),
            ["/bin/sh", "-c", script],
            environment or {},
            self.lines.append,
        )

    async def end(self) -> str:
        return await self.program.wait()


def test_what_it_writes_on_either_channel_is_told(run: Run) -> None:
    async def scenario() -> None:
        ran = Ran("echo one; echo two >&2; printf 'thr\\033[31mee\\r\\n\\tfour'")
        assert await ran.end() == ""
        assert ran.lines == ["one", "two", "thr\\x1b[31mee", " four"]
        assert ran.program.unheard == 0

    run(scenario())


def test_the_first_lines_are_told_and_the_others_counted(run: Run) -> None:
    async def scenario() -> None:
        ran = Ran(f"i=0; while [ $i -lt {LINES_MAX + 7} ]; do echo $i; i=$((i+1)); done")
        assert await ran.end() == ""
        assert ran.lines == [str(number) for number in range(LINES_MAX)]
        assert ran.program.unheard == 7

    run(scenario())


def test_megabytes_neither_stop_it_nor_stay(run: Run) -> None:
    async def scenario() -> None:
        ran = Ran("head -c 3000000 /dev/zero; echo; yes word | head -n 100000")
        assert await ran.end() == ""
        assert len(ran.lines) == LINES_MAX
        assert ran.lines[0].endswith("...")
        assert ran.program.unheard > 0

    run(scenario())


@pytest.mark.parametrize(
    ("script", "words"),
    [("exit 3", "exit status 3"), ("kill -SEGV $$", "ended by SIGSEGV"), ("true", "")],
)
def test_how_it_ended_is_told(run: Run, script: str, words: str) -> None:
    async def scenario() -> None:
        assert await Ran(script).end() == words

    run(scenario())


def test_what_is_not_there_is_an_error_and_leaves_no_descriptor(run: Run, tmp_path: Path) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        before = descriptors()
        with pytest.raises(FileNotFoundError):
            Program(loop, [str(tmp_path / "none")], {}, print)
        (tmp_path / "data").touch()
        with pytest.raises(PermissionError):
            Program(loop, [str(tmp_path / "data")], {}, print)
        assert descriptors() == before
        assert await Ran("true").end() == ""
        assert descriptors() == before

    run(scenario())


def test_it_inherits_nothing(run: Run) -> None:
    """Neither descriptors, nor environment, nor what is done at signals, nor a terminal."""

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        open_to_heirs = os.open("/dev/null", os.O_RDONLY)
        os.set_inheritable(open_to_heirs, True)
        loop.add_signal_handler(signal.SIGUSR1, print)
        try:
            ran = Ran(
                # No pipe and no directory is opened to look.
                "i=0; while [ $i -lt 256 ]; do [ -e /proc/$$/fd/$i ] && printf '%s ' $i; i=$((i+1))"
                "; done; echo; readlink /proc/$$/fd/0; pwd; env | sort"
                "; ps -o sid= -p $$ | grep -qw $$ && echo leads"
                "; grep -E 'Sig(Blk|Ign)' /proc/self/status",
                environment={"GRED_STATE": "up", "PATH": "/usr/bin:/bin"},
            )
            assert await ran.end() == ""
        finally:
            os.close(open_to_heirs)
            loop.remove_signal_handler(signal.SIGUSR1)
        numbers, standard_input, place, *rest = ran.lines
        assert set(numbers.split()) - {"10", "255"} == {"0", "1", "2"}  # a shell's own
        assert (standard_input, place) == ("/dev/null", "/")
        told = [line for line in rest if "=" in line]
        assert set(told) <= {"GRED_STATE=up", "PATH=/usr/bin:/bin", "PWD=/", "_=/usr/bin/env"}
        assert "leads" in rest
        ignored = {one for one in signal.valid_signals() if signal.getsignal(one) is signal.SIG_IGN}
        restored = {signal.SIGPIPE, signal.SIGXFSZ}  # which the interpreter ignores
        mask = sum(1 << (number - 1) for number in ignored - restored)
        # The C library has two for itself, which nobody here can change: whoever started us did.
        known = sum(1 << (number - 1) for number in signal.valid_signals())
        masks = {
            line.split(":")[0]: int(line.split()[1], 16) & known for line in rest if "Sig" in line
        }
        assert masks == {"SigBlk": 0, "SigIgn": mask}

    run(scenario())


def test_at_its_time_it_is_told_to_end(run: Run) -> None:
    async def scenario() -> None:
        ran = Ran("trap 'echo goodbye; exit 0' TERM; echo ready; while :; do sleep 0.01; done")
        ran.program.end_in(LONG, "too long")
        await until(lambda: ran.lines == ["ready"])
        ran.program.end_in(0, "enough")
        ran.program.end_in(LONG, "later")
        assert await ran.end() == "enough"
        assert ran.lines[-1] == "goodbye"

    run(scenario())


def test_what_does_not_end_is_killed_with_what_it_started(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(programs, "GRACE_SECONDS", 0.05)

    async def scenario() -> None:
        ran = Ran("trap '' TERM; sleep 600 & echo $!; wait; sleep 600")
        await until(lambda: ran.lines)
        ran.program.end_in(0, "enough")
        assert await ran.end() == "enough"
        await until(lambda: is_gone(int(ran.lines[0])))

    run(scenario())


def test_what_ends_in_time_may_leave_something_behind(run: Run) -> None:
    """A descendant that holds the pipe keeps nobody."""

    async def scenario() -> None:
        ran = Ran("sleep 600 & echo $!")
        ran.program.end_in(LONG, "too long")
        assert await ran.end() == ""
        left = int(ran.lines[0])
        assert not is_gone(left)
        os.kill(left, signal.SIGKILL)

    run(scenario())


def test_nobody_who_waits_any_more_leaves_nothing(run: Run) -> None:
    async def scenario() -> None:
        before = descriptors()
        ran = Ran("echo $$; sleep 600")
        await until(lambda: ran.lines)
        waiting = asyncio.ensure_future(ran.end())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        assert waiting.cancelled()
        await until(lambda: is_gone(int(ran.lines[0])))
        await until(lambda: descriptors() == before)

    run(scenario())


def descriptors() -> set[Path]:
    return set(Path("/proc/self/fd").iterdir())


def is_gone(pid: int) -> bool:
    """Whether a process is none any more, or dead and not waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_a_line_is_one_line_whatever_is_in_it() -> None:
    assert printable(b"a\x00b\xff\xe2\x80\xa8c\r") == "a\\x00b\\xff\\u2028c"
    assert printable("é".encode() * 300) == "é" * 197 + "..."
