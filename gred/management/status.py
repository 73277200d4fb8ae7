"""``gred status``, ``events`` and ``reload``: what the daemon answers, for people and machines.

Formats what the control socket tells; nothing here decides, and nothing here opens a socket itself.
"""

import json
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from gred.control.errors import ExitCode
from gred.management.control.client import NoAnswerError, RefusedError, ask, complain
from gred.management.units import size, span

NOT_UP = 3  # exit code: a tunnel that was named is not up
# States that need nobody's hand; all others come first, and in red.
_WELL = {"up": "32", "disabled": "33"}


def status(path: Path, names: list[str], *, as_json: bool, watch: bool) -> int:
    """Print the state of the tunnels *names*, or of all; return the exit code.

    *watch*: again every second until interrupted.
    """
    while True:
        try:
            lines = list(ask(path, "status", tunnels=names, brief=not (names or as_json)))
        except (NoAnswerError, RefusedError) as error:
            return complain(error)
        tunnels = [line["tunnel"] for line in lines if "tunnel" in line]
        if as_json:
            print(json.dumps({"tunnels": tunnels, "daemon": lines[-1]["done"]}, indent=2))
        else:
            colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
            shown = _blocks(tunnels, colour=colour) if names else _table(tunnels, colour)
            text = "\n".join([*shown, *_waiting(lines[-1]["done"])])
            print(f"\x1b[H\x1b[2J{text}" if watch else text, flush=True)
        if not watch:
            break
        time.sleep(1.0)
    return NOT_UP if names and any(one["state"] != "up" for one in tunnels) else int(ExitCode.OK)


def events(path: Path, names: list[str], *, follow: bool, as_json: bool) -> int:
    """Print what happened lately, and with *follow* what happens; return the exit code."""
    try:
        for line in ask(path, "events", patience=None, tunnels=names, follow=follow):
            if "event" in line:
                told = line["event"]
                print(json.dumps(told) if as_json else _event(told), flush=True)
    except (NoAnswerError, RefusedError) as error:
        return complain(error)
    return int(ExitCode.OK)


def reload(path: Path, *, dry_run: bool, confirm: float | None) -> int:
    """Have the daemon read its configuration again; print what was done; return the exit code.

    *confirm*: seconds after which it goes back unless it is confirmed.
    """
    done: Mapping[str, Any] = {}
    try:
        for line in ask(path, "reload", patience=None, dry_run=dry_run, confirm=confirm):
            if "step" in line:
                print(line["step"]["text"])
                for term in line["step"].get("terms", ()):
                    print(f"  {term}")
            done = line.get("done", done)
    except (NoAnswerError, RefusedError) as error:
        return complain(error)
    for problem in done.get("problems", ()):
        print(f"gred: {problem}", file=sys.stderr)
    if done.get("problems"):
        print("gred: nothing was changed", file=sys.stderr)
    if done.get("detail"):
        print(done["detail"])
    if confirm is not None and not dry_run and not done.get("problems"):
        print(f"goes back in {span(confirm)} unless you type: gred confirm", flush=True)
    return int(done.get("exit_code", 0))


def confirm(path: Path) -> int:
    """Let what was reloaded stay; return the exit code."""
    try:
        *_, last = ask(path, "confirm")
    except (NoAnswerError, RefusedError) as error:
        return complain(error)
    if last["done"]["confirmed"]:
        return int(ExitCode.OK)
    print("gred: nothing waits to be confirmed: it has gone back, or stays", file=sys.stderr)
    return int(ExitCode.FAILURE)


# --- for people -----------------------------------------------------------------------------------


def _waiting(daemon: Mapping[str, Any]) -> Iterator[str]:
    left = daemon.get("confirm_within")
    if left is not None:
        yield f"the last reload goes back in {span(left)} unless you type: gred confirm"


def _table(tunnels: list[dict[str, Any]], colour: bool) -> Iterator[str]:
    """Yield one line for each tunnel, those in trouble first."""
    if not tunnels:
        yield "no tunnels"
        return
    ordered = sorted(tunnels, key=lambda one: (one["state"] in _WELL, one["name"]))
    width = max(len(one["name"]) for one in ordered)
    states = max(len(one["state"]) for one in ordered)
    for one in ordered:
        state = _painted(one["state"].ljust(states), one["state"], colour=colour)
        text = one["detail"] or _ends(one)
        yield f"{one['name'].ljust(width)}  {state}  {text}"


