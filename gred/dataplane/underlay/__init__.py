"""The underlay: what outer packets leave and arrive through.

One contract (contract.py), and behind it a file for each way:

    raw        raw sockets of IP protocol 47: the kernel routes each packet and builds its header
    bypass     a packet socket for those that follow a probe packet, past the host's routing
    udp        GRE-in-UDP: a socket for each port that is received from, and those that send
    groups     multicast groups that are received from
    sockets    how they are opened, on kernels that do not know every option
"""
