"""What gred says of a fault: the case, the judge, and many cases at the same time.

A sentence is the ``detail`` of a line of the log; counts of drops and a changed MTU are one, too.
A case is *named* at an end when one sentence there has all facts that it needs, *wrong* when some
sentence names another cause, or the state wavers while the fault lasts, *vague* when something is
said that lacks facts, *silent* when nothing is, and *quiet* where nothing is wrong and nothing is
said. *broken* is the case itself.
"""

import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from gred.lab.hosts import Lab
from gred.lab.interruptions import Interruptions
from tests.netns.scene import INNER, Change, End, Flow, Scene, Sender

BOUND_S = 25.0
SETTLE_S = 3.0  # from the right sentence on: for one that contradicts it
AT_ONCE = 16

LEFT_FLOW, RIGHT_FLOW = Flow("left", INNER["right"]), Flow("right", INNER["left"])
BOTH = (LEFT_FLOW, RIGHT_FLOW)

NONE = r"\b(none|nothing|no (answer|packet|reply|response|sign)s?|unanswered)\b"

# A cause by the words that blame it. A case forbids those that it is not about.
CAUSES = {
    "absent": r"runs nothing that takes|nothing there takes",
    "key": r"\bkeys?\b",
    "checksum": r"checksum",
    "sequence": r"sequence|not numbered|SerializeTunneledPackets",
    "loss": r"\blost\b|\bloss\b|\bloses\b",
    "order": r"out of order|reorder|\btwice\b|duplicate",
    "mode": r"gretap|ethernet frame|Mode=",
    "vendor": r"EoIP|PPTP|ERSPAN|WCCP|NVGRE|MPLS",
    "own firewall": r"a firewall here|dropped before gred|a firewall of this host|host'?s firewall",
    "refusal": r"prohibited|refuses (GRE|protocol 47|outer)|port unreachable",
    "ipsec": r"IPsec|xfrm",
    "ttl": r"\bTTL\b|time exceeded|routing loop|hop limit",
    "nat": r"\bNAT\b|translat",
    "mtu": r"\bMTU|too large|ICMP is filtered",
    "forwarding": r"forward",
    "rp_filter": r"rp_filter|reverse.path",
    "loop": r"into (the tunnel )?itself|\bloop\b",
    "route": r"no route|unreachable",
    "local": r"not an address of|none of this host|no_local|nobody here has",
    "twin": r"another gred|other receiver|takes the same",
    "interface": r"set down|deleted|is gone|removed",
    "both ends": r"same (inner )?address|both ends have",
    "overrun": r"faster than gred|receive buffer was full",
    "keepalive": r"keepalive",
}


@dataclass(frozen=True, slots=True)
class Says:
    """What the end must say: one sentence, in which each of *needs* is found.

    They are case-insensitive regular expressions. *wrong*: one that no sentence there may match,
    besides the causes that the case is not about.
    """

    end: str
    needs: tuple[str, ...]
    wrong: str = ""


@dataclass(frozen=True, slots=True)
class Fault:
    """One case: *plant* builds and breaks, *traffic* goes on, *says* must be said.

    *causes*: those of ``CAUSES`` that a true sentence may name, at either end. *calm*: ends at
    which the tunnels in *healthy* may know no state but ``up``. *excuse*: a sentence that is true
    for a while, and allowed at a calm end, which must be ``up`` in the end. *lasting*: a tunnel
    that says ``up`` after it has said what is wrong is wrong. *answered*: the traffic must be
    answered, or the case is none, but for that to the addresses in *unanswered*. *seconds*: how
    long the fault lasts at most. *change*: what a relay before left does to GRE frames from the
    right.
    """

    name: str
    group: str
    what: str
    plant: Callable[[Scene], object]
    says: tuple[Says, ...] = ()
    causes: frozenset[str] = frozenset()
    traffic: tuple[Flow, ...] = BOTH
    calm: tuple[str, ...] = ()
    healthy: tuple[str, ...] = ("t",)
    lasting: bool = True
    answered: bool = False
    excuse: str = ""
    unanswered: tuple[str, ...] = ()
    seconds: float = BOUND_S
    change: Callable[[], Change] | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """What came of a case at one end."""

    name: str
    end: str
    state: str
    sentence: str
    verdict: str

    @property
    def good(self) -> bool:
        return self.verdict in {"named", "quiet"}

    def __str__(self) -> str:
        return f"{self.name:32} {self.end:7} {self.verdict:7} {self.state:12} {self.sentence}"


