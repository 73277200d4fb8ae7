"""The command ``gred convert``: files in, a configuration on stdout, remarks on stderr.

Reads the files it is given and nothing else; which dialect it is, their text tells.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from gred.config.problems import display
from gred.control.errors import ExitCode
from gred.management.convert import cisco, ip_commands, ip_json, mikrotik, networkd
from gred.management.convert.draft import ConversionError
from gred.management.convert.printing import Conversion, convert

SIZE_MAX = 16 << 20  # bytes: details of ten thousand interfaces
# In the order in which they are tried: the first that recognises the text.
DIALECTS: dict[str, ModuleType] = {
    "ip-json": ip_json,
    "networkd": networkd,
    "mikrotik": mikrotik,
    "cisco": cisco,
    "ip": ip_commands,
}
_STDIN = "-"


def run(files: Sequence[str], *, dialect: str | None = None) -> int:
    """Convert *files* ("-" is stdin), one after another; return the exit code.

    1 where there was nothing to read or to recognise, or no tunnel that gred takes.
    """
    files = files or [_STDIN]
    try:
        text = "\n".join(map(_read, files))
        done = of_text(text, dialect=dialect, source=", ".join(map(_shown, files)))
    except ConversionError as error:
        print(f"gred convert: {error}", file=sys.stderr)
        return int(ExitCode.FAILURE)
    print(done.text, end="")
    for remark in done.remarks:
        print(remark, file=sys.stderr)
    if not done.tunnels:
        print("gred convert: no tunnel that gred can have was found", file=sys.stderr)
        return int(ExitCode.FAILURE)
    return int(ExitCode.OK)


def of_text(text: str, *, dialect: str | None = None, source: str = "stdin") -> Conversion:
    """Return *text* converted; raise ConversionError if it is none of the dialects."""
    text = text.replace("\r\n", "\n")
    if dialect is None:
        dialect = next((name for name, one in DIALECTS.items() if one.recognise(text)), None)
    if dialect is None:
        raise ConversionError(
            f"{source}: expected ip -json -details link, commands of ip(8), files of"
            " systemd-networkd, a Cisco or a MikroTik configuration, got something else"
            f" (--from says which: {', '.join(DIALECTS)})"
        )
    try:
        drafts = DIALECTS[dialect].parse(text)
    except ConversionError as error:
        raise ConversionError(f"{source}: {error}") from None
    return convert(drafts, source)


def _shown(file: str) -> str:
    return "stdin" if file == _STDIN else display(file)


def _read(file: str) -> str:
    try:
        if file == _STDIN:
            data = sys.stdin.buffer.read(SIZE_MAX + 1)
        else:
            with Path(file).open("rb") as stream:
                data = stream.read(SIZE_MAX + 1)
    except OSError as error:
        raise ConversionError(f"{_shown(file)}: cannot be read: {error.strerror}") from None
    except ValueError:
        raise ConversionError(f"{_shown(file)}: cannot be read: a NUL in the name") from None
    if len(data) > SIZE_MAX:
        raise ConversionError(f"{_shown(file)}: expected at most {SIZE_MAX >> 20} MiB, got more")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConversionError(f"{_shown(file)}: expected UTF-8 text") from None
