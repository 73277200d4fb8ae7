"""The file that node_exporter's textfile collector reads: whole at each moment, or not there."""

import contextlib
import os
import tempfile
from pathlib import Path

MODE = 0o644  # node_exporter is another user


def write(path: Path, text: bytes) -> None:
    """Put *text* into the file at *path*, all at once. Raises OSError."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(text)
            os.fchmod(file.fileno(), MODE)
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise


def remove(path: Path) -> None:
    """Remove it: what nobody writes anymore looks like the truth."""
    with contextlib.suppress(OSError):
        path.unlink()
