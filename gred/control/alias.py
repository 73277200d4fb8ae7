"""What an interface is, in a few words: they stand in ip link, SNMP and node_exporter. Pure."""

from gred.config.model import TunnelConfig

_LONGEST = 255  # bytes: IFALIASZ less the terminating NUL. linux/if.h


def alias(config: TunnelConfig) -> str:
    """Return it, from what is configured alone: ``GRE 192.0.2.1 -> 192.0.2.2 key 5 (gred)``."""
    local = f"%{config.local_interface}" if config.local_interface else config.local or "any"
    remote = config.remote or (f"{len(config.peers)} peers" if config.peers else "any")
    text = f"{config.mode.upper()} {local} -> {remote}{_keys(config)}"
    if config.transport == "udp":
        text += f" in UDP to {config.remote_port}"
    return f"{text} (gred)"[:_LONGEST]


def _keys(config: TunnelConfig) -> str:
    taken, sent = config.input_key, config.output_key
    if taken == sent:
        return "" if taken is None else f" key {taken}"
    return "".join(
        f" {word} {key}" for word, key in (("ikey", taken), ("okey", sent)) if key is not None
    )
