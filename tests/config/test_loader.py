"""From files to a Config: sections, options, drop-ins, and everything refused on the way."""

from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path

import pytest

from gred.config import ConfigurationError, DaemonConfig, Location, TunnelConfig, load
from tests.config.files import load_text, problems, write


class TestWhatIsLoaded:
    def test_every_option_reaches_its_field(self, tmp_path: Path) -> None:
        config = load_text(
            tmp_path,
            """\
            [Daemon]
            LogFormat=json
            [Tunnel nyc]
            Local=192.0.2.1
            Remote=198.51.100.7
            Address=10.1.2.1/30, fd00::1/64
            Route=10.7.0.0/16 fd07::/16
            InputKey=0x10
            OutputKey=0.0.0.17
            InputChecksum=refuse
            OutputChecksum=yes
            InputSequence=yes
            OutputSequence=no
            TTL=255
            TOS=0xb8
            DiscoverPathMTU=no
            MTUBytes=1400
            Offload=no
            """,
        )
        assert config.daemon == DaemonConfig(log_format="json")
        assert config.tunnels == (
            TunnelConfig(
                name="nyc",
                location=Location("", 0),
                local=ip_address("192.0.2.1"),
                remote=ip_address("198.51.100.7"),
                addresses=(ip_interface("10.1.2.1/30"), ip_interface("fd00::1/64")),
                routes=(ip_network("10.7.0.0/16"), ip_network("fd07::/16")),
                input_key=16,
                output_key=17,
                input_checksum="refuse",
                output_checksum=True,
                input_sequence=True,
                output_sequence=False,
                ttl=255,
                tos=0xB8,
                discover_path_mtu=False,
                mtu=1400,
                offload=False,
            ),
        )

    def test_option_for_both_directions_sets_both(self, tmp_path: Path) -> None:
        (tunnel,) = load_text(
            tmp_path,
            "[Tunnel a]\nKey=7\nChecksum=yes\nSerializeTunneledPackets=yes\n",
        ).tunnels
        assert (tunnel.input_key, tunnel.output_key) == (7, 7)
        assert (tunnel.input_checksum, tunnel.output_checksum) == ("require", True)
        assert (tunnel.input_sequence, tunnel.output_sequence) == (True, True)

    def test_ipv6_ends_are_loaded(self, tmp_path: Path) -> None:
        (tunnel,) = load_text(tmp_path, "[Tunnel a]\nLocal=fd00::1\nRemote=fd00::2\n").tunnels
        assert tunnel.remote == ip_address("fd00::2")

    def test_tunnel_and_its_options_know_their_lines(self, tmp_path: Path) -> None:
        path = write(tmp_path, "\n[Tunnel a]\n\nTTL=5\n")
        (tunnel,) = load(path).tunnels
        assert str(tunnel.location) == f"{path}:2"
        assert str(tunnel.place("TTL")) == f"{path}:4"
        assert str(tunnel.place("TOS")) == f"{path}:2"

    def test_where_it_is_written_does_not_make_another_tunnel(self, tmp_path: Path) -> None:
        before = load_text(tmp_path, "[Tunnel a]\nTTL=5\n")
        after = load_text(tmp_path, "# moved\n\n[Tunnel a]\nTTL=5\n")
        assert after == before
        assert hash(after) == hash(before)

    def test_empty_file_is_a_configuration_without_tunnels(self, tmp_path: Path) -> None:
        assert load_text(tmp_path, "").tunnels == ()

    def test_tunnels_keep_their_order(self, tmp_path: Path) -> None:
        text = "".join(f"[Tunnel {name}]\nRemote=192.0.2.{i}\n" for i, name in enumerate("zax", 1))
        assert [t.name for t in load_text(tmp_path, text).tunnels] == ["z", "a", "x"]


