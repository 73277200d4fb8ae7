/* Loads and stores of wire values, and the Internet checksum. Pure; knows no header but IP and
 * TCP/UDP pseudo-headers. Twin: gred/wire/checksum.py.
 *
 * Sums are kept in the byte order of memory: the ones' complement sum does not depend on it
 * (RFC 1071 §2 B), so nothing is swapped per word.
 */
#ifndef GRED_BYTES_H
#define GRED_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint16_t load16(const uint8_t *p)
{
    return (uint16_t)((p[0] << 8) | p[1]);
}

static inline uint32_t load32(const uint8_t *p)
{
    return ((uint32_t)p[0] << 24) | ((uint32_t)p[1] << 16) | ((uint32_t)p[2] << 8) | p[3];
}

static inline void store16(uint8_t *p, uint16_t value)
{
    p[0] = (uint8_t)(value >> 8);
    p[1] = (uint8_t)value;
}

static inline void store32(uint8_t *p, uint32_t value)
{
    p[0] = (uint8_t)(value >> 24);
    p[1] = (uint8_t)(value >> 16);
    p[2] = (uint8_t)(value >> 8);
    p[3] = (uint8_t)value;
}

/* The 16-bit word at *p* as it lies in memory, for sums. */
static inline uint16_t word16(const uint8_t *p)
{
    uint16_t word;
    memcpy(&word, p, sizeof word);
    return word;
}

/* A host-order number as the word it would be on the wire, for sums. */
static inline uint16_t word_of(uint16_t value)
{
    uint8_t wire[2];
    store16(wire, value);
    return word16(wire);
}

static inline uint16_t fold(uint64_t sum)
{
    sum = (sum & 0xffffffff) + (sum >> 32);
    sum = (sum & 0xffffffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)sum;
}

/* Ones' complement sum of *length* bytes, as if they began at an even offset. Not folded: add a few
 * of them, then fold. An odd last byte counts as the first half of a word. */
static inline uint64_t sum_bytes(const uint8_t *p, size_t length)
{
    uint64_t a = 0, b = 0, carry_a = 0, carry_b = 0, word;

    /* Two chains of add-with-carry keep both ALU ports busy; the carries are added at the end. */
    while (length >= 32) {
        memcpy(&word, p, 8);
        carry_a += __builtin_add_overflow(a, word, &a);
        memcpy(&word, p + 8, 8);
        carry_b += __builtin_add_overflow(b, word, &b);
        memcpy(&word, p + 16, 8);
        carry_a += __builtin_add_overflow(a, word, &a);
        memcpy(&word, p + 24, 8);
        carry_b += __builtin_add_overflow(b, word, &b);
        p += 32;
        length -= 32;
    }
    uint64_t sum = (a & 0xffffffff) + (a >> 32) + (b & 0xffffffff) + (b >> 32) + carry_a + carry_b;
    while (length >= 4) {
        uint32_t half;
        memcpy(&half, p, 4);
        sum += half;
        p += 4;
        length -= 4;
    }
    if (length >= 2) {
        sum += word16(p);
        p += 2;
        length -= 2;
    }
    if (length) {
        const uint8_t last[2] = {*p, 0};
        sum += word16(last);
    }
    return (sum & 0xffffffff) + (sum >> 32);
}

/* One step of a hash over 32-bit words, which begins with MIX_SEED. Twin: pure_lookup.mix(). */
#define MIX_SEED 0x9e3779b9u

static inline uint32_t mix(uint32_t hash, uint32_t word)
{
    hash = (hash ^ word) * 0x85ebca6b;
    return hash ^ hash >> 15;
}

/* The checksum field, in memory order, that makes everything summed in *sum* right. */
static inline void store_checksum(uint8_t *field, uint64_t sum)
{
    uint16_t value = (uint16_t)~fold(sum);
    memcpy(field, &value, sizeof value);
}

#endif
