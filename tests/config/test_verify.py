"""What is refused though every single value is fine."""

from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest

from gred.config.verify import refuse_remote
from tests.config.files import load_text, problems


def of_tunnel(directory: Path, *lines: str) -> list[str]:
    """Return the problems of one tunnel, less their place: ``Option: message``."""
    found = problems(directory, "\n".join(["[Tunnel a]", *lines]))
    return [problem.partition("[Tunnel a] ")[2] for problem in found]


class TestEnds:
    @pytest.mark.parametrize(
        "lines",
        [
            (),
            ("Local=192.0.2.1",),
            ("Remote=192.0.2.1",),
            ("Local=192.0.2.1", "Remote=192.0.2.2"),
            ("Local=fd00::1", "Remote=fd00::2"),
            ("Local=127.0.0.1", "Remote=127.0.0.2"),
            ("Local=127.0.0.1",),
            ("Local=169.254.0.1", "Remote=169.254.0.2"),
            ("Local=240.0.0.1", "Remote=240.0.0.2"),
            ("TTL=64", "DiscoverPathMTU=no"),
            ("Remote=vpn.example",),
            ("Local=192.0.2.1", "Remote=vpn.example"),
            ("Remote=vpn.example", "Keepalive=10s", "IPv6FlowLabel=7"),
            (
                *("Remote=vpn.example", "Keepalive=10s", "ProbeMTU=yes"),
                *("Address=10.1.2.1/30", "KeepaliveTarget=10.1.2.2"),
            ),
        ],
    )
    def test_sensible_ends_are_fine(self, lines: tuple[str, ...], tmp_path: Path) -> None:
        assert of_tunnel(tmp_path, *lines) == []

    def test_remote_equal_to_local(self, tmp_path: Path) -> None:
        assert of_tunnel(tmp_path, "Local=192.0.2.1", "Remote=192.0.2.1") == [
            "Remote: expected another address than Local=, got 192.0.2.1 too"
        ]

    def test_families_that_differ(self, tmp_path: Path) -> None:
        assert of_tunnel(tmp_path, "Local=192.0.2.1", "Remote=fd00::1") == [
            "Remote: expected an IPv4 address, as Local=192.0.2.1 is one, got fd00::1"
        ]

    @pytest.mark.parametrize("option", ["Local", "Remote"])
    @pytest.mark.parametrize("address", ["0.0.0.0", "::"])  # noqa: S104  (nothing is bound)
    def test_unspecified_end(self, option: str, address: str, tmp_path: Path) -> None:
        assert of_tunnel(tmp_path, f"{option}={address}") == [
            f'{option}: expected an address, got {address} (write "any" for any address)'
        ]

    @pytest.mark.parametrize("option", ["Local", "Remote"])
    def test_broadcast_end(self, option: str, tmp_path: Path) -> None:
        assert of_tunnel(tmp_path, f"{option}=255.255.255.255") == [
            f"{option}: expected a unicast address, got the broadcast address 255.255.255.255"
        ]

    @pytest.mark.parametrize("group", ["239.1.1.1", "ff02::1"])
    def test_multicast_local(self, group: str, tmp_path: Path) -> None:
        assert of_tunnel(tmp_path, f"Local={group}") == [
            f"Local: expected a unicast address, got the multicast group {group}"
        ]

    def test_a_group_as_remote(self, tmp_path: Path) -> None:
        assert of_tunnel(tmp_path, "Local=192.0.2.1", "Remote=239.1.1.1") == []

    def test_a_group_as_remote_needs_a_link(self, tmp_path: Path) -> None:
        assert of_tunnel(tmp_path, "Remote=239.1.1.1") == [
            "Remote: a tunnel to the group 239.1.1.1 needs Local= too: it tells which link joins"
        ]
        assert of_tunnel(tmp_path, "Local=fd00::1", "Remote=ff05::47") == [
            "Remote: a tunnel to the IPv6 group ff05::47 needs Device= too"
        ]

    def test_peers(self, tmp_path: Path) -> None:
        assert of_tunnel(tmp_path, "Peers=10.0.0.2@192.0.2.2, 10.0.3.0/24@192.0.2.3") == []
        assert of_tunnel(tmp_path, "Key=1", "LearnPeers=yes") == []
        for group in ("224.0.0.0/4", "224.0.0.5", "ff00::/8"):
            assert of_tunnel(tmp_path, f"Peers={group}@192.0.2.2, {group}@192.0.2.3") == []

    def test_peers_contradict(self, tmp_path: Path) -> None:
        assert of_tunnel(tmp_path, "Remote=192.0.2.1", "Peers=10.0.0.2@192.0.2.2") == [
            "Peers: expected no Remote= beside it, got 192.0.2.1"
        ]
        assert of_tunnel(tmp_path, "LearnPeers=yes") == [
            "LearnPeers: expected a key (Key= or InputKey=): without one, whoever sends is believed"
        ]
        assert of_tunnel(tmp_path, "Mode=gretap", "Peers=10.0.0.2@192.0.2.2") == [
            "Peers: expected Mode=gre: peers are found by inner IP addresses"
        ]
        assert of_tunnel(tmp_path, "Peers=10.0.0.2@192.0.2.2, 10.0.0.3@fd00::1") == [
            "Peers: expected outer addresses of one IP version, got two"
        ]
        assert of_tunnel(tmp_path, "Peers=10.0.0.2@224.0.0.1") == [
            "Peers: expected the address of another host, got 224.0.0.1"
        ]
        (problem,) = of_tunnel(tmp_path, "Peers=10.0.0.2@192.0.2.2, 10.0.0.2@192.0.2.3")
        assert problem.startswith("Peers: expected one outer address for 10.0.0.2/32, got 2 (only")
        assert of_tunnel(tmp_path, "Peers=10.0.0.2@192.0.2.2, 10.0.0.2@192.0.2.2") == [
            "Peers: expected 10.0.0.2/32@192.0.2.2 once, got it twice"
        ]

    def test_of_ethernet_no_sources_are_checked(self, tmp_path: Path) -> None:
        assert of_tunnel(tmp_path, "Mode=gretap", "AllowedSources=10.0.0.0/8") == [
            "AllowedSources: expected Mode=gre: of Ethernet no inner sources are checked"
        ]

    @pytest.mark.parametrize("option", ["Local", "Remote"])
    def test_ipv6_link_local_end(self, option: str, tmp_path: Path) -> None:
        assert of_tunnel(tmp_path, f"{option}=fe80::1") == [
            (
                f"{option}: expected an address that is valid beyond one link, got fe80::1 "
                "(a link-local end needs Device=)"
            )
        ]

    def test_ipv4_mapped_end(self, tmp_path: Path) -> None:
        mapped = ip_address("::ffff:192.0.2.1")  # how it is written differs between Pythons
        assert of_tunnel(tmp_path, "Remote=::ffff:192.0.2.1") == [
            f"Remote: expected 192.0.2.1 for an IPv4 end, got {mapped}"
        ]

    @pytest.mark.parametrize(
        ("local", "remote"), [("127.0.0.1", "192.0.2.1"), ("192.0.2.1", "127.0.0.1")]
    )
    def test_one_loopback_end(self, local: str, remote: str, tmp_path: Path) -> None:
        assert of_tunnel(tmp_path, f"Local={local}", f"Remote={remote}") == [
            (
                "Remote: expected two loopback addresses or none: what one end sends never reaches "
                f"the other, got Local={local} and Remote={remote}"
            )
        ]

    def test_loopback_remote_without_local(self, tmp_path: Path) -> None:
        assert problems(tmp_path, "[Tunnel a]\nRemote=127.0.0.1\n") == [
            (
                "gred.conf:1: [Tunnel a] Local: "
                "expected a loopback address, as Remote=127.0.0.1 is one, got any"
            )
        ]