class TestDropIns:
    def test_drop_ins_come_after_the_main_file_by_name(self, tmp_path: Path) -> None:
        config = load_text(
            tmp_path,
            "[Tunnel m]\nKey=1\n",
            z="[Tunnel z]\nKey=2\n",
            a="[Tunnel a]\nKey=3\n[Daemon]\nLogFormat=json\n",
        )
        assert [t.name for t in config.tunnels] == ["m", "a", "z"]
        assert config.daemon.log_format == "json"

    def test_directory_is_named_after_the_file(self, tmp_path: Path) -> None:
        drop_in = tmp_path / "office.conf.d" / "b.conf"
        drop_in.parent.mkdir()
        drop_in.write_text("[Tunnel b]\n")
        (tmp_path / "office.conf").touch()
        (tmp_path / "other.conf").touch()
        assert len(load(tmp_path / "office.conf").tunnels) == 1
        assert len(load(tmp_path / "other.conf").tunnels) == 0

    @pytest.mark.parametrize("name", [".hidden.conf", "a.conf~", "a.conf.dpkg-old", "README"])
    def test_other_files_are_left_alone(self, name: str, tmp_path: Path) -> None:
        path = write(tmp_path, "", good="[Tunnel b]\n")
        (tmp_path / "gred.conf.d" / name).write_text("not a configuration")
        assert len(load(path).tunnels) == 1

    def test_problems_of_all_files_come_in_reading_order(self, tmp_path: Path) -> None:
        assert problems(
            tmp_path,
            "[Tunnel m]\nTTL=0\nbroken\n",
            b="[Tunnel b]\nTTL=0\n",
            a="broken\n",
        ) == [
            'gred.conf:2: [Tunnel m] TTL: expected 1..255 or inherit, got "0"',
            'gred.conf:3: expected "Option=value", got "broken"',
            (
                'gred.conf.d/a.conf:1: expected a section such as "[Tunnel NAME]" before the first '
                'option, got "broken"'
            ),
            'gred.conf.d/b.conf:2: [Tunnel b] TTL: expected 1..255 or inherit, got "0"',
        ]

    def test_missing_main_file_does_not_hide_the_problems_of_drop_ins(self, tmp_path: Path) -> None:
        path = write(tmp_path, "", a="broken\n")
        path.unlink()
        with pytest.raises(ConfigurationError) as caught:
            load(path)
        assert len(caught.value.problems) == 2

    def test_directory_among_drop_ins(self, tmp_path: Path) -> None:
        (tmp_path / "gred.conf.d" / "a.conf").mkdir(parents=True)
        assert problems(tmp_path, "") == ["gred.conf.d/a.conf: cannot be read: Is a directory"]

    def test_file_instead_of_the_drop_in_directory(self, tmp_path: Path) -> None:
        (tmp_path / "gred.conf.d").touch()
        assert problems(tmp_path, "") == ["gred.conf.d: cannot be read: Not a directory"]

    def test_daemon_option_in_two_files_names_both_places(self, tmp_path: Path) -> None:
        text = "[Daemon]\nLogFormat=json\n"
        assert problems(tmp_path, text, a=text) == [
            (
                "gred.conf.d/a.conf:2: [Daemon] LogFormat: expected once, got it again; "
                "first at gred.conf:2"
            )
        ]

    def test_tunnel_in_two_files_names_both_places(self, tmp_path: Path) -> None:
        text = "[Tunnel m]\nAddress=10.0.0.1/24\n"
        assert problems(tmp_path, text, a=text) == [
            (
                "gred.conf.d/a.conf:1: [Tunnel m]: expected a name of its own, "
                "got the name of the tunnel at gred.conf:1"
            )
        ]


