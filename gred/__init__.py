"""gred: a GRE tunnel daemon for Linux that lives wholly in user space.

The map of the house. Three planes over one set of formats, as in a router:

    wire/        formats. Bytes <-> values, RFC by RFC. Pure.
    dataplane/   moves packets. Owns every descriptor that packets cross.
    control/     decides. One Tunnel object per configured tunnel.
      kernel/    asks and orders the kernel: netlink, namespaces, netfilter, devices.
    management/  people and machines that look at gred: command line, logs, service manager, demo.
    config/      INI text -> frozen, validated values.
    lab/         hosts, wires, traffic in network namespaces: for the demo, tests and benchmarks.

Imports point one way: management -> control -> dataplane -> wire; config and lab import nothing of
the others. What the data plane has to say upwards it hands to callbacks it was given.

A packet's way, egress:   TUN -> dataplane.io.read_frames -> dataplane.codec.order_frames
                          -> dataplane.codec.encapsulate -> dataplane.io.send_datagrams
                          -> raw socket, or packet socket behind one that went ahead
A packet's way, ingress:  raw socket -> dataplane.io.receive_datagrams
                          -> dataplane.codec.decapsulate
                          -> dataplane.io.write_frames -> TUN
Both ways are turned by dataplane.forwarder, bounded at each round of the loop: egress by turns
(dataplane.turns), ingress by one batch for each readiness. What is refused or fails on its way is
looked at by dataplane.losses.
"""

__version__ = "0.1.0"
