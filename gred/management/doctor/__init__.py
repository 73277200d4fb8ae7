"""``gred doctor``: what a host and its tunnels are, what is wrong with them, and what mends it.

It changes nothing and sends nothing, beside the daemon or without it, with root or with less. In
the order in which it goes:

    facts                      what can be known: values
      host, tunnels, unit      ask for them: what gred needs of the host, each tunnel, the service
      filters, networkd        packet filters; files of systemd-networkd
    findings                   facts -> what is wrong: each ``finding`` once. Pure
      host_findings, firewall_findings, tunnel_findings    by what is looked at
      ruleset                  what becomes of a packet in a filter; nft and iptables read them
    report                     facts and findings -> text, JSON. Pure
    examination                all of it

What cannot be seen is a fact ("could not see ..."), never a finding and never a traceback.
"""