class TestSections:
    @pytest.mark.parametrize(
        ("section", "message"),
        [
            ("Tunel a", "[Tunel a]: unknown section; expected [Tunnel a]"),
            ("tunnel a", "[tunnel a]: unknown section; expected [Tunnel a]"),
            ("Tunnel", "[Tunnel]: unknown section; expected [Tunnel NAME]"),
            ("Daemon a", "[Daemon a]: unknown section; expected [Daemon]"),
            ("demon", "[demon]: unknown section; expected [Daemon]"),
            (
                "Peer",
                "[Peer]: unknown section; it is WireGuard's; expected [Daemon] or [Tunnel NAME]",
            ),
        ],
    )
    def test_unknown_section(self, section: str, message: str, tmp_path: Path) -> None:
        assert problems(tmp_path, f"[{section}]\n") == [f"gred.conf:1: {message}"]

    def test_options_of_a_mistyped_section_are_checked_too(self, tmp_path: Path) -> None:
        assert problems(tmp_path, "[Tunel a]\nTTL=0\n")[1:] == [
            'gred.conf:2: [Tunel a] TTL: expected 1..255 or inherit, got "0"'
        ]

    def test_repeated_daemon_section(self, tmp_path: Path) -> None:
        assert problems(tmp_path, "[Daemon]\n[Tunnel a]\n[Daemon]\nLogFormat=x\n") == [
            "gred.conf:3: [Daemon]: expected this section once in a file, got it again",
            'gred.conf:4: [Daemon] LogFormat: expected auto, console, logfmt or json, got "x"',
        ]

    def test_repeated_tunnel_name(self, tmp_path: Path) -> None:
        assert problems(tmp_path, "[Tunnel a]\n[Tunnel b]\nKey=1\n[Tunnel  a]\nTTL=0\n") == [
            (
                "gred.conf:4: [Tunnel a]: expected a name of its own, "
                "got the name of the tunnel at gred.conf:1"
            ),
            'gred.conf:5: [Tunnel a] TTL: expected 1..255 or inherit, got "0"',
        ]

    def test_repeated_name_of_a_tunnel_with_another_problem(self, tmp_path: Path) -> None:
        assert len(problems(tmp_path, "[Tunnel a]\nTTL=0\n[Tunnel a]\n")) == 2

    def test_bad_interface_name(self, tmp_path: Path) -> None:
        assert problems(tmp_path, "[Tunnel a name that is long]\nTTL=0\n") == [
            (
                "gred.conf:1: [Tunnel a name that is long]: "
                "expected an interface name of at most 15 bytes, got 19 bytes"
            ),
            'gred.conf:2: [Tunnel a name that is long] TTL: expected 1..255 or inherit, got "0"',
        ]


