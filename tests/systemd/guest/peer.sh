#!/bin/sh
# The peer: a namespace with the kernel's GRE. Stays when everything else has stopped.
set -eu
ip netns add peer
ip link add under type veth peer name under netns peer
# networkd gives the host's end its address.
ip link set under up
ip -n peer link set lo up
ip -n peer link set under up
ip -n peer address add 192.0.2.2/24 dev under
ip -n peer address add 192.0.2.3/24 dev under
ip netns exec peer nft 'add table ip quiet'
ip netns exec peer nft 'add chain ip quiet silent { type filter hook prerouting priority raw; }'
ip netns exec peer nft 'add rule ip quiet silent ip daddr 192.0.2.3 ip protocol gre drop'
ip -n peer link add tunnel type gre local 192.0.2.2 remote 192.0.2.1 ttl 64
ip -n peer address add 10.47.0.2/30 dev tunnel
ip -n peer link set tunnel up
systemd-notify --ready
# The mount of the namespace goes at shutdown; a process keeps it.
exec ip netns exec peer sleep infinity
