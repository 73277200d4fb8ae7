"""The command line: ``gred`` and its commands.

Only words are read here; what a command needs is imported when it runs, so that ``gred --version``
answers at once. Nothing here opens a device or a socket.
"""

import argparse
import contextlib
import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from gred import __version__
from gred.management import signals
from gred.management.places import DEFAULT_CONFIGURATION, socket_path

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
_ASKING = frozenset(
    {"status", "peers", "drops", "top", "events", "trace", "capture", "reload", "confirm"}
)
_FORMS = ("gred", "ip", "networkd", "cisco", "mikrotik")
_NOBODY_READS = 141  # what a shell shows for a program that SIGPIPE ended
_INTERRUPTED = 130  # what a shell shows for a program that SIGINT ended


def main(argv: list[str] | None = None) -> int:
    """Run the command in *argv* (the process's own unless given) and return its exit code."""
    arguments = parser().parse_args(argv)
    try:
        if arguments.command == "check":
            from gred.management.check import check  # noqa: PLC0415 - not for gred --version

            return _print(lambda: check(arguments.configuration, quiet=arguments.quiet))
        if arguments.command == "doctor":
            from gred.management.doctor.examination import doctor  # noqa: PLC0415 - as above

            return _print(
                lambda: doctor(
                    arguments.configuration,
                    asked_for=arguments.configuration is not DEFAULT_CONFIGURATION,
                    json=arguments.json,
                    root=arguments.root,
                )
            )
        if arguments.command == "convert":
            from gred.management.convert.command import run as convert  # noqa: PLC0415 - as above

            return _print(lambda: convert(arguments.files, dialect=arguments.dialect))
        if arguments.command in _ASKING:
            return _ask(arguments)
        if arguments.command == "show":
            from gred.management.show.command import run as show  # noqa: PLC0415 - as above

            return _print(lambda: show(arguments.configuration, arguments.tunnel, arguments.form))
        if arguments.command == "demo":
            from gred.management.demo import run_demo  # noqa: PLC0415 - not for gred --version

            return run_demo(arguments.pcap)
        # A container's first process has no default action for SIGTERM: without this one a stop
        # during the imports is lost.
        signal.signal(signal.SIGTERM, _leave)
        signals.ignore_useless()
        from gred.management.run import run  # noqa: PLC0415 - not for gred --version

        return run(
            arguments.configuration,
            foreground=arguments.foreground,
            verbosity=arguments.verbose,
        )
    except KeyboardInterrupt:
        return _INTERRUPTED


def _print(command: Callable[[], int]) -> int:
    """Return what *command* does; who reads its output may have enough of it, as head(1) has."""
    try:
        code = command()
        sys.stdout.flush()
    except BrokenPipeError:
        # The interpreter would try once more, at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _NOBODY_READS
    return code


def _leave(_signal: int, _frame: object) -> NoReturn:
    sys.exit(0)


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
        epilog="exit codes: 0 fine, 1 the daemon does not answer, 3 a named tunnel is not up",
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
            epilog="exit codes: 0 fine, 1 the daemon does not answer",
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
        epilog="exit codes: 0 fine, 1 the daemon does not answer",
    )
    _add_configuration(rates, default=argparse.SUPPRESS)
    rates.add_argument("tunnels", metavar="TUNNEL", nargs="*")
    rates.add_argument("-n", "--count", metavar="N", type=_count, help="show it N times, then end")

    telling = commands.add_parser(
        "events",
        help="show what happened to the tunnels of the running daemon",
        description="Show the last events, the log's lines about tunnels, the oldest first.",
        epilog="exit codes: 0 fine, 1 the daemon does not answer",
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


def _ask(arguments: argparse.Namespace) -> int:
    """Ask the running daemon; return the exit code."""
    from gred.management import status  # noqa: PLC0415 - not for gred --version

    path = socket_path(arguments.configuration, _setting(arguments.configuration))
    match arguments.command:
        case "status":
            return _print(
                lambda: status.status(
                    path, arguments.tunnels, as_json=arguments.json, watch=arguments.watch
                )
            )
        case "events":
            return _print(
                lambda: status.events(
                    path, arguments.tunnels, follow=arguments.follow, as_json=arguments.json
                )
            )
        case "peers" | "drops":
            from gred.management import inspection  # noqa: PLC0415 - as above

            show = inspection.peers if arguments.command == "peers" else inspection.drops
            return _print(lambda: show(path, arguments.tunnels, as_json=arguments.json))
        case "trace" | "capture":
            from gred.management import capture  # noqa: PLC0415 - as above

            names, count = arguments.tunnels, arguments.count
            if arguments.command == "trace":
                return _print(lambda: capture.trace(path, names, count=count))
            how = {"write": arguments.write, "snap": min(arguments.snaplen, SNAP), "count": count}
            return _print(lambda: capture.capture(path, names, **how))
        case "top":
            from gred.management.top import top  # noqa: PLC0415 - as above

            return _print(lambda: top(path, arguments.tunnels, count=arguments.count))
        case "confirm":
            return status.confirm(path)
        case _:
            return status.reload(path, dry_run=arguments.dry_run, confirm=arguments.confirm)


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


def _setting(configuration: Path) -> str:
    """Return what ControlSocket= is; auto where the file cannot be read or is wrong by now."""
    written = False
    with contextlib.suppress(OSError):
        drop_ins = configuration.with_suffix(".conf.d").glob("*.conf")
        texts = (file.read_text(errors="replace") for file in (configuration, *drop_ins))
        written = any(re.search(r"^\s*ControlSocket\s*=", text, re.MULTILINE) for text in texts)
    if not written:
        return "auto"
    from gred.config import ConfigurationError, load  # noqa: PLC0415 - takes its time

    try:
        return load(configuration).daemon.control_socket or "auto"
    except ConfigurationError:
        return "auto"


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
