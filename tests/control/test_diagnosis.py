"""What packets tell, over time: nothing is asked and nothing waits here."""

from dataclasses import replace
from ipaddress import ip_address

from hypothesis import given
from hypothesis import strategies as st

from gred.control import sentences
from gred.control.diagnosis import (
    ASK_AGAIN,
    FORGOTTEN,
    LASTS,
    LONG_PATIENCE,
    LOOK_EVERY,
    PATIENCE,
    PING_AGAIN,
    ROUTINE,
    Diagnosis,
    Fault,
)
from gred.dataplane.punt import Report
from gred.dataplane.tunnels import Counters
from gred.wire.drop import DropReason
from tests.control.fakes import tunnel

HERE, THERE, ELSEWHERE = map(ip_address, ("192.0.2.1", "192.0.2.2", "192.0.2.9"))
CONFIG = replace(tunnel(), input_key=1, output_key=1)
REFUSED = Report("t1", DropReason.KEY_MISMATCH, THERE, HERE, 2, "")


class Patient:
    """A tunnel whose packets a test counts; *answers*: what is found out where it is asked."""

    def __init__(self, answers: str | None = "") -> None:
        self.diagnosis = Diagnosis(CONFIG)
        self.now = 0.0
        self.sent = self.received = self.lost = self.late = self.unsent = 0
        self.asked = self.sampled = 0
        self._answers = answers

    def look(self, sent: int = 0, received: int = 0, lost: int = 0, late: int = 0) -> Fault | None:
        """Let LOOK_EVERY seconds pass in which so many were sent and received."""
        self.now += LOOK_EVERY
        self.sent, self.received = self.sent + sent, self.received + received
        self.lost, self.late = self.lost + lost, self.late + late
        drops = {DropReason.OUT_OF_SEQ: self.late}
        unsent = {DropReason.NO_REMOTE: self.unsent}
        counters = Counters(self.sent, 0, self.received, 0, unsent, drops, rx_lost=self.lost)
        self.diagnosis.look(counters, THERE, HERE, self.now)
        if self.diagnosis.wants_opinion:
            self.asked += 1
            if self._answers is None:
                self.diagnosis.excuse()
            else:
                self.diagnosis.second(self._answers)
        if self.diagnosis.wants_sample:
            self.sampled += 1
            self.diagnosis.wants_sample = False
        return self.fault

    def for_(self, seconds: float, sent: int = 0, received: int = 0) -> Fault | None:
        until = self.now + seconds
        while self.now < until:
            self.look(sent, received)
        return self.fault

    def refuse(self, report: Report = REFUSED) -> None:
        self.diagnosis.refused(report, self.now)

    @property
    def fault(self) -> Fault | None:
        return self.diagnosis.finding.fault if self.diagnosis.finding else None

    @property
    def sentence(self) -> str:
        return self.diagnosis.finding.sentence if self.diagnosis.finding else ""


def test_what_passes_both_ways_is_well() -> None:
    patient = Patient()
    assert patient.for_(300, sent=5, received=5) is None
    assert (patient.asked, patient.sampled) == (0, 1)


def test_idle_is_well() -> None:
    patient = Patient()
    assert patient.for_(300) is None
    assert not patient.diagnosis.is_open


def test_what_is_refused_and_never_arrived_is_a_mismatch_at_once() -> None:
    patient = Patient()
    patient.refuse()
    assert patient.look() is Fault.MISMATCH
    assert patient.sentence == sentences.refused(REFUSED, CONFIG)
    assert patient.look(received=1) is None


def test_where_others_arrive_it_is_none() -> None:
    patient = Patient()
    for _ in range(50):
        patient.refuse()
        assert patient.look(sent=1, received=1) is None


