"""Values: what is read, what is refused, and that what is written reads back."""

from ipaddress import ip_address, ip_interface, ip_network

import pytest

from gred.config import values
from gred.config.values import BadValueError, Kind, refuse_interface_name

NUMBER = values.number(1, 255, none="inherit")
NUMBER_OR_HEX = values.number(0, 255, none="inherit", hexadecimal=True)


def refuses(kind: Kind, text: str) -> list[str]:
    """Return the hints of a refusal; fail when *text* is read."""
    with pytest.raises(BadValueError) as caught:
        kind.read(text)
    return [finding.hint for finding in caught.value.findings]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", True),
        ("ON", True),
        ("true", True),
        ("1", True),
        ("no", False),
        ("Off", False),
        ("false", False),
        ("0", False),
    ],
)
def test_boolean_is_read_as_systemd_does(text: str, value: object) -> None:
    assert values.BOOLEAN.read(text) is value


@pytest.mark.parametrize("text", ["", "y", "maybe", "2", "yes no"])
def test_other_words_are_no_boolean(text: str) -> None:
    assert refuses(values.BOOLEAN, text)


SPAN = values.span(0.1, 32767, none="no")


@pytest.mark.parametrize(
    ("text", "seconds", "written"),
    [
        ("10", 10.0, "10s"),
        ("10s", 10.0, "10s"),
        ("10 sec", 10.0, "10s"),
        ("500ms", 0.5, "500ms"),
        ("0.5", 0.5, "500ms"),
        ("1.25s", 1.25, "1250ms"),
        ("1min 30s", 90.0, "90s"),
        ("2min", 120.0, "2min"),
        ("no", None, "no"),
    ],
)
def test_a_time_is_read_as_systemd_does(text: str, seconds: float | None, written: str) -> None:
    assert SPAN.read(text) == seconds
    assert SPAN.write(seconds) == written
    assert SPAN.read(written) == seconds


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("", ""),
        ("s", ""),
        ("-1", ""),
        ("10h", ""),
        ("0", ""),
        ("32768", ""),
        ("10 s 3 x", ""),
        ("10 3", "the interval alone: 10s; how often is KeepaliveRetries=3"),
        ("10s,10", ""),
        ("10,10", "the interval alone: 10s; how often is KeepaliveRetries=10"),
        ("yes", "how often, as in 10s"),
        ('"10s"', "without quotes: 10s"),
    ],
)
def test_other_words_are_no_time(text: str, hint: str) -> None:
    assert refuses(SPAN, text) == [hint]


@pytest.mark.parametrize(("text", "value"), [("1", 1), ("255", 255), ("inherit", None)])
def test_number_in_range_is_read(text: str, value: object) -> None:
    assert NUMBER.read(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "0",
        "256",
        "-1",
        "+1",
        "1.0",
        "010",
        "0x10",
        "1_0",
        "\u0661",
        "",
        "64 65",
        "64\n65",
        "9" * 5000,
    ],
)
def test_number_out_of_range_or_in_doubt_is_refused(text: str) -> None:
    assert refuses(NUMBER, text)


@pytest.mark.parametrize(
    ("text", "value"), [("0x10", 16), ("0XfF", 255), ("0", 0), ("Inherit", None)]
)
def test_hexadecimal_number_is_read_where_it_is_usual(text: str, value: object) -> None:
    assert NUMBER_OR_HEX.read(text) == value


@pytest.mark.parametrize("text", ["0x", "0x100", "0x00000000a", "ff", "00", "010"])
def test_hexadecimal_number_in_doubt_is_refused(text: str) -> None:
    assert refuses(NUMBER_OR_HEX, text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("42", 42),
        ("4294967295", 4294967295),
        ("0xdeadbeef", 3735928559),
        ("0.0.0.42", 42),
        ("255.255.255.255", 4294967295),
        ("none", None),
    ],
)
def test_key_is_a_number_or_a_dotted_quad(text: str, value: object) -> None:
    assert values.KEY.read(text) == value


