"""Where things are: the configuration, and the control socket of the daemon that runs with it.

Nothing here opens any of them.
"""

import os
import zlib
from pathlib import Path

DEFAULT_CONFIGURATION = Path("/etc/gred/gred.conf")
DEFAULT_DIRECTORY = Path("/run/gred")


def socket_path(configuration: Path, setting: str = "auto") -> Path:
    """Return the socket of the daemon that runs with the main file *configuration*.

    *setting* is a path, or auto: in the service's runtime directory, with a name of its own for
    each configuration but the default one.
    """
    if setting != "auto":
        return Path(setting)
    # systemd may name several, and there is only the first to write to.
    directory = os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    where = Path(directory) if directory else DEFAULT_DIRECTORY
    absolute = Path(os.path.abspath(configuration))  # noqa: PTH100 - links are not followed
    if absolute == DEFAULT_CONFIGURATION:
        return where / "control"
    return where / f"control-{zlib.crc32(os.fsencode(absolute)):08x}"