Outcome = Future[list[Row]]


# -- the judge


def sentence(event: dict[str, Any]) -> str:
    """Return what *event* tells, or nothing."""
    name = event["event"]
    if name == "text":
        return ""
    detail = str(event.get("detail", ""))
    if name == "packet_refused":
        ends = f"{event.get('source')} to {event.get('destination')}"
        return f"{event.get('reason')} from {ends}: {detail}"
    if name in {"drops", "interface_drops", "path_mtu_changed", "mtu_changed"}:
        fields = ("rx_", "tx_", "path_mtu", "mtu", "before")
        counts = (f"{k} {v}" for k, v in event.items() if k.startswith(fields))
        return " ".join([*counts, detail]).strip()
    return detail


def _rank(event: dict[str, Any]) -> int:
    """Return the rank of evidence: the state first, single packets and counts last."""
    name = event["event"]
    if name.startswith("tunnel_"):
        return 0
    return 2 if name in {"packet_refused", "drops", "interface_drops"} else 1


def _states(events: Iterable[dict[str, Any]], tunnel: str) -> list[str]:
    return [
        event["event"].removeprefix("tunnel_")
        for event in events
        if event["event"].startswith("tunnel_") and event.get("tunnel") == tunnel
    ]


def naming(says: Says, events: Iterable[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the event of the highest rank whose sentence has all that *says* needs."""
    patterns = [re.compile(need, re.IGNORECASE) for need in says.needs]
    found = [e for e in events if all(pattern.search(sentence(e)) for pattern in patterns)]
    return min(found, key=_rank, default=None)


def blamed(fault: Fault, events: Iterable[dict[str, Any]], wrong: str = "") -> str:
    """Return the first sentence that names a cause which *fault* is not about."""
    others = [words for cause, words in CAUSES.items() if cause not in fault.causes]
    forbidden = re.compile("|".join([*others, *([wrong] if wrong else [])]), re.IGNORECASE)
    for event in events:
        told = sentence(event)
        is_ours = event["event"] not in {"icmp_error_ignored", "packet_refused"}
        if is_ours and (found := forbidden.search(told)):
            return f"{event['event']}: {told} [{found.group()}]"
    return ""


def wavers(states: list[str]) -> bool:
    """Whether a tunnel said that all is well after it had said what is not."""
    wrong = [number for number, state in enumerate(states) if state != "up"]
    return bool(wrong) and "up" in states[wrong[0] :]


def judge(fault: Fault, ends: dict[str, End], *, answered: bool) -> list[Row]:
    """Return a row for each end that must say something, that must not, or that said wrong."""
    rows = []
    logs = {name: end.events()[end.since :] for name, end in ends.items()}
    states = {name: _states(end.events(), "t") for name, end in ends.items()}
    last = {name: (found or ["-"])[-1] for name, found in states.items()}
    judged = set()
    for says in fault.says:
        judged.add(says.end)
        log = logs[says.end]
        told = [event for event in log if sentence(event)]
        named = naming(says, log)
        wrong = blamed(fault, log, says.wrong)
        if wrong:
            rows.append(Row(fault.name, says.end, last[says.end], wrong, "wrong"))
        elif fault.lasting and wavers(_states(log, "t")):
            way = " -> ".join(_states(log, "t"))
            rows.append(
                Row(fault.name, says.end, last[says.end], f"the state wavers: {way}", "wrong")
            )
        elif named:
            state = named["event"].removeprefix("tunnel_")
            rows.append(Row(fault.name, says.end, state, sentence(named), "named"))
        elif told:
            best = min(reversed(told), key=_rank)
            state = best["event"].removeprefix("tunnel_")
            rows.append(Row(fault.name, says.end, state, sentence(best), "vague"))
        else:
            rows.append(Row(fault.name, says.end, last[says.end], "", "silent"))
    for end in fault.calm:
        judged.add(end)
        said = [
            f"{event['event']}: {sentence(event)}"
            for event in logs[end]
            if event["event"].startswith("tunnel_") and event["event"] != "tunnel_up"
            if event.get("tunnel") in fault.healthy
            if not (fault.excuse and re.search(fault.excuse, sentence(event), re.IGNORECASE))
        ]
        wrong = blamed(fault, logs[end])
        text = said[0] if said else wrong
        if not text and last[end] != "up" and not (end == "left" and fault.excuse == NONE):
            text = f"in the end it is {last[end]}"
        rows.append(Row(fault.name, end, last[end], text, "wrong" if text else "quiet"))
    others = {end: blamed(fault, logs[end]) for end in sorted(set(ends) - judged)}
    rows += [
        Row(fault.name, end, last[end], wrong, "wrong") for end, wrong in others.items() if wrong
    ]
    if fault.answered and not answered:
        rows.append(
            Row(fault.name, "-", "-", "the traffic is not answered: no such case", "broken")
        )
    return rows


# -- a case


def run(fault: Fault, stop: threading.Event) -> list[Row]:
    """Build, break, wait for the sentences, judge: *fault.seconds* from the fault on at most."""
    with Lab(f"gf-{fault.name}") as lab:
        scene = Scene(lab, stop)
        try:
            scene.build(fault.change() if fault.change else None)
            fault.plant(scene)
            senders = [scene.flow(flow) for flow in fault.traffic]
            left = fault.seconds
            looked = 0.0
            for passed in scene.go_on(fault.seconds):
                if passed >= left:
                    break
                if passed - looked >= 0.5 and fault.says and not fault.calm:
                    looked = passed
                    if all(_is_named(says, scene.ends[says.end]) for says in fault.says):
                        left = min(left, passed + SETTLE_S)
            rows = judge(fault, scene.ends, answered=_is_answered(fault, senders))
            rows += _bugs(fault, scene)
            return rows
        finally:
            scene.close()


def _is_answered(fault: Fault, senders: Sequence[Sender]) -> bool:
    pairs = zip(fault.traffic, senders, strict=True)
    return all(sender.answered for flow, sender in pairs if flow.to not in fault.unanswered)


def _is_named(says: Says, end: End) -> bool:
    return naming(says, end.events()[end.since :]) is not None


def _bugs(fault: Fault, scene: Scene) -> Iterator[Row]:
    for name, end in scene.ends.items():
        for event in end.events():
            if event["event"] in {"text", "bug"}:
                yield Row(fault.name, name, "-", str(event), "broken")
                break


@contextmanager
def running(faults: Iterable[Fault]) -> Iterator[dict[str, Outcome]]:
    """Run *faults*, some at the same time; yield what will come of each. Main thread only."""
    stop = threading.Event()
    interruptions = Interruptions()
    interruptions.install()
    try:
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="fault") as pool:
            # the ones that wait longest come first
            order = sorted(faults, key=lambda fault: not fault.calm)
            futures = {fault.name: pool.submit(_run, fault, stop) for fault in order}
            try:
                yield futures
            finally:
                stop.set()
                pool.shutdown(cancel_futures=True)
    finally:
        interruptions.restore()


def _run(fault: Fault, stop: threading.Event) -> list[Row]:
    began = time.monotonic()
    try:
        return run(fault, stop)
    except Exception as error:
        seconds = time.monotonic() - began
        raise AssertionError(f"{fault.name} after {seconds:.0f} s: {error}") from error
