/* Values as they cross the boundary: a tag, then
     0 null, 1 undefined, 2 false, 3 true, 4 a 32-bit integer, 5 a 64-bit float,
     6 a string (length, UTF-8), 7 bytes (length, raw), 8 an array (count, values);
   all numbers are little-endian, lengths and counts have 32 bits. */

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine.h"

enum { TAG_NULL, TAG_UNDEFINED, TAG_FALSE, TAG_TRUE, TAG_INT, TAG_FLOAT, TAG_STRING, TAG_BYTES, TAG_ARRAY };

/* Deeper than any message of the web layer; what is deeper refers to itself. */
#define DEEPEST 64

bool bytes_reserve(struct bytes *bytes, size_t more) {
    if (more <= bytes->capacity - bytes->length) return true;
    size_t needed = bytes->length + more;
    size_t capacity = bytes->capacity * 2 > needed ? bytes->capacity * 2 : needed;
    if (needed < more) return false;
    bool fixed = bytes->data == bytes->first;
    uint8_t *data = realloc(fixed ? NULL : bytes->data, capacity);
    if (!data) return false;
    if (fixed) memcpy(data, bytes->first, bytes->length);
    bytes->data = data;
    bytes->capacity = capacity;
    return true;
}

/* Back to the small piece. What a large one held must not stay behind in a snapshot. */
void bytes_reset(struct bytes *bytes) {
    if (bytes->data != bytes->first) {
        memset(bytes->data, 0, bytes->capacity);
        free(bytes->data);
    }
    memset(bytes->first, 0, bytes->first_capacity);
    bytes->data = bytes->first;
    bytes->capacity = bytes->first_capacity;
    bytes->length = 0;
}

static inline void put_u32(uint8_t *at, uint32_t value) {
    memcpy(at, &value, 4);
}

static inline uint32_t get_u32(const uint8_t *at) {
    uint32_t value;
    memcpy(&value, at, 4);
    return value;
}

static size_t utf8_from_latin1(uint8_t *to, const uint8_t *from, size_t length) {
    uint8_t *start = to;
    for (size_t i = 0; i < length; i++) {
        uint8_t c = from[i];
        if (c < 0x80) {
            *to++ = c;
        } else {
            *to++ = 0xc0 | c >> 6;
            *to++ = 0x80 | (c & 0x3f);
        }
    }
    return to - start;
}

static size_t utf8_from_utf16(uint8_t *to, const uint16_t *from, size_t length) {
    uint8_t *start = to;
    for (size_t i = 0; i < length; i++) {
        uint32_t c = from[i];
        if (c < 0x80) {
            *to++ = c;
            continue;
        }
        if (c < 0x800) {
            *to++ = 0xc0 | c >> 6;
            *to++ = 0x80 | (c & 0x3f);
            continue;
        }
        if ((c & 0xf800) == 0xd800) {
            bool pair = c < 0xdc00 && i + 1 < length && (from[i + 1] & 0xfc00) == 0xdc00;
            if (pair) {
                c = 0x10000 + ((c & 0x3ff) << 10) + (from[++i] & 0x3ff);
                *to++ = 0xf0 | c >> 18;
                *to++ = 0x80 | (c >> 12 & 0x3f);
                *to++ = 0x80 | (c >> 6 & 0x3f);
                *to++ = 0x80 | (c & 0x3f);
                continue;
            }
            c = 0xfffd;
        }
        *to++ = 0xe0 | c >> 12;
        *to++ = 0x80 | (c >> 6 & 0x3f);
        *to++ = 0x80 | (c & 0x3f);
    }
    return to - start;
}

size_t text_utf8_largest(const struct text *text) {
    if (text->wide) return (size_t)text->length * 3;
    const uint8_t *data = text->data;
    size_t high = 0;
    for (uint32_t i = 0; i < text->length; i++) high += data[i] >> 7;
    return text->length + high;
}

size_t text_utf8_write(const struct text *text, uint8_t *to, size_t largest) {
    if (text->wide) return utf8_from_utf16(to, text->data, text->length);
    if (largest != text->length) return utf8_from_latin1(to, text->data, text->length);
    memcpy(to, text->data, text->length);
    return text->length;
}

static bool out_of_memory(JSContext *ctx) {
    JS_ThrowOutOfMemory(ctx);
    return false;
}

