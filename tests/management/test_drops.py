"""Summaries of drops."""

from gred.management.drops import DropSummary
from gred.wire.drop import DropReason
from tests.management.doubles import RememberingLog, counters


def test_nothing_is_said_while_no_count_moves() -> None:
    log = RememberingLog()
    summary = DropSummary(log.logger)
    summary.note("Tunnel-1", counters())
    summary.note("Tunnel-1", counters(rx={DropReason.KEY_MISMATCH: 0}))
    assert log.lines == []


def test_one_line_has_all_that_moved_in_a_tunnel() -> None:
    log = RememberingLog()
    DropSummary(log.logger).note(
        "Tunnel-1",
        counters(tx={DropReason.NO_ROUTE: 2}, rx={DropReason.CSUM_ERR: 1, DropReason.TRUNCATED: 3}),
    )
    assert log.only("drops").fields == {
        "tunnel": "Tunnel-1",
        "tx_no_route": 2,
        "rx_csum_err": 1,
        "rx_truncated": 3,
    }


def test_what_is_somebody_elses_is_no_news() -> None:
    log = RememberingLog()
    summary = DropSummary(log.logger)
    summary.note(None, counters(rx={DropReason.FOREIGN: 5}))
    assert log.lines == []


def test_only_the_difference_is_told() -> None:
    log = RememberingLog()
    summary = DropSummary(log.logger)
    summary.note("Tunnel-1", counters(rx={DropReason.CSUM_ERR: 5}))
    summary.note("Tunnel-1", counters(rx={DropReason.CSUM_ERR: 5}))
    summary.note("Tunnel-1", counters(rx={DropReason.CSUM_ERR: 7}))
    assert [line.fields["rx_csum_err"] for line in log.lines] == [5, 2]


def test_a_tunnel_made_anew_counts_from_zero() -> None:
    log = RememberingLog()
    summary = DropSummary(log.logger)
    summary.note("Tunnel-1", counters(rx={DropReason.CSUM_ERR: 5}))
    summary.note("Tunnel-1", counters(rx={DropReason.CSUM_ERR: 3}))
    assert [line.fields["rx_csum_err"] for line in log.lines] == [5, 3]


def test_tunnels_are_counted_apart_and_so_is_what_belongs_to_none() -> None:
    log = RememberingLog()
    summary = DropSummary(log.logger)
    summary.note(None, counters(rx={DropReason.NO_TUNNEL: 1}))
    summary.note("Tunnel-1", counters(rx={DropReason.NO_TUNNEL: 1}))
    assert [line.fields.get("tunnel") for line in log.lines] == [None, "Tunnel-1"]


def test_a_receiver_that_is_overrun_is_a_warning_with_a_remedy() -> None:
    log = RememberingLog()
    summary = DropSummary(log.logger)
    summary.note(None, counters(rx={DropReason.RX_OVERRUN: 7, DropReason.NO_TUNNEL: 1}))
    summary.note(None, counters(rx={DropReason.RX_OVERRUN: 7, DropReason.NO_TUNNEL: 2}))
    first, second = log.lines
    assert first.level == "warning"
    assert first.fields["rx_overrun"] == 7
    assert "more CPU" in first.fields["detail"]
    assert (second.level, second.fields) == ("info", {"rx_no_tunnel": 1})
