"""All commands of README in a fresh system, as they are written there.

Those of the service and of the newcomer's way are run in test_installation and test_guest, those
for who works on gred by whatever tries each commit.
"""

import subprocess
from pathlib import Path

import pytest

from tests import require
from tests.systemd import installation, readme, root

pytestmark = pytest.mark.timeout(300)
LOOK, FIRST, SERVICE, STATUS, DEVELOPING = (
    "See it work",
    "A first tunnel between two machines",
    "As a service",
    "How it is",
    "Developing",
)
CAPTURED = "make demo DEMO='--pcap gre.pcap'"
HOSTS = {"near": "192.168.1.10/24", "far": "192.168.1.13/24"}
WIRE = (
    *(f"ip netns add {name}" for name in HOSTS),
    "ip -n near link add under type veth peer under netns far",
    *(f"ip -n {name} address add {address} dev under" for name, address in HOSTS.items()),
    *(f"ip -n {name} link set under up" for name in HOSTS),
)
# ip-netns(8) gives each its own mounts; what gred says goes to a file.
START = """\
mkdir -p /tmp/{name}
cat >/tmp/{name}/{file} <<'END'
{text}END
ip netns exec {name} sh -exc 'mount --bind /tmp/{name} {directory}
{check}
exec {run}' >/tmp/{name}.log 2>&1 & pid_{name}=$!
"""
ANSWERED = """\
tries=300
until ip netns exec near ping -n -c 1 -W 1 10.1.2.2; do
    test $((tries -= 1)) -gt 0 || { cat /tmp/near.log /tmp/far.log; exit 1; }
    sleep 0.1
done
"""
END = "kill $pid_near $pid_far; wait $pid_near; wait $pid_far; cat /tmp/near.log /tmp/far.log"


@pytest.fixture(scope="module")
def system() -> root.Root:
    require.root()
    require.tun()
    if lack := root.missing():
        require.lacks(lack)
    found = root.find()
    assert found is not None
    return found


def test_no_section_has_commands_that_nobody_runs() -> None:
    assert list(readme.sections()) == [LOOK, FIRST, SERVICE, STATUS, DEVELOPING]


def test_what_is_for_developers_is_there() -> None:
    tried = (installation.REPOSITORY / ".ci/run").read_text()
    assert readme.commands(LOOK)[-1] == "make test"
    for command in readme.commands(DEVELOPING):
        make, target = command.split()[:2]
        assert make == "make"
        done = subprocess.run(
            ["make", "--dry-run", target],
            check=False,
            cwd=installation.REPOSITORY,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        if target in {"venv", "test", "lint", "sanitize"}:
            assert f"make {target}" in tried


@pytest.fixture(scope="module")
def built(system: root.Root, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """What the first commands of README wrote, and what they said."""
    upper = tmp_path_factory.mktemp("built") / "upper"
    *commands, last = readme.commands(LOOK)
    assert last == "make test"
    return upper, installation.run(system, upper, [*commands, CAPTURED])


def test_the_demonstration_runs(built: tuple[Path, str]) -> None:
    upper, output = built
    assert output.count("\nEverything arrived.\n") == 2, output
    assert f"`{CAPTURED}`" in (installation.REPOSITORY / "README.md").read_text()
    captured = upper / installation.SOURCE.relative_to("/") / "gre.pcap"
    assert captured.stat().st_size > 1000


def test_a_first_tunnel_between_two_machines(
    system: root.Root, built: tuple[Path, str], tmp_path: Path
) -> None:
    near, far = readme.sections()[FIRST]
    starts = []
    for name, block in zip(HOSTS, (near, far), strict=True):
        assert block.file is not None
        check, run = block.commands
        starts.append(
            START.format(
                name=name,
                file=block.file.name,
                directory=block.file.parent,
                text=block.text,
                check=check,
                run=run,
            )
        )
    commands = [f"mkdir -p {near.file.parent}" if near.file else "", *WIRE, *starts, ANSWERED, END]
    output = installation.run(system, tmp_path / "upper", commands, below=[built[0]])
    assert output.count("tunnel_up") == 2, output
