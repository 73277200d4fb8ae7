"""What is wrong with a host, from facts alone: what, why it matters, what mends it. Pure.

What could not be seen is no finding. What somebody may want so is a fact and no finding, unless
packets are lost by it.
"""

from dataclasses import replace

from gred.management.doctor.facts import Facts, Unseen
from gred.management.doctor.finding import Finding
from gred.management.doctor.firewall_findings import firewall_findings
from gred.management.doctor.host_findings import host_findings
from gred.management.doctor.tunnel_findings import tunnel_findings


def findings(facts: Facts) -> list[Finding]:
    """Return all findings: those of the host first, then those of each tunnel.

    Each once: what is the same for several tunnels is one.
    """
    found = [*host_findings(facts), *firewall_findings(facts)]
    if not isinstance(facts.tunnels, Unseen):
        underlays = {underlay.name: underlay for underlay in facts.underlays}
        for tunnel in facts.tunnels:
            found += tunnel_findings(tunnel, underlays, facts)
    tunnels: dict[Finding, dict[str, None]] = {}
    for finding in found:
        tunnels.setdefault(replace(finding, tunnels=()), {}).update(dict.fromkeys(finding.tunnels))
    return [replace(finding, tunnels=tuple(names)) for finding, names in tunnels.items()]
