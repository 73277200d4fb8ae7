"""Imports modules of a package without the package's own ``__init__``. Knows no package."""

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_init(package: str) -> Iterator[None]:
    """Let the block import modules of *package*, whose ``__init__`` is not run for them.

    For a package whose ``__init__`` imports all that it has, where one part is needed. Whoever
    imports it afterwards gets it whole, and anew. Raises ModuleNotFoundError when there is none.
    """
    if package in sys.modules:
        yield
        return
    spec = importlib.util.find_spec(package)
    if spec is None:
        raise ModuleNotFoundError(f"No module named {package!r}", name=package)
    sys.modules[package] = importlib.util.module_from_spec(spec)
    try:
        yield
    finally:
        for name in [one for one in sys.modules if f"{one}.".startswith(f"{package}.")]:
            del sys.modules[name]
