"""Which .network file of systemd-networkd an interface of gred's falls to.

The rules are those of systemd.network(5). Of two files of one name that in the earlier directory
counts; of all, the first by name that matches. Files are read; networkd is asked nothing.
"""

import contextlib
import shlex
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from gred.config.problems import display
from gred.management.doctor.facts import NetworkFile

DIRECTORIES = (
    "etc/systemd/network",
    "run/systemd/network",
    "usr/local/lib/systemd/network",
    "usr/lib/systemd/network",
    "lib/systemd/network",
)
RUNS = "run/systemd/netif"  # networkd makes it when it starts

# Of conditions a TUN or TAP device meets none: they are about hardware, radio and Ethernet.
_NEVER = {
    *("MACAddress", "PermanentMACAddress", "Path", "WLANInterfaceType", "SSID", "BSSID"),
    "OriginalName",
}
_YES = {"yes", "true", "on", "1", "y", "t"}

Options = dict[tuple[str, str], list[str]]


def files(root: Path) -> list[Path]:
    """Return the .network files below *root* that count, in the order in which they are tried."""
    found: dict[str, Path] = {}
    for directory in DIRECTORIES:
        with contextlib.suppress(OSError):
            for path in (root / directory).iterdir():
                if path.suffix == ".network":
                    found.setdefault(path.name, path)
    return [found[name] for name in sorted(found)]


def matching(name: str, mode: str, paths: Sequence[Path], root: Path) -> NetworkFile | None:
    """Return the file that interface *name* falls to; None: networkd leaves it alone.

    *mode*: gre makes a TUN device, gretap a TAP device.
    """
    for path in paths:
        options = _options(path, root)
        if options is None:
            continue
        answer = _matches(name, mode, options)
        if answer is not False:
            return NetworkFile(
                path=display(path),
                names=" ".join(options.get(("Match", "Name"), [])),
                certain=answer is True,
                harmless=_harmless(options),
            )
    return None


def _options(path: Path, root: Path) -> Options | None:
    """Read a file and its drop-ins; None where it is masked, or cannot be read."""
    found: Options = {}
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    if not text.strip():
        return None  # empty, or a link to /dev/null: masked
    texts = [text]
    drop_ins: dict[str, Path] = {}
    for directory in DIRECTORIES:
        with contextlib.suppress(OSError):
            for one in (root / directory / f"{path.name}.d").iterdir():
                if one.suffix == ".conf":
                    drop_ins.setdefault(one.name, one)
    for name in sorted(drop_ins):
        with contextlib.suppress(OSError):
            texts.append(drop_ins[name].read_text(encoding="utf-8", errors="replace"))
    for one_text in texts:
        for place, value in _read(one_text):
            if value:
                found.setdefault(place, []).append(value)
            else:
                found.pop(place, None)  # an empty value takes back what was before
    return found


def _read(text: str) -> Iterator[tuple[tuple[str, str], str]]:
    section = ""
    for line in text.replace("\\\n", " ").splitlines():
        stripped = line.strip()
        if stripped.startswith("["):
            section = stripped.strip("[]")
        elif stripped and stripped[0] not in "#;":
            option, _, value = stripped.partition("=")
            yield (section, option.strip()), value.strip()


def _matches(name: str, mode: str, options: Options) -> bool | None:
    """Tell whether all conditions are met; None: some nobody can tell of. None at all: never."""
    conditions = {
        option: values for (section, option), values in options.items() if section == "Match"
    }
    if not conditions:
        return False
    kind = "tap" if mode == "gretap" else "tun"
    # What networkd calls the type of a device: that of its ARP header. networkctl(1)
    known = {
        "Name": name,
        "Kind": kind,
        "Driver": "tun",
        "Type": "ether" if kind == "tap" else "none",
    }
    answer: bool | None = True
    for option, values in conditions.items():
        if option in known:
            if not _fits(known[option], " ".join(values)):
                return False
        elif option in _NEVER:
            return False
        else:
            answer = None  # Host=, Virtualization=, Property=...
    return answer


def _fits(word: str, patterns: str) -> bool:
    """Tell whether *word* meets a list of patterns; one that begins with ! turns all of it."""
    negated = patterns.startswith("!")
    try:
        words = shlex.split(patterns.removeprefix("!"))
    except ValueError:
        words = patterns.removeprefix("!").split()
    return any(fnmatchcase(word, pattern) for pattern in words) is not negated


def _harmless(options: Options) -> str:
    for section, option, values in (
        ("Link", "Unmanaged", _YES),
        ("Network", "KeepConfiguration", _YES | {"static"}),
    ):
        given = options.get((section, option), [""])[-1]
        if given.lower() in values:
            return f"{option}={given}"
    return ""