class TestTwoTunnels:
    @pytest.mark.parametrize(
        ("lines", "told"),
        [
            ("", "local any, remote any, no key"),
            ("Remote=192.0.2.2\n", "local any, remote 192.0.2.2, no key"),
            ("Local=192.0.2.1\nRemote=192.0.2.2\nKey=0\n", None),
            ("Local=192.0.2.1\nInputKey=7\n", "local 192.0.2.1, remote any, key 7"),
        ],
    )
    def test_receiver_could_not_tell_them_apart(
        self, lines: str, told: str | None, tmp_path: Path
    ) -> None:
        told = told or "local 192.0.2.1, remote 192.0.2.2, key 0"
        text = f"[Tunnel a]\n{lines}[Tunnel b]\nTTL=9\n{lines}"
        line = text.split("\n").index("[Tunnel b]") + 1
        assert problems(tmp_path, text) == [
            (
                f"gred.conf:{line}: [Tunnel b]: expected another Local, Remote or input key than "
                f"[Tunnel a] at gred.conf:1, got the same ({told}): "
                "a received packet would fit both"
            )
        ]

    def test_checksums_and_sequence_numbers_do_not_tell_them_apart(self, tmp_path: Path) -> None:
        text = "[Tunnel a]\nChecksum=yes\n[Tunnel b]\nSerializeTunneledPackets=yes\n"
        assert len(problems(tmp_path, text)) == 1

    def test_output_key_does_not_tell_them_apart(self, tmp_path: Path) -> None:
        assert len(problems(tmp_path, "[Tunnel a]\nOutputKey=1\n[Tunnel b]\nOutputKey=2\n")) == 1

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ("Key=1", "Key=2"),
            ("Key=0", "Key=none"),
            ("Remote=192.0.2.1", "Remote=192.0.2.2"),
            ("Remote=192.0.2.1", "Remote=any"),
            ("Local=192.0.2.1", "Local=any"),
            ("Local=192.0.2.1", "Remote=192.0.2.1"),
        ],
    )
    def test_receiver_can_tell_them_apart(self, one: str, other: str, tmp_path: Path) -> None:
        text = f"[Tunnel a]\n{one}\n[Tunnel b]\n{other}\n"
        assert len(load_text(tmp_path, text).tunnels) == 2

    def test_one_address_in_two_tunnels(self, tmp_path: Path) -> None:
        text = "[Tunnel a]\nAddress=10.0.0.1/24\n[Tunnel b]\nKey=1\nAddress=10.0.0.1/32\n"
        assert problems(tmp_path, text) == [
            (
                "gred.conf:5: [Tunnel b] Address: expected each once, got 10.0.0.1 again, "
                "after [Tunnel a] at gred.conf:2"
            )
        ]

    def test_one_address_twice_in_a_tunnel(self, tmp_path: Path) -> None:
        assert of_tunnel(tmp_path, "Address=10.0.0.1/24 10.0.0.2/24 10.0.0.1/24") == [
            "Address: expected each once, got 10.0.0.1 again, after [Tunnel a] at gred.conf:2"
        ]

    def test_link_local_address_may_repeat(self, tmp_path: Path) -> None:
        text = "[Tunnel a]\nAddress=fe80::1/64\n[Tunnel b]\nKey=1\nAddress=fe80::1/64\n"
        assert len(load_text(tmp_path, text).tunnels) == 2

    def test_ipv4_link_local_address_may_not_repeat(self, tmp_path: Path) -> None:
        text = "[Tunnel a]\nAddress=169.254.0.1/30\n[Tunnel b]\nKey=1\nAddress=169.254.0.1/30\n"
        assert len(problems(tmp_path, text)) == 1

    def test_one_route_in_two_tunnels(self, tmp_path: Path) -> None:
        text = "[Tunnel a]\nRoute=10.0.0.0/8\n[Tunnel b]\nKey=1\nRoute=10.0.0.0/8\n"
        assert problems(tmp_path, text) == [
            (
                "gred.conf:5: [Tunnel b] Route: expected each once, got 10.0.0.0/8 again, "
                "after [Tunnel a] at gred.conf:2"
            )
        ]

    def test_route_within_a_route_is_fine(self, tmp_path: Path) -> None:
        text = "[Tunnel a]\nRoute=10.0.0.0/8\n[Tunnel b]\nKey=1\nRoute=10.1.0.0/16\n"
        assert len(load_text(tmp_path, text).tunnels) == 2


