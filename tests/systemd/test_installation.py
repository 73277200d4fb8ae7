"""``make install`` by the lines of README, in a fresh system; test_guest runs what it installs."""

from pathlib import Path

import pytest

from tests import require
from tests.systemd import installation, root

pytestmark = pytest.mark.timeout(300)
AS_GRED = "setpriv --reuid=gred --regid=gred --init-groups --"


@pytest.fixture(scope="module")
def system() -> root.Root:
    require.root()
    if lack := root.missing():
        require.lacks(lack)
    found = root.find()
    assert found is not None
    return found


@pytest.fixture(scope="module")
def installed(system: root.Root, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the lines of README wrote."""
    upper = tmp_path_factory.mktemp("installed") / "upper"
    installation.run(system, upper, installation.service_lines())
    return upper


@pytest.fixture
def upper(tmp_path: Path) -> Path:
    return tmp_path / "upper"


def test_readme_has_the_lines() -> None:
    lines = installation.service_lines()
    assert lines[:2] == ["make install", "systemctl enable --now gred"]


def test_the_service_is_enabled(installed: Path) -> None:
    wants = installed / "etc/systemd/system/multi-user.target.wants/gred.service"
    assert wants.is_symlink()


def test_only_root_and_gred_read_the_configuration(installed: Path) -> None:
    users = (installed / "etc/passwd").read_text().splitlines()
    (group,) = [line.split(":")[3] for line in users if line.startswith("gred:")]
    status = (installed / "etc/gred/gred.conf").stat()
    assert (status.st_mode & 0o777, status.st_uid, status.st_gid) == (0o640, 0, int(group))


def test_its_user_can_run_it(system: root.Root, installed: Path, upper: Path) -> None:
    """Though root's umask was 077 while it was installed."""
    python = f"{AS_GRED} /opt/gred/bin/python -I"
    commands = [
        f"{AS_GRED} gred check",
        f"{python} -c 'from gred.dataplane import codec, io; print(codec.IMPLEMENTATION)'",
    ]
    output = installation.run(system, upper, commands, below=[installed])
    assert output.splitlines()[-1] == "c"


def test_uninstall_leaves_the_configuration(
    system: root.Root, installed: Path, upper: Path
) -> None:
    commands = [
        "make uninstall",
        "find / -xdev -name '*gred*' -not -path '/usr/local/src/*' -not -path '/proc/*'",
    ]
    output = installation.run(system, upper, commands, below=[installed])
    found = sorted(line for line in output.splitlines() if line.startswith("/"))
    assert found == ["/etc/gred", "/etc/gred/gred.conf", "/etc/gred/gred.conf.d"]


def test_a_staged_installation_touches_nothing_else(
    system: root.Root, installed: Path, upper: Path
) -> None:
    stage = "DESTDIR=/stage PREFIX=/srv/gred"
    commands = ["make uninstall", f"make install {stage}", "cat /stage/srv/gred/bin/gred"]
    output = installation.run(system, upper, commands, below=[installed])
    assert "#!/srv/gred/bin/python" in output
    unit = (upper / "stage/etc/systemd/system/gred.service").read_text()
    assert "\nExecStart=/srv/gred/bin/gred\n" in unit
    assert "/opt/gred" not in unit
    assert not (upper / "srv").exists()


def test_a_directory_of_others_is_no_prefix(
    system: root.Root, installed: Path, upper: Path
) -> None:
    with pytest.raises(installation.InstallationError, match="PREFIX is a directory for gred alo"):
        installation.run(system, upper, ["make install PREFIX=/usr"], below=[installed])