static bool encode_string(JSContext *ctx, struct bytes *to, JSValueConst string) {
    struct text text;
    JSValue flat = inside_text(ctx, string, &text);
    if (JS_IsException(flat)) return false;
    size_t largest = text_utf8_largest(&text);
    bool fits = bytes_reserve(to, 5 + largest);
    if (fits) {
        uint8_t *at = to->data + to->length;
        size_t length = text_utf8_write(&text, at + 5, largest);
        at[0] = TAG_STRING;
        put_u32(at + 1, length);
        to->length += 5 + length;
    }
    JS_FreeValue(ctx, flat);
    return fits || out_of_memory(ctx);
}

static bool encode_bytes(JSContext *ctx, struct bytes *to, const uint8_t *data, size_t length) {
    if (!bytes_reserve(to, 5 + length)) return out_of_memory(ctx);
    uint8_t *at = to->data + to->length;
    at[0] = TAG_BYTES;
    put_u32(at + 1, length);
    if (length) memcpy(at + 5, data, length);
    to->length += 5 + length;
    return true;
}

static bool encode_at(JSContext *ctx, struct bytes *to, JSValueConst value, int depth);

static bool encode_elements(JSContext *ctx, struct bytes *to, JSValueConst array, int depth) {
    JSValueConst *elements;
    uint32_t count;
    if (inside_array_elements(ctx, array, &elements, &count)) {
        if (!bytes_reserve(to, 5)) return out_of_memory(ctx);
        to->data[to->length] = TAG_ARRAY;
        put_u32(to->data + to->length + 1, count);
        to->length += 5;
        /* An element that is an array with getters could change this one: look each time. */
        for (uint32_t i = 0; i < count; i++) {
            uint32_t now;
            if (!inside_array_elements(ctx, array, &elements, &now) || i >= now) {
                JS_ThrowTypeError(ctx, "the array changed while it was read");
                return false;
            }
            if (!encode_at(ctx, to, elements[i], depth)) return false;
        }
        return true;
    }
    int64_t length;
    if (JS_GetLength(ctx, array, &length) < 0) return false;
    if (length > UINT32_MAX) {
        JS_ThrowRangeError(ctx, "the array is too long for the host");
        return false;
    }
    if (!bytes_reserve(to, 5)) return out_of_memory(ctx);
    to->data[to->length] = TAG_ARRAY;
    put_u32(to->data + to->length + 1, length);
    to->length += 5;
    for (int64_t i = 0; i < length; i++) {
        JSValue element = JS_GetPropertyInt64(ctx, array, i);
        bool written = !JS_IsException(element) && encode_at(ctx, to, element, depth);
        JS_FreeValue(ctx, element);
        if (!written) return false;
    }
    return true;
}

static bool encode_object(JSContext *ctx, struct bytes *to, JSValueConst value, int depth) {
    if (depth >= DEEPEST) {
        JS_ThrowRangeError(ctx, "the value is nested too deeply for the host");
        return false;
    }
    if (JS_IsArray(value)) return encode_elements(ctx, to, value, depth + 1);
    size_t length;
    const uint8_t *data;
    return inside_bytes(ctx, value, &data, &length) && encode_bytes(ctx, to, data, length);
}

static bool encode_float(JSContext *ctx, struct bytes *to, double number) {
    if (!bytes_reserve(to, 9)) return out_of_memory(ctx);
    uint8_t *at = to->data + to->length;
    if (number >= INT32_MIN && number <= INT32_MAX && number == (int32_t)number &&
        !(number == 0 && signbit(number))) {
        at[0] = TAG_INT;
        put_u32(at + 1, (uint32_t)(int32_t)number);
        to->length += 5;
    } else {
        at[0] = TAG_FLOAT;
        memcpy(at + 1, &number, 8);
        to->length += 9;
    }
    return true;
}

