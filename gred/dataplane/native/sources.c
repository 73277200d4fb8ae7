/* Does a tunnel take what comes from an inner source? A binary search among the ranges of all
 * tunnels. No system call, no Python, no allocation. Twin: gred/dataplane/pure_sources.py.
 */
#include "codec.h"

bool source_is_allowed(const struct ingress *in, uint32_t tunnel, const struct view *view)
{
    uint8_t key[SOURCE_KEY] = {0};
    const uint8_t *ip = view->frame + view->ip;
    size_t low = 0, high = in->source_count;

    store32(key, tunnel);
    store32(key + 4, view->version);
    memcpy(key + 8, ip + (view->version == 4 ? 12 : 8), view->version == 4 ? 4 : 16);
    while (low < high) { /* the first row that begins behind the key */
        size_t middle = low + (high - low) / 2;
        if (memcmp(in->sources[middle].first, key, SOURCE_KEY) <= 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low && memcmp(key, in->sources[low - 1].last, SOURCE_KEY) <= 0;
}
