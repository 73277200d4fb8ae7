"""Drafts -> a configuration that gred takes, with all remarks as comments at their places.

What gred would refuse is printed as a comment, with the reason: what is left loads. Reads nothing.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from gred.config import Config, DaemonConfig, TunnelConfig, render_tunnel
from gred.config.verify import verify
from gred.management.convert.draft import Draft, Drafts


@dataclass(slots=True)
class Conversion:
    """A configuration, the *remarks* on it, a line each, and how many *tunnels* it has."""

    text: str = ""
    remarks: list[str] = field(default_factory=list)
    tunnels: int = 0


def convert(drafts: Drafts, source: str) -> Conversion:
    """Return *drafts* as a configuration; *source* is what the input is called."""
    accepted, refused = _verified([one.tunnel(source) for one in drafts.each() if not one.refused])
    by_name = {tunnel.name: tunnel for tunnel in accepted}
    done = Conversion(tunnels=len(accepted))
    parts = []
    for item in drafts.items:
        if not isinstance(item, Draft):
            done.remarks.append(_printable(f"{source}: {item}"))
            parts.append(f"# {_printable(str(item))}\n")
            continue
        where = f"{source}: [Tunnel {item.name}]"
        remarks = [_printable(str(remark)) for remark in item.remarks]
        if (tunnel := by_name.get(item.name)) is None:
            reasons = [
                f"gred refuses this: {_printable(one)}" for one in refused.get(item.name, [])
            ]
            remarks += reasons
            whole = render_tunnel(item.tunnel(source), comments=remarks)
            parts.append("".join(f"# {line}\n" for line in whole.splitlines()))
        else:
            parts.append(render_tunnel(tunnel, comments=remarks))
        done.remarks += [f"{where}: {remark}" for remark in remarks]
    done.text = "\n".join(parts)
    return done


def _verified(tunnels: list[TunnelConfig]) -> tuple[list[TunnelConfig], dict[str, list[str]]]:
    """Return the tunnels that can be configured together, and why each other one cannot."""
    refused: dict[str, list[str]] = {}
    while found := list(_problems(tunnels)):
        for name, reason in found:
            refused.setdefault(name, []).append(reason)
        tunnels = [tunnel for tunnel in tunnels if tunnel.name not in refused]
    return tunnels, refused


def _problems(tunnels: Iterable[TunnelConfig]) -> Iterator[tuple[str, str]]:
    """Yield the tunnel and the reason of each problem."""
    for problem in verify(Config(daemon=DaemonConfig(), tunnels=tuple(tunnels))):
        name = (problem.section or "").partition(" ")[2]
        yield name, ": ".join(filter(None, (problem.option, problem.message)))


def _printable(text: str) -> str:
    """Return *text* on one line, as it may stand in a file and on a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
