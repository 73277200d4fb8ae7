"""Runs the matrix in a virtual machine and reads its results. Judges nothing."""

import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import tests
from tests.interop import kernel as kernels
from tests.interop import machine
from tests.interop.matrix import Cell, Result


@dataclass(frozen=True, slots=True)
class Run:
    """What became of the cells, by name, and all that the machine said besides."""

    results: dict[str, Result]
    console: str
    release: str


def run(cells: Iterable[Cell]) -> Run:
    """Boot the kernel, try *cells* there. Raises MachineError; see ``machine.missing``."""
    kernel = kernels.find()
    if kernel is None:
        raise machine.MachineError("no kernel")
    repository = Path(tests.__file__).parents[1]
    command = [sys.executable, "-m", "tests.interop.guest", *(cell.name for cell in cells)]
    output = machine.run(kernel, command, directory=repository)
    results = (Result(**json.loads(line)) for line in output.lines)
    return Run({result.cell: result for result in results}, output.console, kernel.release)
