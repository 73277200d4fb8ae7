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

from gred.management import signals
from gred.management.parser import SNAP, parser
from gred.management.places import DEFAULT_CONFIGURATION, socket_path

_ASKING = frozenset(
    {"status", "peers", "drops", "top", "events", "trace", "capture", "reload", "confirm"}
)
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