@pytest.mark.parametrize("text", ["4294967296", "1.2.3", "1.2.3.256", "01.2.3.4", "fd00::1", "-1"])
def test_key_beyond_four_octets_is_refused(text: str) -> None:
    assert refuses(values.KEY, text)


@pytest.mark.parametrize("text", ["192.0.2.1", "fd00::1"])
def test_endpoint_is_an_address_of_either_family(text: str) -> None:
    assert values.REMOTE.read(text) == (ip_address(text), None)


def test_endpoint_may_be_any() -> None:
    assert values.REMOTE.read("any") == (None, None)


@pytest.mark.parametrize("text", ["192.0.2", "192.0.2.300", "fd00:::1"])
def test_endpoint_that_is_no_address_is_refused(text: str) -> None:
    assert refuses(values.REMOTE, text) == [""]


def test_endpoint_with_an_interface_is_refused_in_words() -> None:
    assert refuses(values.REMOTE, "fe80::1%eth0") == ["write fe80::1, and Device=eth0"]
    assert refuses(values.REMOTE, "%eth0") == ["only Local= takes %INTERFACE"]


@pytest.mark.parametrize("separator", [",", ", ", " ", " , ", "\n", ",\n", "\t"])
def test_list_has_commas_or_blanks(separator: str) -> None:
    text = f"10.1.2.1/24{separator}fd00::1/64"
    assert values.INTERFACES.read(text) == (ip_interface("10.1.2.1/24"), ip_interface("fd00::1/64"))


def test_list_may_be_none() -> None:
    assert values.INTERFACES.read("none") == ()


def test_address_without_a_prefix_is_a_host() -> None:
    assert values.INTERFACES.read("10.1.2.1") == (ip_interface("10.1.2.1/32"),)


def test_every_bad_item_of_a_list_is_found() -> None:
    with pytest.raises(BadValueError) as caught:
        values.INTERFACES.read("10.1.2.1/33 10.1.2.1/24 x")
    assert [finding.got for finding in caught.value.findings] == ["10.1.2.1/33", "x"]


def test_list_of_commas_is_refused() -> None:
    assert refuses(values.INTERFACES, ",")


@pytest.mark.parametrize(
    "text", ["10.0.0.1/255.0.0.0", "10.0.0.1/0.0.0.255", "10.0.0.1/", "10.0.0.1/8/8", "/8"]
)
def test_netmask_is_no_prefix(text: str) -> None:
    assert refuses(values.INTERFACES, text)
    assert refuses(values.NETWORKS, text)


def test_address_with_an_interface_is_refused() -> None:
    assert refuses(values.INTERFACES, "fe80::1%eth0/64")


@pytest.mark.parametrize("text", ["10.0.0.0/8", "0.0.0.0/0", "fd00::/8", "10.1.2.3/32"])
def test_network_is_read(text: str) -> None:
    assert values.NETWORKS.read(text) == (ip_network(text),)


def test_network_with_host_bits_names_the_network() -> None:
    assert refuses(values.NETWORKS, "20.1.3.1/24") == [
        "host bits are set; the network is 20.1.3.0/24"
    ]


def test_checksum_yes_sends_and_requires() -> None:
    assert values.CHECKSUM.read("yes") == ("require", True)


def test_checksum_no_sends_none_and_accepts() -> None:
    """RFC 2784 section 2.3: an implementation must accept packets with a checksum."""
    assert values.CHECKSUM.read("no") == ("accept", False)


@pytest.mark.parametrize("value", [("refuse", False), ("require", False), ("accept", True)])
def test_checksum_cannot_express_directions_that_differ(value: object) -> None:
    assert values.CHECKSUM.write(value) is None


def test_pair_cannot_express_values_that_differ() -> None:
    kind = values.both(values.KEY)
    assert kind.read("7") == (7, 7)
    assert kind.write((7, 7)) == "7"
    assert kind.write((7, None)) is None


