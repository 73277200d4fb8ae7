"""What is measured. The order here is the order of tables and chart."""

from benchmarks.subjects.base import Running, Subject
from benchmarks.subjects.gred import Gred
from benchmarks.subjects.kernel import Veth, Vxlan
from benchmarks.subjects.loop import BaselineLoop
from benchmarks.subjects.openvswitch import OpenVSwitch

__all__ = ["SUBJECTS", "Running", "Subject"]

SUBJECTS: tuple[Subject, ...] = (
    Veth(),
    Vxlan(),
    OpenVSwitch(),
    BaselineLoop(),
    Gred("gred", "gred", many=True),
    Gred("gred-udp", "gred, Transport=udp", options={"Transport": "udp"}),
    Gred("gred-ipv6", "gred over IPv6", over_ipv6=True),
    Gred("gred-no-offload", "gred, Offload=no", options={"Offload": "no"}),
    Gred("gred-pure", "gred, pure Python", extensions=False),
)
