"""Cookies: only what was made is read."""

from hypothesis import given
from hypothesis import strategies as st

from gred.control.cookies import COOKIE, Cookies


@given(st.integers(0, 2**64 - 1), st.binary(max_size=40))
def test_a_cookie_is_read_whatever_follows(number: int, padding: bytes) -> None:
    cookies = Cookies(b"t1")
    cookie = cookies.make(number)
    assert len(cookie) == COOKIE
    assert cookies.read(cookie + padding) == number


@given(st.binary(max_size=40))
def test_nothing_else_is(trailer: bytes) -> None:
    assert Cookies(b"t1").read(trailer) is None


def test_nor_that_of_another() -> None:
    one, other = (Cookies(about, lambda _size: bytes(16)) for about in (b"a", b"b"))
    assert one.read(other.make(1)) is None
    assert Cookies(b"a").read(one.make(1)) is None, "of another start"


def test_a_bit_that_is_turned_is_noticed() -> None:
    cookies = Cookies(b"t1")
    cookie = cookies.make(7)
    for bit in range(8 * COOKIE):
        turned = int.from_bytes(cookie) ^ 1 << bit
        assert cookies.read(turned.to_bytes(COOKIE)) is None