def test_choice_is_one_of_its_words() -> None:
    kind = values.choice(auto=True, no=False)
    assert kind.expected == "auto or no"
    assert (kind.read("auto"), kind.read("no"), kind.write(False)) == (True, False, "no")
    assert refuses(kind, "yes")


@pytest.mark.parametrize("name", ["a", "Tunnel-1", "gre.1", "x" * 15, "to_nyc@2", "a=b"])
def test_interface_name_is_accepted(name: str) -> None:
    assert refuse_interface_name(name) == ""


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "expected an interface name, got none"),
        ("x" * 16, "expected an interface name of at most 15 bytes, got 16 bytes"),
        ("\u00e9" * 8, "expected an interface name of at most 15 bytes, got 16 bytes"),
        (".", 'expected an interface name of its own, got the reserved name "."'),
        ("..", 'expected an interface name of its own, got the reserved name ".."'),
        ("lo", 'expected an interface name of its own, got the reserved name "lo"'),
        ("all", 'expected an interface name of its own, got the reserved name "all"'),
    ],
)
def test_interface_name_is_refused_with_a_reason(name: str, reason: str) -> None:
    assert refuse_interface_name(name) == reason


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a/b", "/"),
        ("a b", "blank"),
        ("a%d", "%"),
        ("a:1", ":"),
        ("\xe9", "\\xe9"),
        ("a\tb", "blank"),
        ("a#b", "#"),
        ("a\x00", "\\x00"),
        ("\udcff", "\\udcff"),
    ],
)
def test_interface_name_is_refused_for_a_character(name: str, shown: str) -> None:
    assert refuse_interface_name(name) == (
        "expected an interface name of printable ASCII without blanks, quotes and / : % # ; [ ], "
        f"got one with {shown}"
    )


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("any", (None, None)),
        ("192.0.2.1", (ip_address("192.0.2.1"), None)),
        ("fd00::1", (ip_address("fd00::1"), None)),
        ("%eth0", (None, "eth0")),
        ("%eth0.100", (None, "eth0.100")),
        ("%lo", (None, "lo")),
    ],
)
def test_local_end(text: str, value: object) -> None:
    assert values.LOCAL.read(text) == value
    assert values.LOCAL.write(value) == text


@pytest.mark.parametrize(
    "text", ["%", "%%eth0", "%a/b", "%xxxxxxxxxxxxxxxx", "eth0", "fe80::1%eth0"]
)
def test_local_end_is_refused(text: str) -> None:
    assert refuses(values.LOCAL, text)


def test_local_end_cannot_be_address_and_interface() -> None:
    assert values.LOCAL.write((ip_address("192.0.2.1"), "eth0")) is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("02:00:00:00:00:01", "02:00:00:00:00:01"),
        ("AC:DE:48:00:00:80", "ac:de:48:00:00:80"),
        ("none", None),
    ],
)
def test_mac_address(text: str, value: str | None) -> None:
    assert values.MAC_ADDRESS.read(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "01:00:5e:00:00:01",  # multicast
        "ff:ff:ff:ff:ff:ff",
        "00:00:00:00:00:00",
        "02-00-00-00-00-01",
        "02:00:00:00:00",
        "02:00:00:00:00:01:02",
        "2:0:0:0:0:1",
        "0200.0000.0001",
    ],
)
def test_mac_address_is_refused(text: str) -> None:
    assert refuses(values.MAC_ADDRESS, text)


@pytest.mark.parametrize("text", ["blue", "4711", "/proc/1/ns/net", "/run/netns/blue", "a@b"])
def test_namespace(text: str) -> None:
    assert values.NAMESPACE.read(text) == text


@pytest.mark.parametrize("text", [".", "..", "a/b", "../blue", "a b", "a\tb", "a\nb", "/a\0b"])
def test_namespace_is_refused(text: str) -> None:
    assert refuses(values.NAMESPACE, text)


