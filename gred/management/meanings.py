"""What each reason of a drop means, in a line for people. README.md has the same, and what to do.

Words only; nothing here counts.
"""

MEANINGS = {
    "truncated": "shorter than its headers say",
    "bad_version": "the GRE version is neither 0 nor 1",
    "routing": "source routing of RFC 1701, which nobody uses",
    "reserved_bits": "bits that RFC 2784 tells receivers to refuse",
    "unknown_protocol": "no IP packet inside; with Mode=gretap: no Ethernet frame",
    "no_tunnel": "no tunnel between these outer addresses: see gred peers",
    "key_mismatch": "no tunnel has this key: see gred peers",
    "csum_err": "the GRE checksum is wrong: damaged on the way",
    "csum_missing": "Checksum= wants one, and it had none: make both ends agree",
    "csum_unexpected": "it had a checksum that is refused: make both ends agree",
    "out_of_seq": "late, or a duplicate, by its sequence number",
    "seq_missing": "sequence numbers are wanted, and it had none: make both ends agree",
    "bad_inner": "the inner header contradicts the protocol type or the length",
    "ecn_err": "congestion was marked on a packet that cannot carry the mark",
    "no_remote": "none of the remotes has this inner address",
    "dead_loop": "the route to the remote leads into the tunnel itself",
    "too_big": "larger than the path takes",
    "no_route": "no route to the remote, or Local= is not an address of this host",
    "no_bufs": "a queue below was full, or other tunnels had waited for too long",
    "denied": "refused by this host's firewall, by IPsec or by a route",
    "device_down": "the tunnel interface is down",
    "other": "anything else: the log names the error",
    "pptp": "a packet of PPTP",
    "wccp": "redirected by WCCP, with flags that gred does not take",
    "mpls": "MPLS inside",
    "erspan": "mirrored traffic (ERSPAN)",
    "keepalive": "more keepalives than are looked at",
    "eoip": "Ethernet over IP of MikroTik",
    "rx_overrun": "packets came faster than gred read them: it needs more CPU",
    "spoofed": "an inner source that AllowedSources= does not have",
    "foreign": "no tunnel of ours: another program on this host takes it",
}
