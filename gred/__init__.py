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
Inside a plane they point one way, too: of two modules at most one knows the other.

A packet's way, in the order of the files in dataplane/ (of the codec and the I/O: in native/ the C
sources, in pure_*.py their twin):

    egress     TUN
               scheduler   whose turn it is, and how much of it
               egress      io.read_frames            tun
                           codec.order_frames        flows
                           codec.route_frames        peers       where there are many remotes
                           codec.encapsulate         encapsulate
               transmit    codec.spread_datagrams    peers       what goes to each of them
               underlay/   io.send_datagrams         send        raw: raw sockets
                           io.send_bypassing         bypass      bypass: behind a probe packet
                           io.send_udp               udp         udp: GRE-in-UDP

    ingress    underlay/   io.receive_datagrams      receive     raw: a raw socket
                           io.receive_udp            receive     udp: a socket for each port
               ingress     codec.decapsulate         decapsulate, coalesce
                           io.write_frames           tun
               TUN

    slow path  slow_path   what was refused or failed on either way: counted, a few told
               punt        what somebody above subscribes to: handed up with its bytes
               inject      packets of gred's own: keepalives, probes; they leave by transmit
               too_big     what may be cut or answered; leaves by transmit, never by egress again
               learning    what arrives teaches where inner addresses are

    watched    trace       copies for whoever watches, on both ways; nothing while nobody does

    memory     layout      structures and numbers that C has, too
               batch       frames and datagrams under way
               tunnels     a tunnel's record; what a worker keeps of it; what it writes to
               receivers   which tunnel a datagram is for; peers: which remote a frame is for

Both ways are bounded at each round of the loop: egress by its turn, ingress by one batch for each
readiness. The plane (plane.py) adds, changes and removes tunnels, and ties all this together; a
tunnel's place in it is an attachment (attachment.py).
"""

__version__ = "0.1.0"
