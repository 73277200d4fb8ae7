"""The command line: ``gred``, ``gred check``, ``gred demo``.

Only words are read here; what a command needs is imported when it runs, so that ``gred --version``
answers at once. Nothing here opens a device or a socket.
"""

import argparse
import signal
import sys
from pathlib import Path
from typing import NoReturn

from gred import __version__
from gred.management import signals

DEFAULT_CONFIGURATION = Path("/etc/gred/gred.conf")

_EXIT_CODES = """\
exit codes:
  0   fine
  1   failure at run time
  2   usage
  69  /dev/net/tun is not there, or is not what it should be
  77  no permission: gred needs CAP_NET_ADMIN and CAP_NET_RAW
  78  bad configuration

signals:
  SIGINT, SIGTERM, SIGQUIT  stop and take down what was set up; a second SIGINT does not wait for it
  SIGUSR1                   log the states of the tunnels, and drops since the last time
  SIGHUP                    nothing yet but a line in the log; on a terminal that is gone: stop
"""
_INTERRUPTED = 130  # what a shell shows for a program that SIGINT ended


def main(argv: list[str] | None = None) -> int:
    """Run the command in *argv* (the process's own unless given) and return its exit code."""
    arguments = _parser().parse_args(argv)
    try:
        if arguments.command == "check":
            from gred.management.check import check  # noqa: PLC0415 - not for gred --version

            return check(arguments.configuration)
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


def _leave(_signal: int, _frame: object) -> NoReturn:
    sys.exit(0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gred",
        description="A GRE tunnel daemon that needs no kernel GRE module."
        " Without a command it runs the daemon.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"gred {__version__}")
    _add_configuration(parser, default=DEFAULT_CONFIGURATION)
    parser.add_argument(
        "--foreground",
        action="store_true",
        help="log for people, as on a terminal, whatever stderr is, and stop when the terminal"
        " goes; gred never forks, with or without it",
    )
    parser.add_argument(
        "-v",
        "--verbose",
        action="count",
        default=0,
        help="-v: states and decisions; -vv: one decoded line per packet; -vvv: with hex",
    )
    commands = parser.add_subparsers(dest="command", metavar="[check | demo]")

    checking = commands.add_parser(
        "check",
        help="validate a configuration and show what would be done",
        description="Validate a configuration, print it in full and what gred would do with it,"
        " in ip(8) terms. Nothing is changed.",
        epilog="exit codes: 0 fine, 78 bad configuration",
    )
    # Not given after the command, what was given before it stands.
    _add_configuration(checking, default=argparse.SUPPRESS)

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
    return parser


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
