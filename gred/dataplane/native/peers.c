/* Tunnels with many remotes: which remote an inner address is behind. No system call, no Python.
 * Twin: gred/dataplane/pure_peers.py.
 *
 * A linear search, the longest prefix first: such maps are written by hand or learned from some
 * dozens of peers. Tunnels with one remote do not come here.
 */
#include "codec.h"

static bool covers(const struct peer *peer, const uint8_t *address)
{
    size_t whole = peer->prefix_length / 8;
    unsigned rest = peer->prefix_length % 8;

    if (memcmp(peer->network, address, whole) != 0)
        return false;
    return rest == 0 || (peer->network[whole] ^ address[whole]) >> (8 - rest) == 0;
}

static uint32_t search(const struct peer *peers, size_t count, uint8_t family,
                       const uint8_t *address)
{
    for (size_t i = 0; i < count; i++)
        if (peers[i].family == family && peers[i].prefix_length <= (family == 4 ? 32 : 128) &&
            covers(&peers[i], address))
            return peers[i].destination;
    return NO_DESTINATION;
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

void route_frames(const uint8_t *arena, struct frame *frames, size_t count,
                  const struct peer *peers, size_t peer_count)
{
    for (size_t i = 0; i < count; i++) {
        uint8_t family;
        const uint8_t *address =
            address_in(arena + frames[i].offset, frames[i].length, 16, 24, &family);
        frames[i].destination =
            address ? search(peers, peer_count, family, address) : NO_DESTINATION;
    }
}

size_t find_stranger(const uint8_t *arena, const struct received *received, size_t first,
                     size_t count, uint32_t tunnel, const struct peer *peers, size_t peer_count,
                     const struct destination *destinations)
{
    for (size_t i = first; i < count; i++) {
        const struct received *entry = &received[i];
        uint8_t family;
        if (entry->tunnel != tunnel || entry->verdict)
            continue;
        const uint8_t *address =
            address_in(arena + entry->inner_offset, entry->inner_length, 12, 8, &family);
        if (!address)
            continue;
        uint32_t known = search(peers, peer_count, family, address);
        if (known == NO_DESTINATION || memcmp(destinations[known].remote, entry->source, 16) != 0)
            return i;
    }
    return count;
}
