"""gred beside the kernel's own GRE in one network namespace: one boot takes every step."""

import json
import sys
from pathlib import Path

import pytest

import tests
from tests import require
from tests.interop import kernel as kernels
from tests.interop import machine
from tests.interop.guest.beside import STEPS


@pytest.mark.timeout(machine.TIMEOUT + 60)
def test_gred_and_the_kernels_gre_in_one_namespace() -> None:
    """Nothing arrives twice without a word, and nothing of the kernel's is called an error."""
    require.root()
    if lack := machine.missing():
        require.lacks(lack)
    kernel = kernels.find()
    assert kernel is not None
    command = [sys.executable, "-m", "tests.interop.guest.beside"]
    repository = Path(tests.__file__).parents[1]
    output = machine.run(kernel, command, directory=repository)
    taken = {step: why for step, why, _seconds in map(json.loads, output.lines)}
    failed = "\n".join(f"{step}: {why}" for step, why in taken.items() if why)
    assert not failed, f"{failed}\n{output.console}"
    assert list(taken) == list(STEPS), output.console
