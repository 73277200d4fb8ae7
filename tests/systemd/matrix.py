"""What is tried in a guest with systemd as its first process, as values.

Read by two: the guest, which tries the cells in this order, and pytest, which shows each as a test.
The functions behind most are in ``guest``, by the same name.
"""

from dataclasses import dataclass

CELLS = (
    "the_system_is_up",
    "the_service_runs_as_its_user",
    "pings_cross_both_ways",
    "the_packet_socket_is_used",
    "the_status_is_told",
    "what_is_flushed_is_put_back",
    "what_networkd_strips_is_put_back",
    "networkd_is_named_when_it_strips_again_and_again",
    "nothing_is_compiled_at_start",
    "the_doctor_sees_the_service",
    "the_status_is_asked",
    "a_newcomer_finds_the_way",
    "packets_are_watched",
    "metrics_are_had",
    "a_hook_runs_in_the_sandbox",
    "a_name_is_followed",
    "a_reload_is_followed",
    "a_silent_tunnel_has_no_carrier",
    "a_bad_configuration_fails_the_reload",
    "a_bad_configuration_is_not_tried_again",
    "an_unreadable_configuration_is_told",
    "no_tunnel_device_is_not_tried_again",
    "a_restart_breaks_neither_streams_nor_ospf",
    "a_crash_keeps_the_tunnel",
    "a_stop_leaves_nothing",
    "an_end_without_a_job_leaves_nothing",
    "a_restart_that_fails_leaves_nothing",
    "many_tunnels_start_and_stop",
)
MANY = 100
"""Tunnels, beside udevd and networkd, which look at each interface."""
LAST_WORDS = ("after_network_online", "after_network")
"""Services that ping through the tunnel while the machine stops; each is a cell of that name."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one cell: a figure or a reason, and how long it took, in seconds."""

    cell: str
    passed: bool
    detail: str
    seconds: float