class TestOverlay:
    @pytest.mark.parametrize(
        "address", ["0.0.0.0/24", "224.0.0.5/32", "255.255.255.255/32", "::/64", "ff02::1/64"]
    )
    def test_address_that_no_interface_can_have(self, address: str, tmp_path: Path) -> None:
        assert of_tunnel(tmp_path, f"Address={address}") == [
            f"Address: expected unicast addresses, got {address}"
        ]

    def test_multicast_may_be_routed_into_the_tunnel(self, tmp_path: Path) -> None:
        assert of_tunnel(tmp_path, "Route=224.0.0.0/4, ff00::/8") == []

    @pytest.mark.parametrize("route", ["192.0.2.0/24", "192.0.2.7/32", "128.0.0.0/1"])
    def test_route_to_the_remote(self, route: str, tmp_path: Path) -> None:
        assert of_tunnel(tmp_path, "Remote=192.0.2.7", f"Route=10.0.0.0/8, {route}") == [
            (
                f"Route: expected networks without the Remote, got {route} with 192.0.2.7: "
                "the tunnel would carry its own outer packets"
            )
        ]

    def test_ipv6_route_to_the_remote(self, tmp_path: Path) -> None:
        assert of_tunnel(tmp_path, "Remote=fd00::7", "Route=fd00::/8") == [
            (
                "Route: expected networks without the Remote, got fd00::/8 with fd00::7: "
                "the tunnel would carry its own outer packets"
            )
        ]

    @pytest.mark.parametrize("route", ["0.0.0.0/0", "::/0", "192.0.3.0/24", "c000::/8"])
    def test_default_route_and_other_networks_are_fine(self, route: str, tmp_path: Path) -> None:
        assert of_tunnel(tmp_path, "Remote=192.0.2.7", f"Route={route}") == []

    def test_prefix_of_an_address_with_the_remote_in_it(self, tmp_path: Path) -> None:
        assert of_tunnel(tmp_path, "Remote=192.0.2.7", "Address=192.0.2.1/24") == [
            (
                "Address: expected prefixes without the Remote, got 192.0.2.1/24 with 192.0.2.7: "
                "the tunnel would carry its own outer packets"
            )
        ]

    @pytest.mark.parametrize("line", ["Address=fd00::1/64", "Route=fd00::/64"])
    def test_mtu_too_small_for_ipv6(self, line: str, tmp_path: Path) -> None:
        """RFC 8200 section 5."""
        shown = line.partition("=")[2]
        assert of_tunnel(tmp_path, "MTUBytes=1279", line) == [
            f"MTUBytes: expected at least 1280, as {shown} is IPv6, got 1279"
        ]

    @pytest.mark.parametrize(
        ("mtu", "address"), [("1280", "fd00::1/64"), ("68", "10.0.0.1/8"), ("auto", "fd00::1/64")]
    )
    def test_mtu_that_suffices(self, mtu: str, address: str, tmp_path: Path) -> None:
        assert of_tunnel(tmp_path, f"MTUBytes={mtu}", f"Address={address}") == []


