"""Asks for the packet filters of this network namespace: nftables, and iptables-legacy beside it.

A program or a question that would have the kernel load a module is left out: what is not loaded has
no rules. What rules mean is read in nft.py and iptables.py; nothing is judged here.
"""

import os
from pathlib import Path

from gred.management.doctor import iptables, nft
from gred.management.doctor.facts import Firewall, Unseen
from gred.management.doctor.programs import ProgramError, find, run
from gred.management.doctor.ruleset import Chain, Ruleset

_MODULES = Path("/proc/modules")
_BUILT_IN = Path("/lib/modules", os.uname().release, "modules.builtin")
_NETWORK = Path("/proc/thread-self/net")


def firewall() -> Firewall:
    """Return all rules that can be seen."""
    return Firewall(nftables=_nftables(), iptables=_iptables())


def is_there(module: str) -> bool:
    """Tell whether the kernel has a module now: loaded, built in, or nobody can tell."""
    try:
        loaded = _MODULES.read_text()
    except OSError:
        return True  # a kernel without modules: what it has is built in
    if any(line.split(" ", 1)[0] == module for line in loaded.splitlines()):
        return True
    try:
        return f"/{module}.ko" in _BUILT_IN.read_text()
    except OSError:
        return True


def _nftables() -> Ruleset | Unseen:
    if not is_there("nf_tables"):
        return Ruleset()
    try:
        return nft.read(run("nft", "-j", "list", "ruleset"), run("nft", "-a", "list", "ruleset"))
    except ProgramError as error:
        return _nft_by_iptables() or Unseen(str(error))
    except (ValueError, KeyError, TypeError) as error:
        return Unseen(f"cannot read what nft prints: {error}")


def _nft_by_iptables() -> Ruleset | None:
    """Read what iptables shows of nftables, where there is no nft(8)."""
    if find("nft") is not None or find("iptables-nft-save") is None:
        return None
    try:
        return _saved({4: "iptables-nft-save", 6: "ip6tables-nft-save"})
    except ProgramError:
        return None


def _iptables() -> Ruleset | Unseen:
    listed = []
    for version, name in ((4, "ip_tables_names"), (6, "ip6_tables_names")):
        try:
            if (_NETWORK / name).read_text().split():
                listed.append(version)
        except FileNotFoundError:
            continue
        except OSError as error:
            return Unseen(f"{_NETWORK.name}/{name}: {error.strerror}")
    if not listed:
        return Ruleset()
    names = {4: "iptables-legacy-save", 6: "ip6tables-legacy-save"}
    if find(names[4]) is None:
        names = {4: "iptables-save", 6: "ip6tables-save"}  # before there were two
    try:
        return _saved({version: names[version] for version in listed})
    except ProgramError as error:
        return Unseen(str(error))


def _saved(programs: dict[int, str]) -> Ruleset:
    chains: list[Chain] = []
    for version, program in programs.items():
        chains += iptables.read(run(program), version).chains
    return Ruleset(tuple(chains))
