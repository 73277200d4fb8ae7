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

/* tunnel_record.has_former: whether packets of the life before may still come. */
enum { NO_FORMER, FORMER, FORMER_AND_MORE /* this life has had more than its first packet */ };

static void accept(struct tunnel_record *record, uint32_t number, uint32_t now)
{
    record->input_next = number + 1;
    record->input_time = now;
    record->old_run = 0;
    if (number < FIRST_NUMBERS)
        record->first_seen |= 1u << number;
}

/* Numbers before the first of a life were refused as old ones, if *seen: they came. */
static void begin_life(struct tunnel_record *record, uint32_t number, uint32_t now, bool seen)
{
    record->input_seen = 1;
    record->life_time = record->mark_time = now;
    record->input_mark = number + 1;
    record->input_passed = number - SEQUENCE_WINDOW;
    record->first_seen = seen && number < FIRST_NUMBERS ? (1u << number) - 1 : 0;
    accept(record, number, now);
}

/* Let *input_passed follow the clock: what it names was accepted LATENESS ago, or before. */
static bool pass_time(struct tunnel_record *record, uint32_t now)
{
    bool silent = now - record->input_time >= LATENESS;

    if (silent || now - record->mark_time >= LATENESS) {
        record->input_passed = silent ? record->input_next : record->input_mark;
        record->input_mark = record->input_next;
        record->mark_time = now;
    }
    return silent;
}

/* Does a number that is *ahead* belong to the end of the life before, rather than to this one? If
 * nobody began anew, numbers go on where they were expected: at once, or one after the other. */
static bool is_straggler(struct tunnel_record *record, uint32_t number, uint32_t ahead,
                         uint32_t now)
{
    uint32_t behind = record->former_next - number;
    uint32_t beyond = number - record->former_next;

    if (now - record->life_time >= LATENESS)
        record->has_former = NO_FORMER;
    if (record->has_former && behind > 0 && behind <= SEQUENCE_WINDOW)
        return behind < ahead;
    if (record->has_former != FORMER_AND_MORE || beyond >= FORMER_DEPTH || beyond >= ahead)
        return false;
    bool follows = record->old_run && number == record->old_next;
    record->old_run = 1;
    record->old_next = number + 1;
    return !follows;
}

static bool began_anew(struct tunnel_record *record, uint32_t number)
{
    if (record->input_next - number > SEQUENCE_WINDOW ||
        number - record->input_passed >= 0x80000000)
        return true;
    bool again = number < FIRST_NUMBERS && record->first_seen & 1u << number;
    bool follows = record->old_run && number == record->old_next;
    record->old_run = (follows ? record->old_run : 0) + (again ? SEEN_AGAIN : 1);
    record->old_next = number + 1;
    return record->old_run >= RESTART_RUN;
}

enum drop_reason check_number(struct tunnel_record *record, uint32_t number, uint32_t now)
{
    if (!record->input_seen) {
        begin_life(record, number, now, false);
        return DROP_NONE;
    }
    bool silent = pass_time(record, now);
    uint32_t ahead = number - record->input_next;
    if (ahead < 0x80000000) {
        if (is_straggler(record, number, ahead, now))
            return DROP_OUT_OF_SEQ;
        record->rx_lost += ahead;
        if (record->has_former)
            record->has_former = FORMER_AND_MORE;
        accept(record, number, now);
        return DROP_NONE;
    }
    if (!began_anew(record, number))
        return DROP_OUT_OF_SEQ;
    record->rx_resyncs++;
    record->has_former = silent ? NO_FORMER : FORMER;
    record->former_next = record->input_next;
    begin_life(record, number, now, record->old_run > 1);
    return DROP_NONE;
}
