"""gred configures its peer: what it prints, run by a real kernel. One boot takes every step."""

import json
import sys
from pathlib import Path

import pytest

import tests
from tests import require
from tests.interop import kernel as kernels
from tests.interop import machine
from tests.interop.guest.opposite import STEPS


@pytest.mark.timeout(machine.TIMEOUT + 60)
def test_the_kernel_takes_what_gred_prints_and_ip_prints_what_gred_reads() -> None:
    """Pings cross each tunnel, and what ip(8) shows of it converts to what was meant."""
    require.root()
    if lack := machine.missing():
        require.lacks(lack)
    kernel = kernels.find()
    assert kernel is not None
    command = [sys.executable, "-m", "tests.interop.guest.opposite"]
    repository = Path(tests.__file__).parents[1]
    output = machine.run(kernel, command, directory=repository)
    taken = {step: why for step, why, _seconds in map(json.loads, output.lines)}
    failed = "\n".join(f"{step}: {why}" for step, why in taken.items() if why)
    assert not failed, f"{failed}\n{output.console}"
    assert list(taken) == list(STEPS), output.console