def test_problems_of_the_whole_come_with_those_of_values(tmp_path: Path) -> None:
    text = "[Tunnel a]\n[Tunnel b]\n[Tunnel c]\nTTL=0\n"
    assert [problem.split(":")[1] for problem in problems(tmp_path, text)] == ["2", "4"]


class TestOptionsTogether:
    @pytest.mark.parametrize(
        "lines",
        [
            ("Mode=gretap", "MACAddress=02:00:00:00:00:01"),
            ("Mode=gretap", "MTUBytes=65521"),
            ("DiscoverPathMTU=no", "IgnoreDontFragment=yes"),
            ("Remote=fd00::1", "IPv6FlowLabel=7", "EncapsulationLimit=4"),
            ("Local=fd00::1", "EncapsulationLimit=0"),
            ("Local=%eth0", "Remote=fd00::1", "IPv6FlowLabel=0"),
            ("Local=%lo", "Remote=192.0.2.1"),
            ("Local=%eth0", "Remote=127.0.0.1"),
            ("Local=fe80::1", "Remote=fe80::2", "Device=eth0"),
            ("Local=%a0", "Device=a0"),
            ("Device=a", "Namespace=blue"),  # the tunnel's own name is free out here
        ],
    )
    def test_sensible_options_are_fine(self, lines: tuple[str, ...], tmp_path: Path) -> None:
        assert of_tunnel(tmp_path, *lines) == []

    def test_ignoring_a_bit_that_is_set_in_any_case(self, tmp_path: Path) -> None:
        assert of_tunnel(tmp_path, "IgnoreDontFragment=yes") == [
            (
                "IgnoreDontFragment: expected DiscoverPathMTU=no with it: "
                "with yes, Don't Fragment is set in any case"
            )
        ]

    def test_mac_address_without_ethernet(self, tmp_path: Path) -> None:
        assert of_tunnel(tmp_path, "MACAddress=02:00:00:00:00:01") == [
            "MACAddress: expected Mode=gretap with it: a gre interface has no MAC address"
        ]

    def test_mtu_beyond_a_tap_device(self, tmp_path: Path) -> None:
        assert of_tunnel(tmp_path, "Mode=gretap", "MTUBytes=65522") == [
            "MTUBytes: expected at most 65521 with Mode=gretap, got 65522"
        ]

    @pytest.mark.parametrize("ends", ["Local=192.0.2.1", "Local=%eth0", "Remote=any"])
    @pytest.mark.parametrize("option", ["IPv6FlowLabel", "EncapsulationLimit"])
    def test_ipv6_header_over_ipv4(self, option: str, ends: str, tmp_path: Path) -> None:
        assert of_tunnel(tmp_path, ends, f"{option}=4") == [
            f"{option}: expected an IPv6 Local or Remote with it, got {option}=4 alone"
        ]

    @pytest.mark.parametrize("line", ["Local=%a", "Device=a"])
    def test_the_interface_of_the_tunnel_itself(self, line: str, tmp_path: Path) -> None:
        option = line.partition("=")[0]
        assert of_tunnel(tmp_path, line) == [
            f"{option}: expected another interface than the tunnel's own, got its own name"
        ]

    @pytest.mark.parametrize("way", ["Device=eth0", "FirewallMark=7", "Namespace=blue"])
    @pytest.mark.parametrize("line", ["Route=192.0.2.0/24", "Address=192.0.2.1/24"])
    def test_a_route_to_the_remote_where_outer_packets_go_another_way(
        self, line: str, way: str, tmp_path: Path
    ) -> None:
        assert of_tunnel(tmp_path, "Remote=192.0.2.9", line) != []
        assert of_tunnel(tmp_path, "Remote=192.0.2.9", line, way) == []


