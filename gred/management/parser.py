"""What may be typed behind ``gred``: commands, options, what each is for.

Manual pages and completions are made of it. Only words; what they lead to is in cli.py.
"""

import argparse
from pathlib import Path

from gred import __version__
from gred.management.places import DEFAULT_CONFIGURATION

_EXIT_CODES = """\
exit codes:
  0   fine
  1   failure at run time
  2   usage
  3   gred doctor has findings; a tunnel that gred status was asked for is not up
  69  /dev/net/tun is not there, or is not what it should be
  77  no permission: gred needs CAP_NET_ADMIN and CAP_NET_RAW
  78  bad configuration

signals:
  SIGINT, SIGTERM, SIGQUIT  stop and take down what was set up; a second SIGINT does not wait for it
  SIGUSR1                   log the states of the tunnels, and drops since the last time
  SIGHUP                    read the configuration again; on a terminal that is gone: stop
"""
SNAP = 256 * 1024  # bytes of a packet: more than any has
_DIALECTS = ("ip-json", "networkd", "mikrotik", "cisco", "ip")
_FORMS = ("gred", "ip", "networkd", "cisco", "mikrotik")


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands; what is said of them elsewhere is made from it."""
    top = argparse.ArgumentParser(
        prog="gred",
        description="A GRE tunnel daemon that needs no kernel GRE module."
        " Without a command it runs the daemon.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"gred {__version__}")
    _add_configuration(top, default=DEFAULT_CONFIGURATION)
    top.add_argument(
        "--foreground",
        action="store_true",
        help="log for people, as on a terminal, whatever stderr is, and stop when the terminal"
        " goes; gred never forks, with or without it",
    )
    top.add_argument(
        "-v",
        "--verbose",
        action="count",
        default=0,
        help="-v: states and decisions; -vv: one decoded line per packet; -vvv: with hex",
    )
    commands = top.add_subparsers(dest="command", metavar="COMMAND")

    checking = commands.add_parser(
        "check",
        help="validate a configuration and show what would be done",
        description="Validate a configuration, print it in full and what gred would do with it,"
        " in ip(8) terms. Nothing is changed.",
        epilog="exit codes: 0 fine, 78 bad configuration",
    )
    checking.add_argument(
        "-q", "--quiet", action="store_true", help="print nothing but what is wrong"
    )
    # Not given after the command, what was given before it stands.
    _add_configuration(checking, default=argparse.SUPPRESS)

    conversion = commands.add_parser(
        "convert",
        help="print what other tools configured as gred.conf",
        description="Print as gred.conf what is in FILE, one after another: the output of ip"
        " -json -details link (address, route), commands of ip(8), .netdev and .network files of"
        " systemd-networkd, a configuration of Cisco IOS or of MikroTik RouterOS. What has no"
        " equivalent is said in a comment and on stderr. Nothing is changed.",
        epilog="exit codes: 0 fine, 1 no tunnel was found, or nothing that could be read",
    )
    conversion.add_argument("files", metavar="FILE", nargs="*", help="- or none: standard input")
    conversion.add_argument(
        "--from",
        dest="dialect",
        choices=_DIALECTS,
        help="what FILE is, where it is not recognised",
    )

    examination = commands.add_parser(
        "doctor",
        help="look for what keeps tunnels from working on this host",
        description="Look at this host and at the configured tunnels: what is there, what is wrong,"
        " and the command that mends it. Runs beside the daemon or without it. Nothing is changed,"
        " and no packet is sent. As root it sees most; what it cannot see it says.",
        epilog="exit codes: 0 no findings, 3 findings, 78 bad configuration",
    )
    _add_configuration(examination, default=argparse.SUPPRESS)
    examination.add_argument("--json", action="store_true", help="for machines; see docs/doctor.md")
    examination.add_argument(
        "--root",
        metavar="DIR",
        type=Path,
        default=Path("/"),
        help="look for the unit and the files of systemd-networkd below DIR",
    )

    showing = commands.add_parser(
        "status",
        help="show how the tunnels of the running daemon are",
        description="Show all tunnels, a line each, those in trouble first; or those that are"
        " named, with everything that is known of them.",
        epilog="exit codes: 0 fine, 1 the daemon does not answer, 3 a named tunnel is not up,"
        " 77 no permission",
    )
    _add_configuration(showing, default=argparse.SUPPRESS)
    showing.add_argument("tunnels", metavar="TUNNEL", nargs="*")
    showing.add_argument("--json", action="store_true", help="for machines; see docs/status.md")
    showing.add_argument("-w", "--watch", action="store_true", help="again every second")

    for name, about, more in (
        (
            "peers",
            "show the remotes of the running daemon's tunnels, and who else sends",
            (
                "Show which remotes there are, what is behind each, and when it was heard; and who"
                " sends GRE that no tunnel takes, with the tunnel that is nearest and what differs."
            ),
        ),
        (
            "drops",
            "show what the running daemon has dropped, and why",
            "Show how many packets were dropped since the start, by tunnel and reason.",
        ),
    ):
        inspecting = commands.add_parser(
            name,
            help=about,
            description=more,
            epilog="exit codes: 0 fine, 1 the daemon does not answer, 77 no permission",
        )
        _add_configuration(inspecting, default=argparse.SUPPRESS)
        inspecting.add_argument("tunnels", metavar="TUNNEL", nargs="*")
        inspecting.add_argument("--json", action="store_true", help="for machines")

    rates = commands.add_parser(
        "top",
        help="show what the tunnels of the running daemon move, as it happens",
        description="Show the rates of all tunnels, or of those that are named, every second and"
        " the busiest first: inner bits and packets, drops, the round trip of keepalives, and how"
        " it was in the last half minute. An interrupt (ctrl-C) ends it.",
        epilog="exit codes: 0 fine, 1 the daemon does not answer, 77 no permission",
    )
    _add_configuration(rates, default=argparse.SUPPRESS)
    rates.add_argument("tunnels", metavar="TUNNEL", nargs="*")
    rates.add_argument("-n", "--count", metavar="N", type=_count, help="show it N times, then end")

    telling = commands.add_parser(
        "events",
        help="show what happened to the tunnels of the running daemon",
        description="Show the last events, the log's lines about tunnels, the oldest first.",
        epilog="exit codes: 0 fine, 1 the daemon does not answer, 77 no permission",
    )
    _add_configuration(telling, default=argparse.SUPPRESS)
    telling.add_argument("tunnels", metavar="TUNNEL", nargs="*")
    telling.add_argument("--json", action="store_true", help="for machines, one object a line")
    telling.add_argument("-f", "--follow", action="store_true", help="go on with what happens")

    for name, about, more in (
        (
            "trace",
            "show the packets of the running daemon's tunnels, a decoded line each",
            "Show packets as they pass, a line each: the lines of gred -vv, without a restart.",
        ),
        (
            "capture",
            "write the packets of the running daemon's tunnels for Wireshark",
            (
                "Write packets as they pass, as pcapng: outer packets with all that is inside, an"
                " interface for each tunnel, and why a packet was dropped in its comment."
            ),
        ),
    ):
        watching = commands.add_parser(
            name,
            help=about,
            description=f"{more} Until it is interrupted. Who reads slowly misses packets; how many"
            " is said at the end. See docs/capture.md.",
            epilog="exit codes: 0 interrupted, or COUNT packets; 1 the daemon does not answer, or"
            " went; 141 nobody reads any more",
        )
        _add_configuration(watching, default=argparse.SUPPRESS)
        watching.add_argument(
            "tunnels",
            metavar="TUNNEL",
            nargs="*",
            help="its packets, and those from its remotes that no tunnel takes",
        )
        watching.add_argument("-n", "--count", type=_count, help="end after COUNT packets")
        if name == "capture":
            watching.add_argument(
                "-w",
                "--write",
                metavar="FILE",
                help="- or none: standard output, which must not be a terminal",
            )
            watching.add_argument(
                "-s",
                "--snaplen",
                metavar="BYTES",
                type=_count,
                default=SNAP,
                help="keep so much of each packet (default: all)",
            )

    reloading = commands.add_parser(
        "reload",
        help="have the running daemon follow its changed configuration",
        description="Read the configuration again. Tunnels that do not differ are not touched; with"
        " an error in it nothing changes.",
        epilog="exit codes: 0 fine, 1 the daemon does not answer, 77 no permission, 78 bad"
        " configuration",
    )
    _add_configuration(reloading, default=argparse.SUPPRESS)
    reloading.add_argument(
        "-n", "--dry-run", action="store_true", help="only print what would be done"
    )
    reloading.add_argument(
        "--confirm",
        metavar="TIME",
        type=_span,
        help="go back after TIME (60s, 5min) unless gred confirm is typed: for who comes by one of"
        " the tunnels",
    )

    confirming = commands.add_parser(
        "confirm",
        help="let what gred reload --confirm has changed stay",
        description="Let what gred reload --confirm has changed stay. A reload without --confirm"
        " does so, too.",
        epilog="exit codes: 0 fine, 1 nothing waits to be confirmed, 77 no permission",
    )
    _add_configuration(confirming, default=argparse.SUPPRESS)

    opposite = commands.add_parser(
        "show",
        help="print what the other end of a tunnel must configure",
        description="Print what the other end of TUNNEL must configure so that both agree: ends and"
        " keys change sides, and so on. What is guessed is said in a comment and on stderr.",
        epilog="exit codes: 0 fine, 1 no such tunnel, here or there, 78 bad configuration",
    )
    opposite.add_argument("tunnel", metavar="TUNNEL", help="name of a tunnel of the configuration")
    opposite.add_argument(
        "--as",
        dest="form",
        choices=_FORMS,
        default="gred",
        help="for gred (default), a Linux kernel (ip), systemd-networkd, Cisco IOS, MikroTik",
    )
    _add_configuration(opposite, default=argparse.SUPPRESS)

    demonstration = commands.add_parser(
        "demo",
        help="two hosts in network namespaces, tunnels between them, traffic across (needs root)",
        description="Build two hosts in network namespaces, run two daemons, send traffic through"
        " their tunnels, print what arrived, and remove everything.",
        epilog="exit codes: 0 everything arrived, 1 something did not, 69 and 77 as for gred",
    )
    demonstration.add_argument(
        "--pcap", metavar="FILE", type=Path, help="keep what crossed the underlay, for Wireshark"
    )
    return top


def _count(text: str) -> int:
    """Return a number of 1 and more. Raises ArgumentTypeError."""
    if not text.isascii() or not text.isdecimal() or not int(text[:10]):
        raise argparse.ArgumentTypeError(f"expected a number of 1 or more, got {text!r}")
    return int(text[:10])


def _span(text: str) -> float:
    """Return the seconds of a time as the configuration has it. Raises ArgumentTypeError."""
    from gred.config.values import read_span  # noqa: PLC0415 - not for gred --version

    try:
        seconds = read_span(text)
    except ValueError:
        seconds = 0.0
    if not 1 <= seconds <= 3600:
        raise argparse.ArgumentTypeError(
            f"expected a time of 1s..60min as 60s or 5min, got {text!r}"
        )
    return seconds


def _add_configuration(parser: argparse.ArgumentParser, *, default: object) -> None:
    parser.add_argument(
        "-c",
        "--config",
        dest="configuration",
        metavar="FILE",
        type=Path,
        default=default,
        help=f"main configuration file (default {DEFAULT_CONFIGURATION});"
        " drop-ins beside it are read after it: FILE less its suffix plus .conf.d/*.conf, as in"
        f" {DEFAULT_CONFIGURATION.with_suffix('.conf.d')}/*.conf",
    )
