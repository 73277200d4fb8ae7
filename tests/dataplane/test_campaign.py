"""The campaign at its smallest: what it asserts holds, and it can fail."""

import asyncio

import pytest

from gred.dataplane import codec, egress, ingress, io
from gred.dataplane.underlay import raw
from tests import require
from tests.dataplane import campaign
from tests.dataplane.namespaces import in_new_namespace


@pytest.fixture(autouse=True)
def _kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a campaign replaces is put back."""
    require.root()
    require.extension()
    for user in (egress, ingress, raw):
        monkeypatch.setattr(user, "io", io)
    monkeypatch.setattr(egress, "codec", codec)
    monkeypatch.setattr(campaign, "POOL", 100)


def test_hostile_frames_and_datagrams_leave_every_tunnel_passing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    campaign.main(["--frames", "3000", "--datagrams", "5000", "--slices", "2", "--seed", "5"])
    printed = capsys.readouterr().out
    assert printed.count("every one passed") == 2
    for reason in ("bad_inner", "truncated", "csum_err", "key_mismatch"):
        assert reason in printed


@pytest.mark.parametrize("kind", ["frames", "datagrams"])
def test_what_is_neither_sent_nor_counted_is_noticed(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    async def lose() -> None:
        bench = campaign.Campaign(1)
        try:
            counted = bench.counted
            monkeypatch.setattr(bench, "counted", lambda _: min(counted("tx"), 1))
            await getattr(bench, kind)(600)
        finally:
            bench.plane.close()

    with pytest.raises(AssertionError, match=f"600 {kind}"):
        in_new_namespace(lambda: asyncio.run(lose()))