static bool encode_at(JSContext *ctx, struct bytes *to, JSValueConst value, int depth) {
    switch (JS_VALUE_GET_NORM_TAG(value)) {
    case JS_TAG_STRING:
    case JS_TAG_STRING_ROPE:
        return encode_string(ctx, to, value);
    case JS_TAG_INT:
        if (!bytes_reserve(to, 5)) return out_of_memory(ctx);
        to->data[to->length] = TAG_INT;
        put_u32(to->data + to->length + 1, (uint32_t)JS_VALUE_GET_INT(value));
        to->length += 5;
        return true;
    case JS_TAG_FLOAT64:
        return encode_float(ctx, to, JS_VALUE_GET_FLOAT64(value));
    case JS_TAG_OBJECT:
        return encode_object(ctx, to, value, depth);
    case JS_TAG_NULL:
    case JS_TAG_UNDEFINED:
    case JS_TAG_BOOL:
        if (!bytes_reserve(to, 1)) return out_of_memory(ctx);
        to->data[to->length++] = JS_IsNull(value)        ? TAG_NULL
                                 : JS_IsUndefined(value) ? TAG_UNDEFINED
                                                         : TAG_FALSE + JS_VALUE_GET_BOOL(value);
        return true;
    default:
        JS_ThrowTypeError(ctx, "a symbol or a bigint cannot cross to the host");
        return false;
    }
}

bool encode_array(JSContext *ctx, struct bytes *to, int count, JSValueConst *values) {
    if (!bytes_reserve(to, 5)) return out_of_memory(ctx);
    to->data[to->length] = TAG_ARRAY;
    put_u32(to->data + to->length + 1, count);
    to->length += 5;
    for (int i = 0; i < count; i++)
        if (!encode_at(ctx, to, values[i], 1)) return false;
    return true;
}

static JSValue malformed(JSContext *ctx) {
    return JS_ThrowInternalError(ctx, "the host's value is malformed");
}

static JSValue decode_at(JSContext *ctx, const uint8_t **data, const uint8_t *end, int depth) {
    const uint8_t *at = *data;
    if (at >= end) return malformed(ctx);
    uint8_t tag = *at++;
    size_t left = end - at;
    uint32_t length = 0;
    if (tag >= TAG_INT) {
        if (left < (tag == TAG_FLOAT ? 8 : 4)) return malformed(ctx);
        if (tag != TAG_FLOAT) {
            length = get_u32(at);
            at += 4;
            left -= 4;
        }
    }
    *data = at;
    switch (tag) {
    case TAG_NULL:
        return JS_NULL;
    case TAG_UNDEFINED:
        return JS_UNDEFINED;
    case TAG_FALSE:
        return JS_FALSE;
    case TAG_TRUE:
        return JS_TRUE;
    case TAG_INT:
        return JS_NewInt32(ctx, (int32_t)length);
    case TAG_FLOAT: {
        double number;
        memcpy(&number, at, 8);
        *data = at + 8;
        return JS_NewNumber(ctx, number);
    }
    case TAG_STRING:
        if (length > left) return malformed(ctx);
        *data = at + length;
        return JS_NewStringLen(ctx, (const char *)at, length);
    case TAG_BYTES:
        if (length > left) return malformed(ctx);
        *data = at + length;
        return JS_NewUint8ArrayCopy(ctx, at, length);
    case TAG_ARRAY: {
        JSValue *slots;
        if (length > left || depth >= DEEPEST) return malformed(ctx);
        JSValue array = inside_new_array(ctx, length, &slots);
        if (JS_IsException(array)) return array;
        for (uint32_t i = 0; i < length; i++) {
            JSValue element = decode_at(ctx, data, end, depth + 1);
            if (JS_IsException(element)) {
                JS_FreeValue(ctx, array);
                return element;
            }
            slots[i] = element;
        }
        return array;
    }
    default:
        return malformed(ctx);
    }
}

JSValue decode_next(JSContext *ctx, const uint8_t **data, const uint8_t *end) {
    return decode_at(ctx, data, end, 0);
}

bool decode_array_header(const uint8_t **data, const uint8_t *end, uint32_t *count) {
    if (end - *data < 5 || **data != TAG_ARRAY) return false;
    *count = get_u32(*data + 1);
    *data += 5;
    return true;
}

bool decode_raw_string(const uint8_t **data, const uint8_t *end, const char **text,
                       size_t *length) {
    if (end - *data < 5 || **data != TAG_STRING) return false;
    *length = get_u32(*data + 1);
    *text = (const char *)*data + 5;
    if (*length > (size_t)(end - *data) - 5) return false;
    *data += 5 + *length;
    return true;
}