class TestOptions:
    @pytest.mark.parametrize(
        ("line", "likely"),
        [
            ("TLL=5", "TTL"),
            ("ttl=5", "TTL"),
            ("Adress=10.0.0.1/8", "Address"),
            ("remote=192.0.2.1", "Remote"),
            ("MTU=1400", "MTUBytes"),
            ("ikey=1", "InputKey"),
            ("okey=1", "OutputKey"),
            ("csum=yes", "Checksum"),
            ("seq=yes", "SerializeTunneledPackets"),
            ("pmtudisc=yes", "DiscoverPathMTU"),
        ],
    )
    def test_mistyped_option_is_suggested(self, line: str, likely: str, tmp_path: Path) -> None:
        name = line.partition("=")[0]
        assert problems(tmp_path, f"[Tunnel a]\n{line}\n") == [
            f"gred.conf:2: [Tunnel a] {name}: unknown option; did you mean {likely}?"
        ]

    def test_option_unlike_any_other_gets_the_list(self, tmp_path: Path) -> None:
        (problem,) = problems(tmp_path, "[Tunnel a]\nXyzzy=1\n")
        assert problem.startswith(
            "gred.conf:2: [Tunnel a] Xyzzy: unknown option; expected one of Mode, Local, "
        )

    def test_option_in_the_wrong_section(self, tmp_path: Path) -> None:
        assert problems(tmp_path, "[Daemon]\nTTL=5\n[Tunnel a]\nLogFormat=json\n") == [
            "gred.conf:2: [Daemon] TTL: unknown option; it belongs to [Tunnel NAME]",
            "gred.conf:4: [Tunnel a] LogFormat: unknown option; it belongs to [Daemon]",
        ]

    def test_repeated_option(self, tmp_path: Path) -> None:
        assert problems(tmp_path, "[Tunnel a]\nTTL=5\nTTL=6\nTTL=7\n") == [
            "gred.conf:3: [Tunnel a] TTL: expected once, got it again; first at gred.conf:2",
            "gred.conf:4: [Tunnel a] TTL: expected once, got it again; first at gred.conf:2",
        ]

    @pytest.mark.parametrize(
        ("first", "second"),
        [
            ("Key=1", "InputKey=1"),
            ("OutputKey=1", "Key=1"),
            ("Checksum=no", "InputChecksum=accept"),
            ("Checksum=yes", "OutputChecksum=yes"),
            ("SerializeTunneledPackets=no", "InputSequence=yes"),
            ("SerializeTunneledPackets=no", "OutputSequence=yes"),
        ],
    )
    def test_option_for_both_directions_excludes_those_for_one(
        self, first: str, second: str, tmp_path: Path
    ) -> None:
        one, other = first.partition("=")[0], second.partition("=")[0]
        assert problems(tmp_path, f"[Tunnel a]\n{first}\n{second}\n") == [
            (
                f"gred.conf:3: [Tunnel a] {other}: expected this or {one}=, got both; "
                f"{one}= is at gred.conf:2"
            )
        ]

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ("Local=?", 'Local: expected an IP address, %INTERFACE or any, got "?"'),
            ("Remote=10.0.0", 'Remote: expected an IP address, a host name or any, got "10.0.0"'),
            ("Address=10/8", 'Address: expected ADDRESS/PREFIX, ... or none, got "10/8"'),
            (
                "Route=20.1.3.1/24",
                (
                    'Route: expected NETWORK/PREFIX, ... or none, got "20.1.3.1/24" '
                    "(host bits are set; the network is 20.1.3.0/24)"
                ),
            ),
            (
                "Key=-1",
                'Key: expected 0..4294967295 (decimal or 0x), a dotted quad or none, got "-1"',
            ),
            ("Checksum=maybe", 'Checksum: expected yes or no, got "maybe"'),
            (
                "InputChecksum=yes",
                'InputChecksum: expected require, accept or refuse, got "yes"',
            ),
            ("OutputChecksum=2", 'OutputChecksum: expected yes or no, got "2"'),
            ("InputSequence=2", 'InputSequence: expected yes or no, got "2"'),
            ("OutputSequence=2", 'OutputSequence: expected yes or no, got "2"'),
            ("TTL=300", 'TTL: expected 1..255 or inherit, got "300"'),
            ("TOS=0x100", 'TOS: expected 0..255 (decimal or 0x) or inherit, got "0x100"'),
            ("DiscoverPathMTU=want", 'DiscoverPathMTU: expected yes or no, got "want"'),
            ("MTUBytes=67", 'MTUBytes: expected 68..65535 or auto, got "67"'),
            (
                "Offload=yes",
                'Offload: expected auto or no, got "yes" (auto uses it where it can be used)',
            ),
            ("TTL=", "TTL: expected 1..255 or inherit, got nothing"),
            ("Route=", "Route: expected NETWORK/PREFIX, ... or none, got nothing"),
            (
                "TTL=5 ; five",
                (
                    'TTL: expected 1..255 or inherit, got "5 ; five" '
                    '(a comment after a value begins with a blank and "#")'
                ),
            ),
        ],
    )
    def test_bad_value(self, line: str, message: str, tmp_path: Path) -> None:
        assert problems(tmp_path, f"[Tunnel nyc]\n{line}\n") == [
            f"gred.conf:2: [Tunnel nyc] {message}"
        ]

    def test_every_bad_item_of_a_list_is_a_problem(self, tmp_path: Path) -> None:
        assert len(problems(tmp_path, "[Tunnel a]\nAddress=x, 10.0.0.1/8, y\n")) == 2

    def test_values_in_doubt_raise_no_second_problem(self, tmp_path: Path) -> None:
        text = "[Tunnel a]\nRemote=1.2\n[Tunnel b]\nRemote=3.4\n"
        assert len(problems(tmp_path, text)) == 2


def test_error_reads_as_one_problem_per_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_text(tmp_path, "[Tunnel a]\nTTL=0\nTOS=x\n")
    assert str(caught.value).splitlines() == [str(p) for p in caught.value.problems]
