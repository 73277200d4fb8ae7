"""IPsec=require on a kernel that has ESP: one boot takes every step."""

import json
import sys
from pathlib import Path

import pytest

import tests
from tests import require
from tests.interop import kernel as kernels
from tests.interop import machine
from tests.interop.guest.ipsec import STEPS


@pytest.mark.timeout(machine.TIMEOUT + 60)
def test_nothing_is_on_the_wire_in_clear() -> None:
    """Whatever comes and goes, in whatever order; and what is protected arrives."""
    require.root()
    if lack := machine.missing():
        require.lacks(lack)
    kernel = kernels.find()
    assert kernel is not None
    command = [sys.executable, "-m", "tests.interop.guest.ipsec"]
    repository = Path(tests.__file__).parents[1]
    output = machine.run(kernel, command, directory=repository)
    taken = {step: why for step, why, _seen in map(json.loads, output.lines)}
    failed = "\n".join(f"{step}: {why}" for step, why in taken.items() if why)
    assert not failed, f"{failed}\n{output.console}"
    assert list(taken) == list(STEPS), output.console
