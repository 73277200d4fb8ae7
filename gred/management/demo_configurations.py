"""The configuration files of the demonstration, as text. Values only.

They are the files of conf/examples, byte for byte (a test compares them): an installed gred has no
conf/ beside it.
"""

TUNNEL_1_LEFT = """\
# Two hosts in one subnet, the first of them. The other end: tunnel-1-right.conf

[Tunnel Tunnel-1]
Local=192.168.1.10
Remote=192.168.1.13
Address=10.1.2.1/24
"""

TUNNEL_1_RIGHT = """\
# Two hosts in one subnet, the second of them. The other end: tunnel-1-left.conf

[Tunnel Tunnel-1]
Local=192.168.1.13
Remote=192.168.1.10
Address=10.1.2.2/24
"""

TUNNEL_2_LEFT = """\
# Two subnets behind two hosts, the first side. The other end: tunnel-2-right.conf
#
# Each side has a subnet of its own inside, and a route to the other's subnet
# through the tunnel.

[Tunnel Tunnel-2]
Local=192.168.100.1
Remote=192.168.100.2
Address=20.1.2.1/24
Route=20.1.3.0/24
"""

TUNNEL_2_RIGHT = """\
# Two subnets behind two hosts, the second side. The other end: tunnel-2-left.conf
#
# Each side has a subnet of its own inside, and a route to the other's subnet
# through the tunnel.

[Tunnel Tunnel-2]
Local=192.168.100.2
Remote=192.168.100.1
Address=20.1.3.1/24
Route=20.1.2.0/24
"""
