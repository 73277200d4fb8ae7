"""What the names in Remote= stand for now: for those who look at a configuration, and run none.

Asks the host's resolver and waits a few seconds for it; changes nothing.
"""

import queue
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from gred.config.model import Config, IPAddress, TunnelConfig
from gred.control.names import describe_error, usable, version_wanted
from gred.control.resolver import Lookup, look_up

PATIENCE_SECONDS = 5.0

_Answer = list[IPAddress] | OSError


@dataclass(frozen=True, slots=True)
class Resolved:
    """A configuration with addresses for names, where there are any, and what the names have.

    *found*: by tunnel, all addresses that may be used. *unknown*: by tunnel, why there is none.
    """

    config: Config
    found: Mapping[str, Sequence[IPAddress]] = field(default_factory=dict)
    unknown: Mapping[str, str] = field(default_factory=dict)


def resolve(config: Config, ask: Lookup = look_up) -> Resolved:
    """Resolve the names in *config*, all at once."""
    wanted = {(one.remote_name, version_wanted(one)) for one in config.tunnels if one.remote_name}
    if not wanted:
        return Resolved(config)
    answers = _ask(wanted, ask)
    found: dict[str, Sequence[IPAddress]] = {}
    unknown: dict[str, str] = {}
    tunnels: list[TunnelConfig] = []
    for one in config.tunnels:
        if one.remote_name is not None:
            answer = answers.get((one.remote_name, version_wanted(one)), TimeoutError("no answer"))
            if isinstance(answer, OSError):
                unknown[one.name] = f"cannot resolve {one.remote_name}: {describe_error(answer)}"
            else:
                good, why = usable(one, answer)
                found[one.name] = good
                if not good:
                    unknown[one.name] = why
        addresses = found.get(one.name)
        tunnels.append(replace(one, remote=addresses[0]) if addresses else one)
    return Resolved(replace(config, tunnels=tuple(tunnels)), found, unknown)


def _ask(wanted: set[tuple[str, int]], ask: Lookup) -> dict[tuple[str, int], _Answer]:
    """Return the answers that come in time."""
    came: queue.SimpleQueue[tuple[tuple[str, int], _Answer]] = queue.SimpleQueue()

    def work(host: str, version: int) -> None:
        try:
            came.put(((host, version), ask(host, version)))
        except OSError as error:
            came.put(((host, version), error))

    for question in wanted:
        threading.Thread(target=work, args=question, daemon=True).start()
    end = time.monotonic() + PATIENCE_SECONDS
    answers: dict[tuple[str, int], _Answer] = {}
    while len(answers) < len(wanted):
        try:
            question, answer = came.get(timeout=max(0.0, end - time.monotonic()))
        except queue.Empty:
            break
        answers[question] = answer
    return answers
