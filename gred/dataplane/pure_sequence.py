"""Sequence numbers of the pure-Python codec: in order or not at all, RFC 2890 §2.2.

Part of the twin of the C codec. No clock: the time is handed in. The RFC gives no way back for a
peer that began anew: here is one. An old number is a late packet or a duplicate, refused, unless

    it is more than 1024 behind        no network reorders so deeply
    it was passed more than 1 s ago    no packet is under way for so long beside others; after a
                                       silence as long that is true of every number
    old numbers come in a row          eight, each one more than the last, with no new one between;
                                       two, if they are first numbers that came before (so would a
                                       burst of duplicates be, in the first second of a peer)

so that a restart costs nothing as a rule, and one packet where a peer begins anew within a second
of its first packet. A life is what a peer sends from one beginning to the next. Packets of the life
before that arrive after the first of the new one are told by their distance from both ends.

Who forges numbers, knowing the addresses only, cannot stop the peer: what the peer sends then is
ahead, or far behind, or in a row.
"""

from gred.dataplane.layout import RxState
from gred.wire.drop import DropReason

SEQUENCE_WINDOW = 1024  # packets; who is further behind began anew
LATENESS = 1000  # milliseconds; what was passed longer ago comes no more
RESTART_RUN = 8  # evidence for a peer that began anew within both
SEEN_AGAIN = 4  # evidence that a first number gives that comes once more
FIRST_NUMBERS = 32
FORMER_DEPTH = 64  # packets that the life before may have sent beyond what was expected

# RxState.has_former: whether packets of the life before may still come.
NO_FORMER, FORMER = 0, 1
FORMER_AND_MORE = 2  # this life has had more than its first packet

_MASK = 0xFFFFFFFF
_HALF = 1 << 31


def check_number(state: RxState, number: int, now: int) -> DropReason:
    """Return whether a packet with *number* is in order. *now*: milliseconds, 32 bits, wrapping."""
    if not state.input_seen:
        _begin_life(state, number, now, seen=False)
        return DropReason.NONE
    silent = _pass_time(state, now)
    ahead = (number - state.input_next) & _MASK
    if ahead < _HALF:
        if _is_straggler(state, number, ahead, now):
            return DropReason.OUT_OF_SEQ
        state.rx_lost += ahead
        if state.has_former:
            state.has_former = FORMER_AND_MORE
        _accept(state, number, now)
        return DropReason.NONE
    if not _began_anew(state, number):
        return DropReason.OUT_OF_SEQ
    state.rx_resyncs += 1
    state.has_former = NO_FORMER if silent else FORMER
    state.former_next = state.input_next
    _begin_life(state, number, now, seen=state.old_run > 1)
    return DropReason.NONE


def _accept(state: RxState, number: int, now: int) -> None:
    state.input_next = (number + 1) & _MASK
    state.input_time = now
    state.old_run = 0
    if number < FIRST_NUMBERS:
        state.first_seen |= 1 << number


def _begin_life(state: RxState, number: int, now: int, *, seen: bool) -> None:
    """*seen*: the numbers before the first of this life came, and were refused as old ones."""
    state.input_seen = 1
    state.life_time = state.mark_time = now
    state.input_mark = (number + 1) & _MASK
    state.input_passed = (number - SEQUENCE_WINDOW) & _MASK
    state.first_seen = (1 << number) - 1 if seen and number < FIRST_NUMBERS else 0
    _accept(state, number, now)


def _since(now: int, then: int) -> int:
    return (now - then) & _MASK


def _pass_time(state: RxState, now: int) -> bool:
    """Let *input_passed* follow the clock; return whether there was silence until now."""
    silent = _since(now, state.input_time) >= LATENESS
    if silent or _since(now, state.mark_time) >= LATENESS:
        state.input_passed = state.input_next if silent else state.input_mark
        state.input_mark = state.input_next
        state.mark_time = now
    return silent


def _is_straggler(state: RxState, number: int, ahead: int, now: int) -> bool:
    """Whether a number that is *ahead* belongs to the life before, rather than to this one.

    If nobody began anew, numbers go on where they were expected: at once, or one after the other.
    """
    if _since(now, state.life_time) >= LATENESS:
        state.has_former = NO_FORMER
    behind = (state.former_next - number) & _MASK
    beyond = (number - state.former_next) & _MASK
    if state.has_former and 0 < behind <= SEQUENCE_WINDOW:
        return bool(behind < ahead)
    if state.has_former != FORMER_AND_MORE or beyond >= FORMER_DEPTH or beyond >= ahead:
        return False
    follows = state.old_run > 0 and number == state.old_next
    state.old_run = 1
    state.old_next = (number + 1) & _MASK
    return not follows


def _began_anew(state: RxState, number: int) -> bool:
    if (int(state.input_next) - number) & _MASK > SEQUENCE_WINDOW:
        return True
    if (number - int(state.input_passed)) & _MASK >= _HALF:
        return True
    again = number < FIRST_NUMBERS and bool(state.first_seen >> number & 1)
    follows = state.old_run > 0 and number == state.old_next
    state.old_run = (state.old_run if follows else 0) + (SEEN_AGAIN if again else 1)
    state.old_next = (number + 1) & _MASK
    return int(state.old_run) >= RESTART_RUN
