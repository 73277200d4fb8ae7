/* Views of IP packets and the cutting of super-packets. No system call, no Python. */
#include "packet.h"

void view_ethernet(struct view *view)
{
    size_t offset = ETHERNET_HEADER;
    uint16_t type = load16(view->frame + 12);

    for (int tags = 0; tags < 2 && (type == PROTOCOL_VLAN || type == PROTOCOL_QINQ); tags++) {
        if (view->length - offset < 4)
            return;
        type = load16(view->frame + offset + 2);
        offset += 4;
    }
    if (type == PROTOCOL_IPV4 && view->length - offset >= IPV4_HEADER &&
        view->frame[offset] >> 4 == 4 && (view->frame[offset] & 15) >= 5)
        view_ip(view, offset, 4);
    else if (type == PROTOCOL_IPV6 && view->length - offset >= IPV6_HEADER &&
             view->frame[offset] >> 4 == 6)
        view_ip(view, offset, 6);
}

uint64_t cut_segment(const struct cut *cut, size_t done, size_t take, uint8_t *head)
{
    const struct view *view = &cut->view;
    size_t headers = view->payload;
    uint8_t *ip = head + view->ip;
    uint8_t *transport = head + view->transport;
    size_t transport_length = view->payload - view->transport + take;
    size_t index = done / cut->size;
    uint64_t payload_sum = sum_bytes(view->frame + view->payload + done, take);

    memcpy(head, view->frame, headers);
    if (view->version == 4) {
        size_t header_length = view->transport - view->ip;
        store16(ip + 2, (uint16_t)(header_length + transport_length));
        store16(ip + 4, (uint16_t)(load16(ip + 4) + index));
        store16(ip + 10, 0);
        store_checksum(ip + 10, sum_bytes(ip, header_length));
    } else {
        store16(ip + 4, (uint16_t)(view->transport - view->ip - IPV6_HEADER + transport_length));
    }
    if (cut->protocol == IP_TCP) {
        store32(transport + 4, (uint32_t)(load32(transport + 4) + done));
        if (done + take < cut->total)
            transport[TCP_FLAGS] &= (uint8_t)~(TCP_FIN | TCP_PSH);
        if (done)
            transport[TCP_FLAGS] &= (uint8_t)~TCP_CWR;
    } else {
        store16(transport + 4, (uint16_t)transport_length);
    }
    uint8_t *field = transport + transport_checksum_offset(cut->protocol);
    store16(field, 0);
    store_checksum(field, cut->pseudo + word_of((uint16_t)transport_length) +
                              sum_bytes(transport, view->payload - view->transport) + payload_sum);
    if (cut->protocol == IP_UDP && word16(field) == 0)
        memset(field, 0xff, 2); /* zero means "no checksum" (RFC 768) */
    return payload_sum;
}

void find_transport(struct view *view)
{
    if (view->version == 0 || view->fragment)
        return;
    size_t transport = view->ip + ip_header_length(view);
    if (transport > view->length)
        return;
    size_t left = view->length - transport;
    const uint8_t *header = view->frame + transport;
    if (view->protocol == IP_TCP && left >= TCP_HEADER) {
        size_t length = (size_t)(header[12] >> 4) * 4;
        if (length < TCP_HEADER || length > left)
            return;
        view->transport = transport;
        view->payload = transport + length;
    } else if (view->protocol == IP_UDP && left >= UDP_HEADER) {
        view->transport = transport;
        view->payload = transport + UDP_HEADER;
    }
}

void clamp_mss(const struct view *view, size_t limit)
{
    enum { OPTION_END = 0, OPTION_NOP = 1, OPTION_MSS = 2, OPTION_MSS_LENGTH = 4 };
    size_t headers = (view->version == 4 ? IPV4_HEADER : IPV6_HEADER) + TCP_HEADER;
    uint8_t *tcp = view->frame + view->transport;

    if (!view->transport || view->protocol != IP_TCP || !(tcp[TCP_FLAGS] & TCP_SYN) ||
        limit <= headers)
        return;
    size_t header = view->payload - view->transport;
    for (size_t at = TCP_HEADER; at < header && tcp[at] != OPTION_END;) {
        if (tcp[at] == OPTION_NOP) {
            at++;
            continue;
        }
        if (header - at < 2 || tcp[at + 1] < 2 || tcp[at + 1] > header - at)
            return;
        if (tcp[at] == OPTION_MSS && tcp[at + 1] == OPTION_MSS_LENGTH) {
            if (load16(tcp + at + 2) <= limit - headers)
                return;
            bool partial = checksum_is_partial(view);
            /* The option may lie at an odd offset: sum the words that contain it, before and after.
             */
            size_t word = (at + 2) & ~(size_t)1, length = (at + 2) & 1 ? 4 : 2;
            uint64_t before = sum_bytes(tcp + word, length);
            store16(tcp + at + 2, (uint16_t)(limit - headers));
            if (!partial) /* RFC 1624, equation 3 */
                store_checksum(tcp + TCP_CHECKSUM, (uint64_t)(uint16_t)~word16(tcp + TCP_CHECKSUM) +
                                                       (uint16_t)~fold(before) +
                                                       sum_bytes(tcp + word, length));
            return;
        }
        at += tcp[at + 1];
    }
}

bool checksum_is_partial(const struct view *view)
{
    size_t length = view->length - view->transport;
    const uint8_t *field =
        view->frame + view->transport + transport_checksum_offset(view->protocol);

    if (view->protocol == IP_UDP && word16(field) == 0)
        return false;
    return fold(pseudo_sum(view, view->protocol) + word_of((uint16_t)length)) == word16(field);
}

bool checksum_is_right(const struct view *view)
{
    size_t length = view->length - view->transport;
    uint64_t sum = pseudo_sum(view, view->protocol) + word_of((uint16_t)length) +
                   sum_bytes(view->frame + view->transport, length);
    return fold(sum) == 0xffff;
}
