"""How far a start or a stop is, as one line."""

from gred.control.progress import Progress


def test_before_the_first_step_there_is_nothing_to_say() -> None:
    assert not str(Progress())


def test_each_tunnel_counts() -> None:
    progress = Progress()
    progress.begin("configured", 300)
    progress.advance()
    progress.advance(119)
    assert str(progress) == "120 of 300 tunnels configured"


def test_another_step_begins_at_zero() -> None:
    progress = Progress()
    progress.begin("configured", 1)
    progress.advance()
    progress.begin("up", 1)
    assert str(progress) == "0 of 1 tunnel up"
