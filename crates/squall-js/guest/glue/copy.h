/* Copies that are too short to be worth the instruction that copies, which is a call of the host;
   and comparisons eight bytes at a time. Included by quickjs.c. */

#include <stdint.h>
#include <string.h>

/* Up to here a copy in place is faster. */
#define COPY_IN_PLACE_MAX 128

static inline void copy_bytes(void *restrict to_start, const void *restrict from_start,
                              size_t length) {
    uint8_t *to = to_start;
    const uint8_t *from = from_start;
    if (length > COPY_IN_PLACE_MAX) {
        memcpy(to, from, length);
        return;
    }
    for (; length >= 8; length -= 8, to += 8, from += 8) memcpy(to, from, 8);
    if (length & 4) {
        memcpy(to, from, 4);
        to += 4;
        from += 4;
    }
    if (length & 2) {
        memcpy(to, from, 2);
        to += 2;
        from += 2;
    }
    if (length & 1) *to = *from;
}

/* As memcmp, whose version in the C library goes byte by byte. */
static inline int compare_bytes(const void *one_start, const void *other_start, size_t length) {
    const uint8_t *one = one_start, *other = other_start;
    for (; length >= 8; length -= 8, one += 8, other += 8) {
        uint64_t eight, others;
        memcpy(&eight, one, 8);
        memcpy(&others, other, 8);
        if (eight != others) break;
    }
    for (; length > 0 && *one == *other; length--, one++, other++) continue;
    return length > 0 ? *one - *other : 0;
}
