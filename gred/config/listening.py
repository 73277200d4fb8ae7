"""Where something listens for HTTP, and files that others read: text <-> value.

As values.py: nothing here knows options, sections, files or lines.
"""

import re
from ipaddress import IPv6Address, ip_address

from gred.config.model import ListenAddress
from gred.config.values import SOCKET_PATH_MAX, BadValueError, Finding, Kind, optional

_UNIX = "unix:"
_PORT = re.compile(r"[1-9][0-9]{0,4}", re.ASCII)
_PORT_MAX = 65535


def _read_listen(text: str) -> ListenAddress:
    if text.startswith(_UNIX):
        path = text.removeprefix(_UNIX)
        if not path.startswith("/") or len(path.encode()) > SOCKET_PATH_MAX:
            hint = f"an absolute path of at most {SOCKET_PATH_MAX} bytes comes after unix:"
            raise BadValueError(Finding(text, hint))
        return ListenAddress(path=path)
    host, colon, port = text.rpartition(":")
    if host in {"", "*"} and colon:
        raise BadValueError(Finding(text, f"0.0.0.0:{port} or [::]:{port} is every address"))
    if host == "localhost":
        raise BadValueError(Finding(text, f"did you mean 127.0.0.1:{port}?"))
    is_bracketed = host.startswith("[") and host.endswith("]")
    try:
        address = ip_address(host[1:-1] if is_bracketed else host)
    except ValueError:
        hint = "an IPv6 address stands in brackets" if text.count(":") > 1 else ""
        raise BadValueError(Finding(text, hint)) from None
    if is_bracketed != isinstance(address, IPv6Address):
        raise BadValueError(Finding(text, "an IPv6 address stands in brackets, and no other"))
    if not _PORT.fullmatch(port) or int(port) > _PORT_MAX:
        raise BadValueError(Finding(text, f"a port is 1..{_PORT_MAX}"))
    return ListenAddress(address, int(port))


def _read_textfile(text: str) -> str:
    if text.startswith("/") and text.endswith(".prom") and not text.endswith("/.prom"):
        return text
    hint = "node_exporter reads no others" if text.startswith("/") else ""
    raise BadValueError(Finding(text, hint))


LISTEN = optional(Kind("ADDRESS:PORT, [IPV6]:PORT, unix:PATH", _read_listen, str), "none")
TEXTFILE = optional(Kind("an absolute path that ends in .prom", _read_textfile, str), "none")
