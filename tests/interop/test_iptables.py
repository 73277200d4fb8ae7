"""gred as an ordinary user with two capabilities, and iptables-legacy, under Debian's kernel."""

import json
import sys
from pathlib import Path

import pytest

import tests
from tests import require
from tests.interop import kernel as kernels
from tests.interop import machine
from tests.interop.guest.tables import STEPS


@pytest.mark.timeout(machine.TIMEOUT + 60)
def test_only_rules_turn_the_packet_socket_off() -> None:
    """Tables without rules, as systemd and ``iptables -L`` leave them, do not."""
    require.root()
    if lack := machine.missing():
        require.lacks(lack)
    require.program("iptables-legacy", package="iptables")
    kernel = kernels.find()
    assert kernel is not None
    command = [sys.executable, "-m", "tests.interop.guest.tables"]
    repository = Path(tests.__file__).parents[1]
    output = machine.run(kernel, command, directory=repository)
    assert [json.loads(line) for line in output.lines] == [
        ["ip_tables loaded", "yes"],
        *map(list, STEPS),
    ], output.console
