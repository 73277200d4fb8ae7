/* Sequence numbers: in order or not at all (RFC 2890 §2.2), and a way back for a peer that began
 * anew, which the RFC does not give. No system call, no Python: the time is handed in. Twin:
 * gred/dataplane/pure_sequence.py, which tells why the rules are as they are.
 */
#include "codec.h"

enum {
    SEQUENCE_WINDOW = 1024, /* packets; who is further behind began anew */
    LATENESS = 1000,        /* milliseconds; what was passed longer ago comes no more */
    RESTART_RUN = 8,        /* evidence for a peer that began anew within both */
    SEEN_AGAIN = 4,         /* evidence that a first number gives that comes once more */
    FIRST_NUMBERS = 32,
    FORMER_DEPTH = 64, /* packets that the life before may have sent beyond what was expected */
};

/* rx_state.has_former: whether packets of the life before may still come. */
enum { NO_FORMER, FORMER, FORMER_AND_MORE /* this life has had more than its first packet */ };

static void accept(struct rx_state *state, uint32_t number, uint32_t now)
{
    state->input_next = number + 1;
    state->input_time = now;
    state->old_run = 0;
    if (number < FIRST_NUMBERS)
        state->first_seen |= 1u << number;
}

/* Numbers before the first of a life were refused as old ones, if *seen: they came. */
static void begin_life(struct rx_state *state, uint32_t number, uint32_t now, bool seen)
{
    state->input_seen = 1;
    state->life_time = state->mark_time = now;
    state->input_mark = number + 1;
    state->input_passed = number - SEQUENCE_WINDOW;
    state->first_seen = seen && number < FIRST_NUMBERS ? (1u << number) - 1 : 0;
    accept(state, number, now);
}

/* Let *input_passed follow the clock: what it names was accepted LATENESS ago, or before. */
static bool pass_time(struct rx_state *state, uint32_t now)
{
    bool silent = now - state->input_time >= LATENESS;

    if (silent || now - state->mark_time >= LATENESS) {
        state->input_passed = silent ? state->input_next : state->input_mark;
        state->input_mark = state->input_next;
        state->mark_time = now;
    }
    return silent;
}

/* Does a number that is *ahead* belong to the end of the life before, rather than to this one? If
 * nobody began anew, numbers go on where they were expected: at once, or one after the other. */
static bool is_straggler(struct rx_state *state, uint32_t number, uint32_t ahead, uint32_t now)
{
    uint32_t behind = state->former_next - number;
    uint32_t beyond = number - state->former_next;

    if (now - state->life_time >= LATENESS)
        state->has_former = NO_FORMER;
    if (state->has_former && behind > 0 && behind <= SEQUENCE_WINDOW)
        return behind < ahead;
    if (state->has_former != FORMER_AND_MORE || beyond >= FORMER_DEPTH || beyond >= ahead)
        return false;
    bool follows = state->old_run && number == state->old_next;
    state->old_run = 1;
    state->old_next = number + 1;
    return !follows;
}

static bool began_anew(struct rx_state *state, uint32_t number)
{
    if (state->input_next - number > SEQUENCE_WINDOW || number - state->input_passed >= 0x80000000)
        return true;
    bool again = number < FIRST_NUMBERS && state->first_seen & 1u << number;
    bool follows = state->old_run && number == state->old_next;
    state->old_run = (follows ? state->old_run : 0) + (again ? SEEN_AGAIN : 1);
    state->old_next = number + 1;
    return state->old_run >= RESTART_RUN;
}

enum drop_reason check_number(struct rx_state *state, uint32_t number, uint32_t now)
{
    if (!state->input_seen) {
        begin_life(state, number, now, false);
        return DROP_NONE;
    }
    bool silent = pass_time(state, now);
    uint32_t ahead = number - state->input_next;
    if (ahead < 0x80000000) {
        if (is_straggler(state, number, ahead, now))
            return DROP_OUT_OF_SEQ;
        state->rx_lost += ahead;
        if (state->has_former)
            state->has_former = FORMER_AND_MORE;
        accept(state, number, now);
        return DROP_NONE;
    }
    if (!began_anew(state, number))
        return DROP_OUT_OF_SEQ;
    state->rx_resyncs++;
    state->has_former = silent ? NO_FORMER : FORMER;
    state->former_next = state->input_next;
    begin_life(state, number, now, state->old_run > 1);
    return DROP_NONE;
}
