"""gred(8), gred.conf(5) and gred-metrics(7) as mdoc(7).

They are made of the argument parser, the option table, and the table of metrics that
docs/monitoring.md has and a test compares with what is handed out. Nothing about a command, an
option, an exit code or a metric is written here; what gred is, and how the parts go together, is.
Lines are filled by the reader's formatter.
"""

import argparse
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

from gred.config.options import DAEMON_OPTIONS, TUNNEL_OPTIONS, Option
from gred.management.parser import parser

DATE = "November 26, 2026"  # of the last change that is worth one
_SENTENCE = re.compile(r"(?<=[.!?]) +(?=\S)")

_DESCRIPTION = """\
gred reads packets from a TUN device, wraps them in GRE (RFC 2784, RFC 2890) and sends them as
IP protocol 47; what arrives goes the other way. The peer may be another gred, a Linux kernel, a
router, or anything else that speaks GRE. It needs /dev/net/tun, CAP_NET_ADMIN and CAP_NET_RAW,
and no module of the kernel but tun.

Without a command gred is the daemon: it makes the configured interfaces, their addresses and
routes, and takes them down when it stops. It never forks."""

_FORMAT = """\
A section [Tunnel NAME] is a tunnel; NAME is that of its interface, of at most 15 characters.
Below it stands one option a line, as Option=value. The section [Daemon] is for the whole
process. Lines that begin with # or ; are comments, and so is the end of a line from a # after a
blank. An indented line goes on with the value above it. Lists are separated by commas or
blanks.

Drop-in files add sections, and do not override any. An unknown section or option, a repeated
one and a bad value are errors: gred check tells all of them, with file and line. Names of
options are those of systemd.netdev(5) where the meaning is equal."""

_EXAMPLE = """\
[Tunnel Tunnel-1]
Local=192.168.1.10
Remote=192.168.1.13
Address=10.1.2.1/24
Route=20.1.3.0/24
Key=42"""

_METRICS = """\
With MetricsListen= in the [Daemon] section of gred.conf(5), gred hands out metrics for Prometheus
by HTTP at /metrics, says at /healthz whether its event loop answers, and at /ready whether it has
started. With MetricsTextfile= it writes the same to a file every 15 seconds, for the textfile
collector of node_exporter.

Every configured tunnel is there from the first scrape, and its series stay as long as it is
configured. What is not known is NaN; a time that never was is 0. To receive is out of the tunnel,
to transmit into it. By HTTP there are the usual metrics of a process, too."""

_MONITORING = Path(__file__).parents[1] / "docs" / "monitoring.md"
_METRIC = re.compile(r"\| `(gred_\w+)(?:\{(.+)\})?` \| (.+) \|", re.ASCII)

_ALSO_METRICS = ("gred 8", "gred.conf 5", "prometheus 1", "prometheus-node-exporter 1")
_ALSO_PROGRAM = (
    "gred-metrics 7",
    "gred.conf 5",
    "ip 8",
    "systemctl 1",
    "systemd-networkd.service 8",
)
_ALSO_FILE = ("gred-metrics 7", "gred 8", "ip-tunnel 8", "systemd.netdev 5", "systemd.network 5")


def pages() -> dict[Path, str]:
    """Return the text of each page, by the path of its file."""
    return {
        Path("man/gred.8"): program(),
        Path("man/gred.conf.5"): configuration(),
        Path("man/gred-metrics.7"): metrics(),
    }


def program() -> str:
    """Return gred(8)."""
    top = parser()
    lines = [*_head("GRED", 8), ".Sh NAME", ".Nm gred"]
    about = (top.description or "").removeprefix("A ").partition(".")[0]
    lines.append(f".Nd {about}")
    lines += [".Sh SYNOPSIS", ".Nm", *_usage(top)]
    for name, command in _commands(top):
        lines += [".Nm", f".Cm {name}", *_usage(command)]
    lines += [".Sh DESCRIPTION", *_paragraphs(_DESCRIPTION), ".Pp", "The options are as follows:"]
    lines += _options(top)
    lines += [".Ss Commands"]
    for name, command in _commands(top):
        lines += [".Bl -tag -width Ds", ".It Cm " + name, *_paragraphs(command.description or "")]
        inner = _options(command, without="-c")
        lines += inner
        if epilog := command.epilog:
            lines += [".Pp", *_text(_sentence(epilog))]
        lines.append(".El")
    sections = _epilog(top.epilog or "")
    lines += [".Ss Signals", *_tagged(sections["signals"])]
    lines += [".Sh FILES", *_files()]
    lines += [".Sh EXIT STATUS", *_tagged(sections["exit codes"])]
    return _page([*lines, ".Sh SEE ALSO", *_references(_ALSO_PROGRAM)])


def configuration() -> str:
    """Return gred.conf(5)."""
    lines = [*_head("GRED.CONF", 5), ".Sh NAME", ".Nm gred.conf", ".Nd tunnels of gred"]
    lines += [".Sh SYNOPSIS", ".Pa /etc/gred/gred.conf", ".Pp", ".Pa /etc/gred/gred.conf.d/*.conf"]
    lines += [".Sh DESCRIPTION", *_paragraphs(_FORMAT)]
    for title, table in (
        ("Tunnel sections", TUNNEL_OPTIONS),
        ("the Daemon section", DAEMON_OPTIONS),
    ):
        lines += [f".Ss Options of {title}", ".Bl -tag -width Ds"]
        for option in table:
            lines += _option(option)
        lines.append(".El")
    lines += [".Sh FILES", *_files()]
    lines += [".Sh EXAMPLES", "A tunnel with a key, and a network behind its other end:"]
    lines += [".Bd -literal -offset indent", *map(_plain, _EXAMPLE.splitlines()), ".Ed"]
    return _page([*lines, ".Sh SEE ALSO", *_references(_ALSO_FILE)])


