"""Lines of the control socket: what is read is what was written, and nothing else is taken."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gred.management.control.protocol import VERSION, ProtocolError, decode, encode

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), JSON, max_size=5))
def test_a_line_comes_back(members: dict[str, object]) -> None:
    members.pop("version", None)
    line = encode(members)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert decode(line) == {"version": VERSION, **members}


@given(st.binary())
def test_whatever_comes_is_refused_in_words_or_read(data: bytes) -> None:
    said: ProtocolError | None = None
    found: dict[str, object] = {}
    try:
        found = decode(data)
    except ProtocolError as error:
        said = error
    if said is None:
        assert found["version"] == VERSION
    else:
        assert said.code in {"bad_request", "bad_version"}
        assert str(said)


@pytest.mark.parametrize("version", [None, 0, 2, "1", [1]])
def test_another_version_is_said(version: object) -> None:
    with pytest.raises(ProtocolError, match="version 1") as caught:
        decode(json.dumps({"version": version}).encode())
    assert caught.value.code == "bad_version"


def test_a_deep_line_is_no_trouble() -> None:
    with pytest.raises(ProtocolError):
        decode(b"[" * 100_000)