@pytest.mark.parametrize(
    ("text", "words", "written"),
    [
        ("none", (), "none"),
        ("/bin/true", ("/bin/true",), "/bin/true"),
        ("/sbin/ip  route add\n10.0.0.0/8", ("/sbin/ip", "route", "add", "10.0.0.0/8"), None),
        ("/bin/a 'b c' \"d\"e f\\ g", ("/bin/a", "b c", "de", "f g"), "/bin/a 'b c' de 'f g'"),
        ("/bin/a $GRED_STATE %i ~ *", ("/bin/a", "$GRED_STATE", "%i", "~", "*"), None),
        ("'/opt/my programs/a' b", ("/opt/my programs/a", "b"), "'/opt/my programs/a' b"),
        ("/bin/a ''", ("/bin/a", ""), "/bin/a ''"),
        ("/bin/a b'  '\"#\"c", ("/bin/a", "b  #c"), "/bin/a 'b  '\"#\"'c'"),
    ],
)
def test_a_command_is_split_as_a_shell_does_and_nothing_is_expanded(
    text: str, words: tuple[str, ...], written: str | None
) -> None:
    assert values.COMMAND.read(text) == words
    again = values.COMMAND.write(words)
    assert again is not None
    assert values.COMMAND.read(again) == words
    assert written in {None, again}


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("ip route add", "no path is searched: write the whole, as /usr/sbin/ip"),
        ("-/bin/a", "without - before the path"),
        ("bin/a", "the path begins with /"),
        ("~/a", "the path begins with /"),
        ("A=b /bin/a", "/usr/bin/env NAME=VALUE PROGRAM"),
        ('"/bin/a b"', "without quotes around the whole"),
        ("/bin/a 'b", "a quote is not closed"),
        ("/bin/a b \\", "without a backslash"),
        ("/bin/a 'b\nc'", "ends in the line where it begins"),
        ("''", ""),
    ],
)
def test_other_text_is_no_command(text: str, hint: str) -> None:
    (found,) = refuses(values.COMMAND, text)
    assert hint in found


@pytest.mark.parametrize(
    ("text", "noted"),
    [
        ("/bin/a b | /bin/c", "|"),
        ("/bin/a b && /bin/c", "&&"),
        ("/bin/a b >/run/c", ">/run/c"),
        ("/bin/a $GRED_STATE", "$GRED_STATE"),
        ("/sbin/ip link show %i", "%i"),
        ("/bin/sh -c '/bin/a | /bin/b'", ""),
        ("/bin/sh -c $GRED_STATE", ""),
        ("/bin/a b", ""),
        ("none", ""),
    ],
)
def test_what_only_a_shell_does_is_noted(text: str, noted: str) -> None:
    note = values.COMMAND.note(text)
    assert note == (f"there is no shell: {noted} is handed over as it stands" if noted else "")


@pytest.mark.parametrize(
    "name", ["vpn.example", "vpn.example.", "gateway", "a-1.b_2.example", "3com.example", "x" * 63]
)
def test_a_remote_may_have_a_name(name: str) -> None:
    assert values.REMOTE.read(name) == (None, name)
    assert values.REMOTE.write((None, name)) == name
    assert values.REMOTE.write((ip_address("192.0.2.1"), name)) == name


@pytest.mark.parametrize(
    "text",
    [
        *("192.0.2", "1.2.3.4.5", "vpn.example.1", "host.0x10", "0x7f000001", "-a.example", "a..b"),
        *(
            "a b",
            "h\u00f6st.example",
            "x" * 64,
            f"{'x' * 63}." * 4 + "example",
            ".",
            "none",
            "Yes",
            "",
        ),
    ],
)
def test_what_is_no_name_and_no_address_is_refused(text: str) -> None:
    assert refuses(values.REMOTE, text)