def metrics() -> str:
    """Return gred-metrics(7)."""
    lines = [*_head("GRED-METRICS", 7), ".Sh NAME", ".Nm gred-metrics"]
    lines += [".Nd metrics of gred for Prometheus", ".Sh DESCRIPTION", *_paragraphs(_METRICS)]
    lines += [".Ss Metrics", ".Bl -tag -width Ds"]
    for name, labels, meaning in _METRIC.findall(_MONITORING.read_text(encoding="utf-8")):
        lines.append(f".It Ic {name}" + (f" Pq {labels.replace(',', ', ')}" if labels else ""))
        lines += _text(_sentence(re.sub(r"`(.+?)`", r"\1", meaning)))
    lines += [".El", ".Sh FILES", ".Bl -tag -width Ds"]
    lines += [".It Pa /opt/gred/share/doc/gred/monitoring", "Alert rules and a dashboard.", ".El"]
    return _page([*lines, ".Sh SEE ALSO", *_references(_ALSO_METRICS)])


def _head(title: str, section: int) -> list[str]:
    return [f".Dd {DATE}", f".Dt {title} {section}", ".Os"]


def _page(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _option(option: Option) -> list[str]:
    lines = [f".It Ic {option.name}=", *_text(option.sentence)]
    lines += ["Takes", *_text(f"{option.kind.expected};"), "the default is"]
    return [*lines, f".Cm {_argument(option.default)} ."]


def _commands(top: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    for action in top._actions:  # noqa: SLF001 - argparse has no other way to ask
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            yield from sorted(action.choices.items())


def _arguments(command: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in command._actions:  # noqa: SLF001
        if not isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            yield action


def _usage(command: argparse.ArgumentParser) -> Iterator[str]:
    for action in _arguments(command):
        if not action.option_strings:
            many = " ..." if action.nargs in {"*", "+"} else ""
            word = f"Ar {action.metavar}{many}"
            yield f".Op {word}" if action.nargs in {"*", "?"} else f".{word}"
        elif action.dest not in {"help", "version"}:
            yield f".Op {_flag(action.option_strings[0])}{_value(action)}"


def _flag(option: str) -> str:
    return f"Fl {option.removeprefix('-')}"


def _value(action: argparse.Action) -> str:
    if action.nargs == 0:
        return ""
    if action.choices:
        return " Cm " + " | ".join(map(str, action.choices))
    return f" Ar {action.metavar}"


def _options(command: argparse.ArgumentParser, *, without: str = "") -> list[str]:
    lines = []
    for action in _arguments(command):
        if without in action.option_strings or not action.help or action.dest == "help":
            continue
        if action.option_strings:
            # Two macros of one line are parted by a comma of their own.
            names = " , ".join(map(_flag, action.option_strings))
            lines.append(f".It {names}{_value(action)}")
        else:
            lines.append(f".It Ar {action.metavar}")
        lines += _text(_sentence(action.help.replace("%%", "%")))
    return [".Bl -tag -width Ds", *lines, ".El"] if lines else []


def _epilog(text: str) -> dict[str, list[tuple[str, str]]]:
    """Return the lists in the parser's epilog, by their titles: what is named, and what of it."""
    found: dict[str, list[tuple[str, str]]] = {}
    items: list[tuple[str, str]] = []
    for line in text.splitlines():
        if line.endswith(":") and not line[0].isspace():
            items = found.setdefault(line[:-1], [])
        elif line.strip():
            name, _, words = line.strip().partition("  ")
            items.append((name, words.strip()))
    return found


def _tagged(items: list[tuple[str, str]]) -> list[str]:
    lines = []
    for name, words in items:
        lines += [f".It {_argument(name)}", *_text(_sentence(words))]
    return [".Bl -tag -width Ds", *lines, ".El"]


def _files() -> list[str]:
    files = (
        ("/etc/gred/gred.conf", "The configuration, unless -c names another."),
        (
            "/etc/gred/gred.conf.d/*.conf",
            "Drop-in files, read after it in the order of their names.",
        ),
    )
    lines = []
    for path, words in files:
        lines += [f".It Pa {path}", *_text(words)]
    return [".Bl -tag -width Ds", *lines, ".El"]


def _references(names: tuple[str, ...]) -> list[str]:
    lines = [f".Xr {name} ," for name in sorted(names, key=lambda name: name.split()[::-1])]
    return [*lines[:-1], lines[-1].removesuffix(" ,")]


def _paragraphs(text: str) -> list[str]:
    lines: list[str] = []
    for paragraph in text.split("\n\n"):
        lines += [".Pp"] if lines else []
        lines += _text(" ".join(paragraph.split()))
    return lines


def _text(text: str) -> list[str]:
    """Return *text* with a line for each sentence, as mdoc(7) wants it."""
    lines = []
    for sentence in _SENTENCE.split(text):
        lines += textwrap.wrap(sentence, 78, break_on_hyphens=False, break_long_words=False)
    return [_plain(line) for line in lines]


def _plain(line: str) -> str:
    """Return *line* so that roff takes all of it for text."""
    line = line.replace("\\", "\\e")
    return f"\\&{line}" if line[:1] in {".", "'"} else line


def _argument(text: str) -> str:
    """Return *text* as arguments of a macro; none of its words is one."""
    return " ".join(f"\\&{word}" if word[0].isupper() else _plain(word) for word in text.split())


def _sentence(text: str) -> str:
    begin = text[:1] if text.startswith("gred ") else text[:1].upper()
    return f"{begin}{text[1:]}" + ("" if text.endswith(".") else ".")