def _blocks(tunnels: list[dict[str, Any]], *, colour: bool) -> Iterator[str]:
    """Yield a block for each tunnel, with what is set and known."""
    for number, one in enumerate(tunnels):
        if number:
            yield ""
        yield f"{one['name']}: {_painted(one['state'], one['state'], colour=colour)}" + _for(one)
        for key, value in _facts(one):
            if value:
                yield f"  {key}: {value}"


def _facts(one: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    yield "why", one["detail"]
    yield "mode", f"{one['mode']} over IPv{one['family']}{_transport(one)}"
    yield "between", _ends(one)
    yield "key", _keys(one)
    yield "mtu", _mtu(one["mtu"])
    yield "ipsec", _ipsec(one.get("ipsec"))
    yield "addresses", ", ".join(one["addresses"])
    yield "routes", ", ".join(one["routes"])
    yield "interface", _interface(one)
    received = one["last_received"]
    yield "last received", "" if received is None else f"{span(received)} ago"
    sent, taken = size(one["tx_bytes"]), size(one["rx_bytes"])
    yield (
        "transfer",
        f"{taken} received ({one['rx_packets']} packets), {sent} sent ({one['tx_packets']})",
    )
    yield "lost on the way", _count(one["rx_lost"])
    for direction in ("rx", "tx"):
        drops = one[f"{direction}_drops"].items()
        yield f"{direction} drops", ", ".join(f"{reason} {count}" for reason, count in drops)
    for life in one["keepalives"]:
        yield f"keepalive {life['remote']}", _life(life)


def _transport(one: Mapping[str, Any]) -> str:
    if one.get("transport") != "udp":  # a daemon before it has none
        return ""
    here, there = one["port"], one["remote_port"]
    return f" in UDP, port {here}" + (f", to {there}" if there != here else "")


def _ends(one: Mapping[str, Any]) -> str:
    local = one["local"]
    if local == "any" and one["source"]:
        local = f"any ({one['source']})"
    remote = f"{one['peers']} peers" if one["remote"] == "any" and one["peers"] else one["remote"]
    return f"{local} -> {remote}"


def _keys(one: Mapping[str, Any]) -> str:
    taken, sent = one["input_key"], one["output_key"]
    if taken == sent:
        return "" if taken is None else str(taken)
    return f"{'none' if taken is None else taken} in, {'none' if sent is None else sent} out"


def _mtu(mtu: Mapping[str, Any]) -> str:
    parts = [str(mtu["interface"]), "configured" if mtu["configured"] is not None else "auto"]
    parts += [f"{name} {mtu[name]}" for name in ("route", "learned", "probed") if mtu[name]]
    return f"{parts[0]} ({', '.join(parts[1:])}, overhead {mtu['overhead']})"


def _ipsec(ipsec: Mapping[str, Any] | None) -> str:
    if ipsec is None:
        return ""
    state = str(ipsec["state"]).replace("_", " ")
    told = ipsec["detail"] if ipsec["state"] == "protected" else state
    return f"{told}, {'required' if ipsec['required'] else 'not required'}"


def _interface(one: Mapping[str, Any]) -> str:
    if one["index"] is None:
        return "none"
    parts = [f"index {one['index']}", "carrier" if one["carrier"] else "no carrier"]
    parts += [f"in {one['namespace']}"] if one["namespace"] else []
    parts += [f"offload {one['offload']}", f"packet socket {one['packet_socket']}"]
    return ", ".join(parts)


def _life(life: Mapping[str, Any]) -> str:
    since = "" if life["since"] is None else f" for {span(life['since'])}"
    trip = ""
    if life["mean"] is not None:
        times = (f"{1000 * life[name]:.2f}" for name in ("least", "mean", "greatest"))
        trip = f", rtt {'/'.join(times)} ms"
    return f"{life['life']}{since}{trip}, {life['lost']} of {life['asked']} lost"


def _for(one: Mapping[str, Any]) -> str:
    return "" if one["since"] is None else f" for {span(one['since'])}"


def _event(told: Mapping[str, Any]) -> str:
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(told["time"]))
    known = {"time", "event", "level", "tunnel"}
    fields = (f"{key}={value}" for key, value in told.items() if key not in known)
    who = [told["tunnel"]] if "tunnel" in told else []
    return " ".join((when, told["event"], *who, *fields))


def _painted(text: str, state: str, *, colour: bool) -> str:
    return f"\x1b[{_WELL.get(state, '31')}m{text}\x1b[0m" if colour else text


def _count(number: int) -> str:
    return f"{number} packets" if number else ""