class TestNamespaces:
    BOTH = "Address=10.0.0.1/24\nRoute=10.7.0.0/16\n"

    def test_addresses_and_routes_may_repeat_from_one_to_the_other(self, tmp_path: Path) -> None:
        text = f"[Tunnel a]\nKey=1\n{self.BOTH}[Tunnel b]\nKey=2\nNamespace=blue\n{self.BOTH}"
        assert problems(tmp_path, text) == []

    def test_but_not_within_one(self, tmp_path: Path) -> None:
        blue = f"Namespace=blue\n{self.BOTH}"
        assert len(problems(tmp_path, f"[Tunnel a]\nKey=1\n{blue}[Tunnel b]\nKey=2\n{blue}")) == 2


class TestLocalInterfaces:
    def test_one_interface_for_two_tunnels_to_one_remote(self, tmp_path: Path) -> None:
        ends = "Local=%eth0\nRemote=192.0.2.1\n"
        (problem,) = problems(tmp_path, f"[Tunnel a]\n{ends}[Tunnel b]\n{ends}")
        assert "got the same (local %eth0, remote 192.0.2.1, no key)" in problem

    @pytest.mark.parametrize("option", ["Mode=gretap", "Device=eth1"])
    def test_mode_and_device_do_not_tell_tunnels_apart(self, option: str, tmp_path: Path) -> None:
        ends = "Local=192.0.2.2\nRemote=192.0.2.1\n"
        assert len(problems(tmp_path, f"[Tunnel a]\n{ends}[Tunnel b]\n{ends}{option}\n")) == 1

    def test_one_interface_with_two_families(self, tmp_path: Path) -> None:
        four, six = (f"Local=%eth0\nRemote={remote}\n" for remote in ("192.0.2.1", "fd00::1"))
        assert problems(tmp_path, f"[Tunnel a]\n{four}[Tunnel b]\n{six}") == []


