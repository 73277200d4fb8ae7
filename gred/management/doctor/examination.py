"""The whole look: gathers facts, judges them, prints both. Whatever part of it breaks is said.

Nothing here asks the kernel or knows what a finding is.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from gred.config import Config, ConfigurationError, TunnelConfig, load
from gred.config.model import DaemonConfig
from gred.config.problems import display
from gred.control.errors import ExitCode
from gred.control.twins import Claim, claim
from gred.management import naming
from gred.management.doctor import filters, host, networkd, report, tunnels, unit
from gred.management.doctor.facts import Configuration, Facts, Tunnel, Unseen
from gred.management.doctor.findings import findings

T = TypeVar("T")


def doctor(path: Path, *, asked_for: bool, json: bool, root: Path = Path("/")) -> int:
    """Look, print, return the exit code.

    *asked_for*: whether the configuration was named, rather than the default. *root*: below it are
    the unit and systemd-networkd's files.
    """
    config, configuration = read(path, asked_for=asked_for)
    facts = gather(config, configuration, path, root)
    found = findings(facts)
    print(report.as_json(facts, found) if json else report.as_text(facts, found))
    if configuration.problems:
        return int(ExitCode.BAD_CONFIGURATION)
    return int(ExitCode.FINDINGS if found else ExitCode.OK)


def read(path: Path, *, asked_for: bool) -> tuple[Config, Configuration]:
    """Load *path*; without one, or where it may not be read, there are no tunnels to look at."""
    nothing = Config(daemon=DaemonConfig(), tunnels=())
    file = display(path)
    if refused := _refused(path):
        return nothing, Configuration(file=refused, read=False, unseen="Permission denied")
    if not asked_for and not path.exists():
        return nothing, Configuration(file=file, read=False)
    try:
        config = load(path)
    except ConfigurationError as error:
        problems = tuple(map(str, error.problems))
        return nothing, Configuration(file=file, read=False, problems=problems)
    notes = tuple(note for tunnel in config.tunnels for note in tunnel.notes)
    return config, Configuration(file=file, notes=notes)


def _refused(path: Path) -> str:
    """Return the file of the configuration that this user may not read; empty: there is none."""
    directory = path.parent / f"{path.stem}.conf.d"
    one = path
    try:
        path.open("rb").close()
        one = directory
        for one in sorted(directory.iterdir()):
            if one.suffix == ".conf":
                one.open("rb").close()
    except PermissionError:
        return display(one)
    except (OSError, ValueError):
        return ""  # to load it tells what is wrong
    return ""


def gather(config: Config, configuration: Configuration, path: Path, root: Path) -> Facts:
    """Return all facts; one that breaks is told as not seen."""
    names = naming.resolve(config)
    config = names.config
    seen = _try(lambda: tunnels.look(names, root))
    looked_at: tuple[Tunnel, ...] = () if isinstance(seen, Unseen) else seen
    underlays = _try(lambda: tunnels.underlays(looked_at))
    return Facts(
        configuration=configuration,
        tun=_try(host.tun),
        capabilities=_try(lambda: host.capabilities(config.tunnels)),
        codec=_try(host.implementation),
        kernel_gre=_try(host.kernel_gre),
        receivers=_try(lambda: host.other_receivers(*_claims(config.tunnels, looked_at))),
        firewall=_try(filters.firewall),
        buffers=_try(host.buffers),
        service=_try(lambda: unit.service(path, root)),
        networkd=(root / networkd.RUNS).exists(),
        underlays=() if isinstance(underlays, Unseen) else underlays,
        tunnels=seen,
    )


def _claims(
    configs: tuple[TunnelConfig, ...], looked_at: tuple[Tunnel, ...]
) -> tuple[list[tuple[str, Claim]], frozenset[str]]:
    local = {tunnel.name: tunnel.local for tunnel in looked_at}
    claims = [(config.name, claim(config, local.get(config.name))) for config in configs]
    return claims, frozenset(config.name for config in configs if config.mode == "gretap")


def _try(work: Callable[[], T]) -> T | Unseen:
    try:
        return work()
    except Exception as error:  # noqa: BLE001 - a broken part is said, and the others still are
        return Unseen(f"{type(error).__name__}: {error}")
