"""``gred convert``: what other tools configured, as gred.conf. One module for each dialect.

    ip_json      what ``ip -json -details link``, ``address`` and ``route`` print
    ip_commands  command lines of ip(8)
    networkd     .netdev and .network files
    cisco        ``interface Tunnel`` of IOS
    mikrotik     ``/interface gre add`` of RouterOS

Each reads text into drafts of tunnels (draft.py), with a remark for all that has no equivalent;
printing.py makes a configuration of them. Nothing here asks or changes this host.
"""