class TestKeepalive:
    @pytest.mark.parametrize(
        "ends", ["Remote=192.0.2.2", "Peers=10.0.0.2@192.0.2.2", "Remote=2001:db8::2"]
    )
    def test_somebody_is_to_answer(self, tmp_path: Path, ends: str) -> None:
        assert of_tunnel(tmp_path, ends, "Keepalive=10s") == []

    @pytest.mark.parametrize("ends", [(), ("Key=1", "LearnPeers=yes")])
    def test_nobody_is_to_answer(self, tmp_path: Path, ends: tuple[str, ...]) -> None:
        assert of_tunnel(tmp_path, *ends, "Keepalive=10s") == [
            "Keepalive: expected Remote= or Peers= with it: who is to answer"
        ]

    def test_a_group_is_nobody(self, tmp_path: Path) -> None:
        lines = ("Local=192.0.2.1", "Remote=239.1.1.1", "Keepalive=10s")
        assert of_tunnel(tmp_path, *lines) == [
            "Keepalive: expected one host to answer, got the group 239.1.1.1"
        ]

    TARGET = ("Remote=192.0.2.2", "Keepalive=10s", "Address=10.1.2.1/30, fd00::1/64")

    @pytest.mark.parametrize("target", ["10.1.2.2", "10.9.9.9", "fd00::2", "none"])
    def test_an_inner_address_is_pinged(self, tmp_path: Path, target: str) -> None:
        assert of_tunnel(tmp_path, *self.TARGET, f"KeepaliveTarget={target}") == []

    @pytest.mark.parametrize(
        ("target", "problem"),
        [
            ("10.1.2.1", "expected the address of the other end, got our own, 10.1.2.1"),
            ("192.0.2.2", "expected an address inside the tunnel, got Remote=, 192.0.2.2"),
            ("224.0.0.1", "expected the inner address of one host, got 224.0.0.1"),
            ("::", "expected the inner address of one host, got ::"),
        ],
    )
    def test_another_address_is_not(self, tmp_path: Path, target: str, problem: str) -> None:
        found = of_tunnel(tmp_path, *self.TARGET, f"KeepaliveTarget={target}")
        assert found == [f"KeepaliveTarget: {problem}"]

    @pytest.mark.parametrize(
        ("lines", "problem"),
        [
            (
                ("Remote=192.0.2.2", "Address=10.1.2.1/30"),
                "expected Keepalive= with it: how often to ask",
            ),
            (
                ("Remote=192.0.2.2", "Keepalive=10s", "Address=fd00::1/64"),
                "expected an IPv4 Address= to ask 10.1.2.2 from, got none",
            ),
            (
                ("Peers=10.1.2.2@192.0.2.2", "Keepalive=10s", "Address=10.1.2.1/30"),
                "expected Remote= with it: one host to answer",
            ),
            (
                ("Remote=192.0.2.2", "Keepalive=10s", "Address=10.1.2.1/30", "Mode=gretap"),
                "expected Mode=gre: who has the address is not asked",
            ),
        ],
    )
    def test_what_it_needs(self, tmp_path: Path, lines: tuple[str, ...], problem: str) -> None:
        found = of_tunnel(tmp_path, *lines, "KeepaliveTarget=10.1.2.2")
        assert found == [f"KeepaliveTarget: {problem}"]

    def test_probes_must_not_be_fragmented(self, tmp_path: Path) -> None:
        ends = ("Remote=192.0.2.2", "DiscoverPathMTU=no")
        assert of_tunnel(tmp_path, *ends, "ProbeMTU=auto") == []
        assert of_tunnel(tmp_path, *ends, "ProbeMTU=yes") == [
            "ProbeMTU: expected DiscoverPathMTU=yes with it: with no, routers may fragment probes"
        ]

    @pytest.mark.parametrize("ends", [(), ("Key=1", "LearnPeers=yes")])
    def test_probes_need_somebody_to_answer(self, tmp_path: Path, ends: tuple[str, ...]) -> None:
        assert of_tunnel(tmp_path, *ends, "ProbeMTU=yes") == [
            "ProbeMTU: expected Remote= or Peers= with it: who is to answer"
        ]


class TestNames:
    def test_a_name_leaves_no_room_for_many_remotes(self, tmp_path: Path) -> None:
        assert of_tunnel(tmp_path, "Remote=vpn.example", "Peers=10.0.0.2@192.0.2.2") == [
            "Peers: expected no Remote= beside it, got vpn.example"
        ]

    def test_one_name_is_one_remote(self, tmp_path: Path) -> None:
        one = "Local=192.0.2.1\nRemote=vpn.example\n"
        (problem,) = problems(tmp_path, f"[Tunnel a]\n{one}[Tunnel b]\n{one}")
        assert "got the same (local 192.0.2.1, remote vpn.example, no key)" in problem
        other = one.replace("vpn", "hub")
        assert problems(tmp_path, f"[Tunnel a]\n{one}[Tunnel b]\n{other}") == []

    @pytest.mark.parametrize(
        ("address", "reason"),
        [
            ("192.0.2.2", ""),
            ("192.0.2.1", "another address than Local="),
            ("fd00::2", "expected an IPv4 address"),
            ("127.0.1.1", "two loopback addresses or none"),
            ("169.254.0.1", ""),
            ("::ffff:192.0.2.2", "expected 192.0.2.2 for an IPv4 end"),
            ("224.0.0.5", "a multicast group"),
            ("10.9.0.2", "the tunnel would carry its own outer packets"),
        ],
    )
    def test_an_address_of_a_name_is_judged_as_a_written_one(
        self, tmp_path: Path, address: str, reason: str
    ) -> None:
        text = "[Tunnel a]\nLocal=192.0.2.1\nRemote=vpn.example\nRoute=10.9.0.0/16\n"
        (tunnel,) = load_text(tmp_path, text).tunnels
        refused = refuse_remote(replace(tunnel, remote=ip_address(address)))
        assert (reason in refused) if reason else not refused


