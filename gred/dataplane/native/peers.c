/* Tunnels with many remotes: which remote an inner address is behind. No system call, no Python.
 * Twin: gred/dataplane/pure_peers.py.
 *
 * To look an address up costs a probe for each prefix length that there is, however many peers
 * there are. Tunnels with one remote do not come here.
 */
#include "codec.h"

static uint32_t hash_network(const struct peer_table *peers, uint8_t family, unsigned length,
                             const uint8_t *network)
{
    uint32_t hash = mix(peers->header->seed, family | (uint32_t)length << 8);
    uint32_t words[4];

    memcpy(words, network, sizeof words);
    for (size_t i = 0; i < 4; i++)
        hash = mix(hash, words[i]);
    return hash;
}

static struct peer *probe(const struct peer_table *peers, uint8_t family, unsigned length,
                          const uint8_t *network)
{
    uint32_t mask = peers->header->mask;
    uint32_t hash = hash_network(peers, family, length, network);

    for (uint32_t step = 0; step <= mask; step++) {
        struct peer *peer = &peers->slots[(hash + step) & mask];
        if (!peer->state)
            return NULL;
        if (peer->family == family && peer->prefix_length == length &&
            !memcmp(peer->network, network, sizeof peer->network))
            return peer;
    }
    return NULL;
}

/* Find the longest network that *address* is in; NULL: there is none. */
static struct peer *search(const struct peer_table *peers, uint8_t family, const uint8_t *address)
{
    unsigned bits = family == 4 ? 32 : 128;
    const uint64_t *lengths = peers->header->lengths[family == 4 ? 0 : 1];

    for (unsigned word = bits / 64 + 1; word-- > 0;) {
        uint64_t left = lengths[word];
        while (left) {
            unsigned bit = 63 - (unsigned)__builtin_clzll(left);
            unsigned length = word * 64 + bit;
            left &= ~((uint64_t)1 << bit);
            if (length > bits)
                continue;
            uint8_t network[16] = {0};
            memcpy(network, address, length / 8);
            if (length % 8)
                network[length / 8] = (uint8_t)(address[length / 8] & 0xff00 >> length % 8);
            struct peer *found = probe(peers, family, length, network);
            if (found)
                return found;
        }
    }
    return NULL;
}

/* The address at *v4* or *v6* in an inner packet; NULL when the packet is too short for it. */
static const uint8_t *address_in(const uint8_t *packet, size_t length, size_t v4, size_t v6,
                                 uint8_t *family)
{
    *family = length ? packet[0] >> 4 : 0;
    if (*family == 4 && length >= IPV4_HEADER)
        return packet + v4;
    if (*family == 6 && length >= IPV6_HEADER)
        return packet + v6;
    return NULL;
}

/* How many destinations *number* stands for, itself not counted; 0: for itself alone. */
static size_t copies_of(const struct destination_table *destinations, uint32_t number)
{
    if (number >= destinations->count)
        return 0;
    size_t copies = destinations->rows[number].copies;
    return copies < destinations->count - number ? copies : 0;
}

/* Let a frame obey what the path to its destination carries. */
static void follow_path(struct frame *frame, const struct destination_table *destinations)
{
    frame->path_mtu = frame->fragmentable = 0;
    if (frame->destination < destinations->count) {
        const struct destination *row = &destinations->rows[frame->destination];
        frame->path_mtu = row->path_mtu < UINT16_MAX ? (uint16_t)row->path_mtu : UINT16_MAX;
        frame->fragmentable = row->fragmentable != 0;
    }
}

/* A copy for one of several must not stop the others': where the path carries less, it may be
 * fragmented. */
static void fit_copy(struct datagram *copy, const struct destination_table *destinations)
{
    const struct destination *row = &destinations->rows[copy->destination];

    if (row->fragmentable || (row->path_mtu && copy->inner_length > row->path_mtu))
        copy->dont_fragment = 0;
}

size_t route_frames(const uint8_t *arena, struct frame *frames, size_t count, size_t limit,
                    const struct peer_table *peers, const struct destination_table *destinations)
{
    size_t datagrams = 0;

    for (size_t i = 0; i < count; i++) {
        uint8_t family;
        const uint8_t *address =
            address_in(arena + frames[i].offset, frames[i].length, 16, 24, &family);
        const struct peer *peer = address ? search(peers, family, address) : NULL;
        frames[i].destination = peer ? peer->destination : NO_DESTINATION;
        follow_path(&frames[i], destinations);
        size_t copies = copies_of(destinations, frames[i].destination);
        datagrams += copies ? copies : 1;
        if (i && datagrams > limit)
            return i;
    }
    return count;
}

size_t spread_datagrams(struct spread *spread, const struct destination_table *destinations,
                        struct tx_state *state)
{
    size_t end = spread->first;

    while (spread->next < spread->count && end < spread->capacity) {
        struct datagram *copy = &spread->datagrams[end++];
        *copy = spread->datagrams[spread->next];
        size_t copies = copies_of(destinations, copy->destination);
        if (copies) {
            copy->destination += 1 + (uint32_t)spread->copy;
            fit_copy(copy, destinations);
        }
        if (spread->copy) {
            state->tx_packets++;
            state->tx_bytes += copy->inner_length;
        }
        if (++spread->copy >= copies) {
            spread->copy = 0;
            spread->next++;
        }
    }
    return end - spread->first;
}

size_t find_learners(const struct received *received, size_t count,
                     const struct tunnel_record *tunnels, size_t tunnel_count, uint32_t *found,
                     size_t capacity)
{
    size_t n = 0;

    for (size_t i = 0; i < count; i++) {
        uint32_t tunnel = received[i].tunnel;
        if (received[i].verdict || tunnel >= tunnel_count || !(tunnels[tunnel].flags & LEARNS))
            continue;
        size_t known = n; /* the last first: what arrives together is often of one tunnel */
        while (known && found[known - 1] != tunnel)
            known--;
        if (!known && n < capacity)
            found[n++] = tunnel;
    }
    return n;
}

size_t find_unlearned_source(const struct hearing *hearing, const struct peer_table *peers,
                             const struct destination_table *destinations)
{
    for (size_t i = hearing->first; i < hearing->count; i++) {
        const struct received *entry = &hearing->received[i];
        uint8_t family;
        if (entry->tunnel != hearing->tunnel || entry->verdict)
            continue;
        const uint8_t *address =
            address_in(hearing->arena + entry->inner_offset, entry->inner_length, 12, 8, &family);
        if (!address)
            continue;
        struct peer *known = search(peers, family, address);
        if (!known || known->destination >= destinations->count)
            return i;
        if (known->state != PEER_LEARNED)
            continue;
        if (!memcmp(destinations->rows[known->destination].remote, entry->source, 16)) {
            known->seen = hearing->now;
        } else if (hearing->now - known->seen >= hearing->hold) {
            return i;
        } else {
            peers->header->refused++;
            peers->header->refused_last = (uint32_t)i;
        }
    }
    return hearing->count;
}