def test_where_others_arrived_before_it_must_last() -> None:
    patient = Patient()
    patient.look(sent=1, received=1)
    patient.refuse()
    assert patient.look() is None
    patient.refuse()
    for _ in range(int(LASTS // LOOK_EVERY)):
        patient.refuse()
        patient.look()
    assert patient.fault is Fault.MISMATCH


def test_a_mismatch_is_forgotten() -> None:
    patient = Patient()
    patient.refuse()
    assert patient.for_(FORGOTTEN - LOOK_EVERY) is Fault.MISMATCH
    assert patient.for_(2 * LOOK_EVERY) is None


def test_silence_is_told_after_a_while() -> None:
    patient = Patient()
    assert patient.for_(PATIENCE, sent=2) is None
    assert patient.for_(2 * LOOK_EVERY, sent=2) is Fault.UNANSWERED
    assert patient.sentence.startswith("sent 1")
    assert "received none" in patient.sentence
    told = patient.sentence
    patient.for_(5 * ASK_AGAIN, sent=2)
    assert patient.sentence == told, "the sentence does not change with each look"
    assert patient.look(received=1) is None


def test_where_something_arrived_before_silence_takes_longer() -> None:
    patient = Patient()
    patient.look(sent=1, received=1)
    assert patient.for_(LONG_PATIENCE, sent=2) is None
    assert patient.for_(2 * LOOK_EVERY, sent=2) is Fault.UNANSWERED


def test_a_few_packets_are_no_silence() -> None:
    patient = Patient()
    patient.look(sent=2)
    assert patient.for_(1000) is None


def test_what_calls_for_no_answer_is_no_silence() -> None:
    patient = Patient(answers=None)
    for _ in range(20):
        assert patient.look(sent=1) is None
    assert patient.asked > 0


def test_an_opinion_is_in_the_sentence() -> None:
    patient = Patient(answers="a firewall here")
    patient.for_(PATIENCE + 2 * LOOK_EVERY, sent=2)
    assert patient.sentence.endswith("received none: a firewall here")


def test_a_peer_that_answers_keepalives_need_not_answer_anything_else() -> None:
    patient = Patient()
    patient.diagnosis.keepalives(0, 20, alive=True)
    assert patient.for_(300, sent=2) is None


def test_keepalives_that_are_lost_are_told() -> None:
    patient = Patient()
    patient.diagnosis.keepalives(5, 20, alive=True)
    assert patient.look(sent=1, received=1) is Fault.IMPAIRED
    assert "5 of the last 20 keepalives" in patient.sentence
    patient.diagnosis.keepalives(1, 20, alive=True)
    assert patient.look(sent=1, received=1) is Fault.IMPAIRED, "until it is well"
    patient.diagnosis.keepalives(0, 20, alive=True)
    assert patient.look(sent=1, received=1) is None


def test_duplicates_are_no_reordering() -> None:
    patient = Patient()
    patient.look(sent=500, received=500)
    patient.look(sent=500, received=500, late=500)
    assert patient.fault is Fault.IMPAIRED
    assert "duplicates" in patient.sentence


def test_others_in_its_place_are_told_while_it_is_quiet() -> None:
    patient = Patient()
    stray = Report(None, DropReason.NO_TUNNEL, ELSEWHERE, HERE, 1, "")
    patient.diagnosis.stray(stray)
    assert patient.look() is Fault.MISMATCH
    assert "Remote=192.0.2.9" in patient.sentence
    assert patient.look(received=1) is None
    patient.diagnosis.stray(stray)
    assert patient.look(received=1) is None


def test_what_arrives_and_is_not_answered_is_looked_into() -> None:
    patient = Patient()
    patient.look()
    patient.look(received=3)
    assert patient.sampled == 1
    patient.diagnosis.verdict("dropped here")
    assert patient.look(received=3) is Fault.UNDELIVERED
    assert patient.sentence == "dropped here"
    assert patient.look(received=3, sent=3) is None


def test_pings_that_this_host_answers_none_of() -> None:
    patient = Patient()
    patient.look()
    patient.look(received=3)
    assert not patient.diagnosis.pinged(patient.now), "the answer may be on its way"
    patient.diagnosis.verdict("")
    asked = patient.sampled
    patient.for_(PING_AGAIN, received=3)
    assert patient.sampled == asked + 1, "soon again"
    assert patient.diagnosis.pinged(patient.now)
    patient.diagnosis.verdict("none is answered")
    assert patient.for_(2 * ASK_AGAIN, received=3) is Fault.UNDELIVERED
    assert patient.look(received=3, sent=1) is None
    assert not patient.diagnosis.pinged(patient.now), "something has left meanwhile"


def test_answers_that_are_not_sent_are_answers() -> None:
    """No way to the remote, or no peer of that address: that is said otherwise."""
    patient = Patient()
    patient.look()
    patient.look(received=3)
    assert not patient.diagnosis.pinged(patient.now)
    patient.unsent += 3
    patient.for_(PING_AGAIN, received=3)
    assert not patient.diagnosis.pinged(patient.now)


def test_a_ping_is_no_news_where_packets_leave_as_well() -> None:
    patient = Patient()
    patient.for_(2 * PATIENCE, received=3, sent=3)
    assert patient.diagnosis.is_routine
    for _ in range(3):
        assert not patient.diagnosis.pinged(patient.now)
        patient.for_(PING_AGAIN)


def test_what_this_host_itself_never_gets_is_swallowed() -> None:
    """Packets leave as well: counters of the host tell."""
    patient = Patient()
    patient.for_(2 * PATIENCE, received=3, sent=3)
    asked = patient.sampled
    assert patient.diagnosis.counted((7, 9), 0, patient.now) is None, "there is no earlier one"
    patient.look(received=3, sent=3)
    assert patient.sampled == asked + 1, "at once again"
    assert patient.diagnosis.counted((7, 9), 1, patient.now) is True
    patient.diagnosis.verdict("it is dropped")
    assert patient.look(received=3, sent=3) is None, "one may have gone round"
    assert patient.sampled == asked + 2
    assert patient.diagnosis.counted((7, 9), 0, patient.now) is True
    patient.diagnosis.verdict("it is dropped")
    assert patient.for_(2 * ASK_AGAIN, received=3, sent=3) is Fault.UNDELIVERED
    assert patient.diagnosis.counted((7, 10), 1, patient.now) is False
    patient.diagnosis.verdict("")
    assert patient.for_(ASK_AGAIN, received=3, sent=3) is None


def test_counts_of_long_ago_say_nothing() -> None:
    patient = Patient()
    assert patient.diagnosis.counted((7, 9), 0, patient.now) is None
    assert patient.diagnosis.counted((7, 9), 0, patient.now + 2 * FORGOTTEN) is None


def test_what_is_delivered_is_well() -> None:
    patient = Patient()
    patient.look()
    patient.look(received=3)
    patient.diagnosis.verdict("")
    assert patient.for_(10 * ASK_AGAIN, received=3) is None
    assert patient.sampled > 1


def test_losses_are_told_and_end() -> None:
    patient = Patient()
    patient.look(sent=500, received=500)
    assert patient.look(sent=500, received=500, lost=2) is None
    patient.look(sent=500, received=400, lost=100)
    assert patient.fault is Fault.IMPAIRED
    assert "lost on the way" in patient.sentence
    for _ in range(15):
        patient.look(sent=500, received=500)
    assert patient.fault is None


def test_reordering_is_no_loss_of_the_path() -> None:
    patient = Patient()
    patient.look(sent=500, received=500)
    patient.look(sent=500, received=450, lost=50, late=50)
    assert patient.fault is Fault.IMPAIRED
    assert "out of order" in patient.sentence


FEW = st.integers(0, 5)
MANY = st.integers(0, 50)


@given(st.lists(st.tuples(MANY, MANY, FEW, FEW, st.booleans()), max_size=60))
def test_whatever_happens_packets_both_ways_end_it(
    moments: list[tuple[int, int, int, int, bool]],
) -> None:
    patient = Patient()
    for sent, received, lost, late, refused in moments:
        if refused:
            patient.refuse()
        patient.look(sent, received, lost, late)
    for _ in range(30):
        patient.look(100, 100)
    assert patient.fault is None


def test_ipsec_that_holds_packets_back_denies_them_until_it_does_not() -> None:
    patient = Patient()
    patient.look(sent=1, received=1)
    patient.diagnosis.hold("no SA yet")
    assert patient.look(sent=1, received=1) is Fault.DENIED
    patient.refuse()
    assert patient.look(sent=1) is Fault.DENIED
    patient.diagnosis.hold("")
    assert patient.look(sent=1, received=1) is None


def test_in_routine_two_packets_must_say_so_and_later_ones_may_deny_it() -> None:
    patient = Patient()
    assert patient.for_(PATIENCE + 3 * LOOK_EVERY, sent=1, received=1) is None
    assert (patient.sampled, patient.diagnosis.is_routine) == (1, True)
    patient.diagnosis.verdict("both ends have it")
    assert patient.look(sent=1, received=1) is None
    assert patient.sampled == 2
    patient.diagnosis.verdict("both ends have it")
    assert patient.look(sent=1, received=1) is Fault.UNDELIVERED
    assert patient.for_(ASK_AGAIN, sent=1, received=1) is Fault.UNDELIVERED
    assert patient.sampled > 2
    patient.diagnosis.verdict("")
    before = patient.sampled
    assert patient.for_(ROUTINE, sent=1, received=1) is None
    assert patient.sampled == before + 1
