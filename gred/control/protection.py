"""Whether IPsec protects what a tunnel sends and receives, and what is wrong where it does not.

Pure: policies, associations and what a connected socket was told in; a verdict out. Of
IPsec=require it is the gate: what is not PROTECTED sends nothing. The block policies of gred itself
(shields.py) are below all others, and are no policies here.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum, unique

from gred.config.model import IPAddress
from gred.control.errors import words
from gred.control.kernel.shields import is_shield
from gred.control.kernel.xfrm import NO_STATE, Policy, State, Tables

_SEE = "ip xfrm policy"


@unique
class Guard(StrEnum):
    """What becomes of a packet to the other end."""

    NO_POLICY = "no_policy"  # it would leave in clear: nothing asks for IPsec, or not for all
    NO_SA = "no_sa"  # it has to wait: a policy asks, and there is no association yet
    PROTECTED = "protected"
    BLOCKED = "blocked"  # somebody forbids it, or what would protect it encrypts nothing


@dataclass(frozen=True, slots=True)
class Flow:
    """Whose packets: GRE from *local* (None: not known) to *remote*, as a tunnel sends it.

    *device*: index of the one that they leave through, 0: not known. *mtu*: of their route.
    """

    local: IPAddress | None
    remote: IPAddress
    device: int = 0
    mark: int = 0
    mtu: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Protection:
    """The verdict. *sentence*: what is wrong and what to do; empty where nothing is.

    *mtu*: the longest outer packet before ESP, in bytes. *cipher*, *mode*, *until* (second of the
    wall clock, None: for good) are of the association that is used; *templates* lead to it.
    """

    guard: Guard
    sentence: str = ""
    mtu: int | None = None
    cipher: str = ""
    mode: str = ""
    until: int | None = None
    templates: bytes = b""

    @property
    def summary(self) -> str:
        """Say it in a few words: ``protected (aes-gcm-128, ESP transport)``."""
        if self.guard is not Guard.PROTECTED:
            return _WORDS[self.guard]
        return f"protected ({self.cipher}, ESP {self.mode})"

    @property
    def words(self) -> str:
        """Say it with its end: ``protected (aes-gcm-128, ESP transport, until 18:04:05 UTC)``."""
        if self.until is None:
            return self.summary
        ends = datetime.fromtimestamp(self.until, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        return f"{self.summary[:-1]}, until {ends})"


_WORDS = {
    Guard.NO_POLICY: "no policy",
    Guard.NO_SA: "policy, no SA yet",
    Guard.BLOCKED: "blocked",
}
UNSEEN = Protection(
    guard=Guard.NO_POLICY,
    sentence="it is not known yet whether IPsec protects it: nothing leaves until then",
)


def unknown(error: OSError) -> Protection:
    """Return the verdict where the kernel does not say."""
    sentence = f"cannot see the IPsec policies of this host: {words(error)}"
    return Protection(guard=Guard.NO_POLICY, sentence=sentence)


def wants_ipsec(tables: Tables, flow: Flow) -> bool:
    """Tell whether what is sent is in IPsec, and can leave: only then a socket may ask for it."""
    policy = _outbound(tables, flow)
    return (
        policy is not None
        and policy.protects
        and tables.association(policy, flow.remote) is not None
    )


def judge(tables: Tables, flow: Flow, told: int | OSError) -> Protection:
    """Return what becomes of *flow*. *told*: what a socket connected to its remote was told."""
    there = f"GRE to {flow.remote}"
    policy = _outbound(tables, flow)
    if policy is None:
        return _open(
            f"no IPsec policy of this host asks for protection of {there}: does the IKE daemon"
            f" run, and has it a connection for {flow.remote} (swanctl --list-conns, {_SEE})?"
        )
    if policy.blocks:
        return _blocked(f"an IPsec policy of this host blocks {there} ({_SEE})")
    if not policy.protects:
        return _open(
            f"an IPsec policy of this host lets {there} pass in clear, as it has no template for"
            f" ESP or only an optional one ({_SEE})"
        )
    association = tables.association(policy, flow.remote)
    if association is None:
        return Protection(
            guard=Guard.NO_SA,
            sentence=f"an IPsec policy of this host asks for protection of {there}, and there is"
            " no SA yet: does the other end answer IKE, and agree (swanctl --list-sas,"
            " ip xfrm state)?",
        )
    if not association.cipher:
        return _blocked(f"the SA for {there} encrypts nothing (ip xfrm state)")
    arriving = _inbound(tables, flow)
    if arriving is None or not arriving.protects:
        return _open(
            f"no IPsec policy of this host asks for protection of GRE that {flow.remote} sends:"
            f" what arrives is refused ({_SEE})"
        )
    return _as_told(policy, association, flow, told)


def _as_told(policy: Policy, association: State, flow: Flow, told: int | OSError) -> Protection:
    """Return the verdict where the tables are well: what the kernel really does decides."""
    there = f"GRE to {flow.remote}"
    if isinstance(told, OSError):
        return _blocked(f"this host lets nobody send {there}: {words(told)} ({_SEE})")
    if told >= NO_STATE:
        return Protection(
            guard=Guard.NO_SA,
            sentence=f"the SA for {there} is not in use yet, or not any more (ip xfrm state)",
        )
    if flow.mtu is not None and told >= flow.mtu:
        return _open(
            f"{there} would leave in clear in spite of the IPsec policies of this host: is the"
            " device exempt from them (sysctl net.ipv4.conf.all.disable_xfrm)?"
        )
    return Protection(
        guard=Guard.PROTECTED,
        mtu=told,
        cipher=association.cipher,
        mode=association.mode,
        until=association.until,
        templates=b"".join(template.packed for template in policy.templates),
    )


def _outbound(tables: Tables, flow: Flow) -> Policy | None:
    found = tables.outbound(flow.local, flow.remote, mark=flow.mark, device=flow.device)
    return None if found is None or is_shield(found) else found


def _inbound(tables: Tables, flow: Flow) -> Policy | None:
    found = tables.inbound(flow.remote, flow.local)
    return None if found is None or is_shield(found) else found


def _open(sentence: str) -> Protection:
    return Protection(guard=Guard.NO_POLICY, sentence=sentence)


def _blocked(sentence: str) -> Protection:
    return Protection(guard=Guard.BLOCKED, sentence=sentence)
