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

from gred.dataplane.layout import TunnelRecord
from gred.wire.drop import DropReason

SEQUENCE_WINDOW = 1024  # packets; who is further behind began anew
LATENESS = 1000  # milliseconds; what was passed longer ago comes no more
RESTART_RUN = 8  # evidence for a peer that began anew within both
SEEN_AGAIN = 4  # evidence that a first number gives that comes once more
FIRST_NUMBERS = 32
FORMER_DEPTH = 64  # packets that the life before may have sent beyond what was expected

# TunnelRecord.has_former: whether packets of the life before may still come.
NO_FORMER, FORMER = 0, 1
FORMER_AND_MORE = 2  # this life has had more than its first packet

_MASK = 0xFFFFFFFF
_HALF = 1 << 31


def check_number(record: TunnelRecord, number: int, now: int) -> DropReason:
    """Return whether a packet with *number* is in order. *now*: milliseconds, 32 bits, wrapping."""
    if not record.input_seen:
        _begin_life(record, number, now, seen=False)
        return DropReason.NONE
    silent = _pass_time(record, now)
    ahead = (number - record.input_next) & _MASK
    if ahead < _HALF:
        if _is_straggler(record, number, ahead, now):
            return DropReason.OUT_OF_SEQ
        record.rx_lost += ahead
        if record.has_former:
            record.has_former = FORMER_AND_MORE
        _accept(record, number, now)
        return DropReason.NONE
    if not _began_anew(record, number):
        return DropReason.OUT_OF_SEQ
    record.rx_resyncs += 1
    record.has_former = NO_FORMER if silent else FORMER
    record.former_next = record.input_next
    _begin_life(record, number, now, seen=record.old_run > 1)
    return DropReason.NONE


def _accept(record: TunnelRecord, number: int, now: int) -> None:
    record.input_next = (number + 1) & _MASK
    record.input_time = now
    record.old_run = 0
    if number < FIRST_NUMBERS:
        record.first_seen |= 1 << number


def _begin_life(record: TunnelRecord, number: int, now: int, *, seen: bool) -> None:
    """*seen*: the numbers before the first of this life came, and were refused as old ones."""
    record.input_seen = 1
    record.life_time = record.mark_time = now
    record.input_mark = (number + 1) & _MASK
    record.input_passed = (number - SEQUENCE_WINDOW) & _MASK
    record.first_seen = (1 << number) - 1 if seen and number < FIRST_NUMBERS else 0
    _accept(record, number, now)


def _since(now: int, then: int) -> int:
    return (now - then) & _MASK


def _pass_time(record: TunnelRecord, now: int) -> bool:
    """Let *input_passed* follow the clock; return whether there was silence until now."""
    silent = _since(now, record.input_time) >= LATENESS
    if silent or _since(now, record.mark_time) >= LATENESS:
        record.input_passed = record.input_next if silent else record.input_mark
        record.input_mark = record.input_next
        record.mark_time = now
    return silent


def _is_straggler(record: TunnelRecord, number: int, ahead: int, now: int) -> bool:
    """Whether a number that is *ahead* belongs to the life before, rather than to this one.

    If nobody began anew, numbers go on where they were expected: at once, or one after the other.
    """
    if _since(now, record.life_time) >= LATENESS:
        record.has_former = NO_FORMER
    behind = (record.former_next - number) & _MASK
    beyond = (number - record.former_next) & _MASK
    if record.has_former and 0 < behind <= SEQUENCE_WINDOW:
        return bool(behind < ahead)
    if record.has_former != FORMER_AND_MORE or beyond >= FORMER_DEPTH or beyond >= ahead:
        return False
    follows = record.old_run > 0 and number == record.old_next
    record.old_run = 1
    record.old_next = (number + 1) & _MASK
    return not follows


def _began_anew(record: TunnelRecord, number: int) -> bool:
    if (int(record.input_next) - number) & _MASK > SEQUENCE_WINDOW:
        return True
    if (number - int(record.input_passed)) & _MASK >= _HALF:
        return True
    again = number < FIRST_NUMBERS and bool(record.first_seen >> number & 1)
    follows = record.old_run > 0 and number == record.old_next
    record.old_run = (record.old_run if follows else 0) + (SEEN_AGAIN if again else 1)
    record.old_next = (number + 1) & _MASK
    return int(record.old_run) >= RESTART_RUN
