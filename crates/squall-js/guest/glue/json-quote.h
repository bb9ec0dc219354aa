/* Strings as JSON has them: what must be escaped is looked for in blocks, and what lies between is
   copied whole. Included by quickjs.c. */

#ifdef __wasm_simd128__
#include <wasm_simd128.h>
#endif

/* How many units at the front, of whole blocks, JSON leaves as they are: none is a control
   character, a quote or a backslash. Fewer than a block are for the caller to look at. */
static inline size_t json_plain_blocks_8(const uint8_t *at, size_t length) {
    size_t done = 0;
#ifdef __wasm_simd128__
    for (; length - done >= 16; done += 16) {
        v128_t units = wasm_v128_load(at + done);
        v128_t special = wasm_v128_or(wasm_i8x16_eq(units, wasm_i8x16_const_splat('"')),
                                      wasm_i8x16_eq(units, wasm_i8x16_const_splat('\\')));
        special = wasm_v128_or(special, wasm_u8x16_lt(units, wasm_u8x16_const_splat(0x20)));
        uint32_t found = wasm_i8x16_bitmask(special);
        if (found) return done + __builtin_ctz(found);
    }
#else
    (void)at, (void)length;
#endif
    return done;
}

static inline size_t json_plain_blocks_16(const uint16_t *at, size_t length) {
    size_t done = 0;
#ifdef __wasm_simd128__
    for (; length - done >= 8; done += 8) {
        v128_t units = wasm_v128_load(at + done);
        v128_t special = wasm_v128_or(wasm_i16x8_eq(units, wasm_i16x8_const_splat('"')),
                                      wasm_i16x8_eq(units, wasm_i16x8_const_splat('\\')));
        special = wasm_v128_or(special, wasm_u16x8_lt(units, wasm_u16x8_const_splat(0x20)));
        uint32_t found = wasm_i16x8_bitmask(special);
        if (found) return done + __builtin_ctz(found);
    }
#else
    (void)at, (void)length;
#endif
    return done;
}

/* The end of what stands for itself in a string. */
static inline const uint8_t *json_skip_plain_8(const uint8_t *at, const uint8_t *end) {
    at += json_plain_blocks_8(at, end - at);
    while (at < end && *at >= 0x20 && *at != '"' && *at != '\\') at++;
    return at;
}

static inline const uint16_t *json_skip_plain_16(const uint16_t *at, const uint16_t *end) {
    at += json_plain_blocks_16(at, end - at);
    while (at < end && *at >= 0x20 && *at != '"' && *at != '\\') at++;
    return at;
}

/* Room for `more` units behind the end; false after an exception. */
static inline bool json_room(StringBuffer *buffer, uint32_t more) {
    if (likely(more <= (uint32_t)(buffer->size - buffer->len))) return true;
    /* A length that is too much is refused there. */
    int64_t wanted = (int64_t)buffer->len + (more > (uint32_t)buffer->len ? more : buffer->len);
    int64_t needed = (int64_t)buffer->len + more;
    if (wanted > JS_STRING_LEN_MAX) wanted = needed > JS_STRING_LEN_MAX ? INT32_MAX : needed;
    return string_buffer_realloc(buffer, (int)wanted, 0) == 0;
}

/* Where the next unit of a buffer of 8 bits goes. */
static inline uint8_t *json_end_8(StringBuffer *buffer) {
    return (uint8_t *)(buffer->str + 1) + buffer->len;
}

/* Appends characters of 8 bits; false after an exception. */
static inline bool json_append(StringBuffer *buffer, const void *text, uint32_t length) {
    if (unlikely(buffer->is_wide_char)) return string_buffer_write8(buffer, text, length) == 0;
    if (unlikely(!json_room(buffer, length))) return false;
    copy_bytes(json_end_8(buffer), text, length);
    buffer->len += length;
    return true;
}

/* The same with one character. */
static inline bool json_append_one(StringBuffer *buffer, uint8_t character) {
    if (unlikely(buffer->is_wide_char || buffer->len == buffer->size))
        return string_buffer_putc8(buffer, character) == 0;
    *json_end_8(buffer) = character;
    buffer->len++;
    return true;
}

/* The escape of a unit that is not plain; its length. */
static int json_escape(char *to, uint32_t unit) {
    static const char short_forms[] = "btnvfr";
    *to++ = '\\';
    if (unit == '"' || unit == '\\') {
        *to = (char)unit;
        return 2;
    }
    if (unit >= '\b' && unit <= '\r' && unit != '\v') {
        *to = short_forms[unit - '\b'];
        return 2;
    }
    static const char digits[] = "0123456789abcdef";
    *to++ = 'u';
    for (int shift = 12; shift >= 0; shift -= 4) *to++ = digits[unit >> shift & 15];
    return 6;
}

static bool json_quote_8(StringBuffer *buffer, const uint8_t *at, const uint8_t *end) {
    json_append_one(buffer, '"');
    for (;;) {
        const uint8_t *start = at;
        at = json_skip_plain_8(at, end);
        if (!json_append(buffer, start, at - start)) return false;
        if (at == end) break;
        char escape[6];
        if (!json_append(buffer, escape, json_escape(escape, *at++))) return false;
    }
    return json_append_one(buffer, '"');
}

/* The end of what stands for itself, which a surrogate without its other half does not. */
static const uint16_t *json_skip_plain_pairs(const uint16_t *at, const uint16_t *end) {
    while (at < end && *at >= 0x20 && *at != '"' && *at != '\\') {
        if (is_surrogate(*at)) {
            if (!is_hi_surrogate(*at) || at + 1 == end || !is_lo_surrogate(at[1])) break;
            at++;
        }
        at++;
    }
    return at;
}

static bool json_quote_16(StringBuffer *buffer, const uint16_t *at, const uint16_t *end) {
    json_append_one(buffer, '"');
    for (;;) {
        const uint16_t *start = at;
        at = json_skip_plain_pairs(at, end);
        string_buffer_write16(buffer, start, at - start);
        if (at == end) break;
        char escape[6];
        string_buffer_write8(buffer, (uint8_t *)escape, json_escape(escape, *at++));
    }
    return json_append_one(buffer, '"');
}

/* Appends a flat string between quotes; false after an exception. */
static bool json_quote(StringBuffer *buffer, JSString *string) {
    if (!json_room(buffer, string->len + 2)) return false;
    return string->is_wide_char
               ? json_quote_16(buffer, str16(string), str16(string) + string->len)
               : json_quote_8(buffer, str8(string), str8(string) + string->len);
}