class TestTransport:
    """What belongs to UDP, and what does not go with it."""

    @pytest.mark.parametrize(
        "option", ["Port=5000", "RemotePort=5000", "SourcePort=4754", "UDPChecksum=no"]
    )
    def test_options_of_udp_want_udp(self, option: str, tmp_path: Path) -> None:
        ends = "Local=192.0.2.1", "Remote=192.0.2.2"
        name = option.partition("=")[0]
        assert of_tunnel(tmp_path, *ends, option) == [f"{name}: expected Transport=udp with it"]
        assert of_tunnel(tmp_path, *ends, option, "Transport=udp") == []

    def test_a_group_has_no_port(self, tmp_path: Path) -> None:
        lines = "Local=192.0.2.1", "Remote=239.0.0.1", "Transport=udp"
        assert of_tunnel(tmp_path, *lines) == [
            "Transport: expected ip, as Remote= is a group, 239.0.0.1, got udp"
        ]

    def test_one_of_each_may_have_the_same_ends(self, tmp_path: Path) -> None:
        ends = "Local=192.0.2.1\nRemote=192.0.2.2\n"
        text = f"[Tunnel a]\n{ends}[Tunnel b]\n{ends}"
        assert len(problems(tmp_path, text)) == 1
        assert problems(tmp_path, f"{text}Transport=udp\n") == []


class TestIpsec:
    ENDS = ("Local=192.0.2.1", "Remote=192.0.2.2", "IPsec=require")

    @pytest.mark.parametrize("ends", [ENDS, ("Remote=vpn.example", "IPsec=require")])
    def test_one_other_end_is_fine(self, ends: tuple[str, ...], tmp_path: Path) -> None:
        assert of_tunnel(tmp_path, *ends, "Key=7") == []

    @pytest.mark.parametrize(
        ("lines", "got"),
        [
            (("Local=192.0.2.1",), "expected Remote= with it, got any: "),
            (("Peers=10.0.0.0/8@192.0.2.2",), "expected Remote= with it, got peers: "),
            (("Key=7", "LearnPeers=yes"), "expected Remote= with it, got peers: "),
            (("Local=192.0.2.1", "Remote=239.1.1.1"), "expected one other end, got the group"),
            (("Remote=192.0.2.2", "Transport=udp"), "expected Transport=ip with it"),
            (("Local=127.0.0.1", "Remote=127.0.0.2"), "expected another host: of the loopback"),
        ],
    )
    def test_whom_the_kernel_cannot_be_told(
        self, lines: tuple[str, ...], got: str, tmp_path: Path
    ) -> None:
        (problem,) = of_tunnel(tmp_path, *lines, "IPsec=require")
        assert problem.startswith(f"IPsec: {got}")

    @pytest.mark.parametrize(
        ("other", "is_fine"),
        [
            ("Remote=192.0.2.2", False),
            ("Remote=192.0.2.2\nIPsec=require", True),
            ("Remote=192.0.2.3", True),
            ("Remote=192.0.2.2\nTransport=udp", True),
            ("Peers=10.0.0.0/8@192.0.2.3, 10.9.0.0/16@192.0.2.2", False),
        ],
    )
    def test_another_tunnel_to_that_host_is_not_to_be_in_clear(
        self, other: str, is_fine: bool, tmp_path: Path
    ) -> None:
        lines = "\n".join(["[Tunnel a]", *self.ENDS, "[Tunnel b]", "Key=7", other])
        found = problems(tmp_path, lines)
        assert bool(found) is not is_fine
        assert all("[Tunnel b] IPsec: expected IPsec=require, as [Tunnel a]" in x for x in found)
