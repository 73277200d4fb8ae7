"""Config -> INI text with every option written out, as it takes effect; a tunnel without defaults.

What comes out loads to an equal Config. Values come from here only through the option table.
"""

from collections.abc import Iterable, Iterator
from dataclasses import fields

from gred.config.model import Config, DaemonConfig, TunnelConfig
from gred.config.options import DAEMON_OPTIONS, TUNNEL_OPTIONS, Option


def render(config: Config) -> str:
    """Return *config* as the text of one file."""
    sections = [_section("Daemon", DAEMON_OPTIONS, config.daemon)]
    sections += [
        _section(f"Tunnel {tunnel.name}", TUNNEL_OPTIONS, tunnel) for tunnel in config.tunnels
    ]
    return "\n".join(sections)


def render_tunnel(tunnel: TunnelConfig, *, comments: Iterable[str] = ()) -> str:
    """Return the section of *tunnel*: *comments*, a line each, and what is not at its default."""
    entries = _entries(TUNNEL_OPTIONS, tunnel, defaults=False)
    lines = (f"[Tunnel {tunnel.name}]", *(f"# {comment}" for comment in comments), *entries)
    return "".join(f"{line}\n" for line in lines)


def _section(name: str, options: tuple[Option, ...], values: DaemonConfig | TunnelConfig) -> str:
    return "".join(f"{line}\n" for line in (f"[{name}]", *_entries(options, values)))


def _entries(
    options: tuple[Option, ...], values: DaemonConfig | TunnelConfig, *, defaults: bool = True
) -> Iterator[str]:
    """Write each field once: by the first option that can express it.

    The table has the option for both directions before those for one, so Key=42 is preferred to
    InputKey=42 and OutputKey=42. Without *defaults* only what is not at its default.
    """
    by_field = {field.name: getattr(values, field.name) for field in fields(values)}
    written: set[str] = set()
    for option in options:
        if written.isdisjoint(option.fields):
            text = option.write(by_field)
            if text is not None:
                written.update(option.fields)
                if defaults or text != option.default:
                    yield f"{option.name}={text}"
