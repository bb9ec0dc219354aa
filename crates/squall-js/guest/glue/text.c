/* Strings to bytes and back, for TextEncoder, TextDecoder, Buffer and their like. */

#include <stdlib.h>
#include <string.h>

#include "engine.h"

size_t text_utf8_largest(const struct text *text);
size_t text_utf8_write(const struct text *text, uint8_t *to, size_t largest);

static JSValue text_argument(JSContext *ctx, JSValueConst value, struct text *text) {
    JSValue string = JS_ToString(ctx, value);
    if (JS_IsException(string)) return string;
    JSValue flat = inside_text(ctx, string, text);
    JS_FreeValue(ctx, string);
    return flat;
}

static JSValue utf8_encode(JSContext *ctx, JSValueConst self, int argc, JSValueConst *argv) {
    struct text text;
    JSValue flat = text_argument(ctx, argv[0], &text);
    if (JS_IsException(flat)) return flat;
    size_t largest = text_utf8_largest(&text);
    JSValue array;
    if (!text.wide && largest == text.length) {
        array = JS_NewUint8ArrayCopy(ctx, text.data, text.length);
    } else {
        uint8_t *data = js_malloc(ctx, largest);
        array = JS_EXCEPTION;
        if (data) {
            size_t length = text_utf8_write(&text, data, largest);
            if (length < largest) {
                uint8_t *fitted = js_realloc(ctx, data, length);
                if (fitted) data = fitted;
            }
            array = inside_take_bytes(ctx, data, length);
        }
    }
    JS_FreeValue(ctx, flat);
    return array;
}

/* How many bytes at `at` make one character, as the UTF-8 decoder of the Encoding standard reads
   them; `*character` is U+FFFD when they are malformed. */
static size_t utf8_next(const uint8_t *at, size_t left, uint32_t *character) {
    uint8_t first = at[0];
    *character = first;
    if (first < 0x80) return 1;
    *character = 0xfffd;
    uint8_t lower = 0x80, upper = 0xbf;
    int more;
    uint32_t value;
    if (first >= 0xc2 && first <= 0xdf) {
        more = 1;
        value = first & 0x1f;
    } else if (first >= 0xe0 && first <= 0xef) {
        more = 2;
        value = first & 0x0f;
        if (first == 0xe0) lower = 0xa0;
        if (first == 0xed) upper = 0x9f;
    } else if (first >= 0xf0 && first <= 0xf4) {
        more = 3;
        value = first & 0x07;
        if (first == 0xf0) lower = 0x90;
        if (first == 0xf4) upper = 0x8f;
    } else {
        return 1;
    }
    for (int i = 1; i <= more; i++) {
        if ((size_t)i >= left || at[i] < lower || at[i] > upper) return i;
        value = value << 6 | (at[i] & 0x3f);
        lower = 0x80;
        upper = 0xbf;
    }
    *character = value;
    return more + 1;
}

/* The length of the well-formed beginning. Eight bytes of ASCII are skipped at once. */
static size_t utf8_well_formed(const uint8_t *data, size_t length) {
    size_t at = 0;
    while (at < length) {
        uint64_t eight;
        if (length - at >= 8 &&
            (memcpy(&eight, data + at, 8), (eight & 0x8080808080808080u) == 0)) {
            at += 8;
            continue;
        }
        uint32_t character;
        size_t used = utf8_next(data + at, length - at, &character);
        /* U+FFFD itself has three bytes, and malformed bytes never begin as it does and have three. */
        if (character == 0xfffd && !(used == 3 && data[at] == 0xef)) return at;
        at += used;
    }
    return at;
}

static JSValue utf8_replace(JSContext *ctx, const uint8_t *data, size_t length) {
    uint16_t *units = js_malloc(ctx, length * sizeof(uint16_t));
    if (!units) return JS_EXCEPTION;
    size_t count = 0;
    for (size_t at = 0; at < length;) {
        uint32_t character;
        at += utf8_next(data + at, length - at, &character);
        if (character >= 0x10000) {
            units[count++] = 0xd7c0 + (character >> 10);
            units[count++] = 0xdc00 | (character & 0x3ff);
        } else {
            units[count++] = character;
        }
    }
    JSValue string = JS_NewStringUTF16(ctx, units, count);
    js_free(ctx, units);
    return string;
}

static JSValue utf8_decode(JSContext *ctx, JSValueConst self, int argc, JSValueConst *argv) {
    size_t length;
    const uint8_t *data;
    if (!inside_bytes(ctx, argv[0], &data, &length)) return JS_EXCEPTION;
    if (utf8_well_formed(data, length) == length)
        return JS_NewStringLen(ctx, (const char *)data, length);
    if (JS_ToBool(ctx, argv[1])) return JS_NULL;
    return utf8_replace(ctx, data, length);
}

static JSValue latin1_decode(JSContext *ctx, JSValueConst self, int argc, JSValueConst *argv) {
    size_t length;
    const uint8_t *data;
    if (!inside_bytes(ctx, argv[0], &data, &length)) return JS_EXCEPTION;
    return inside_latin1_string(ctx, data, length);
}

static JSValue latin1_encode(JSContext *ctx, JSValueConst self, int argc, JSValueConst *argv) {
    struct text text;
    JSValue flat = text_argument(ctx, argv[0], &text);
    if (JS_IsException(flat)) return flat;
    JSValue array = JS_NULL;
    if (!text.wide) {
        array = JS_NewUint8ArrayCopy(ctx, text.data, text.length);
    } else {
        const uint16_t *units = text.data;
        uint16_t all = 0;
        for (uint32_t i = 0; i < text.length; i++) all |= units[i];
        if (all <= 0xff) {
            uint8_t *data = js_malloc(ctx, text.length ? text.length : 1);
            if (data)
                for (uint32_t i = 0; i < text.length; i++) data[i] = units[i];
            array = data ? inside_take_bytes(ctx, data, text.length) : JS_EXCEPTION;
        }
    }
    JS_FreeValue(ctx, flat);
    return array;
}

const JSCFunctionListEntry text_functions[] = {
    JS_CFUNC_DEF("utf8Encode", 1, utf8_encode),
    JS_CFUNC_DEF("utf8Decode", 2, utf8_decode),
    JS_CFUNC_DEF("latin1Encode", 1, latin1_encode),
    JS_CFUNC_DEF("latin1Decode", 1, latin1_decode),
};
const int text_function_count = sizeof(text_functions) / sizeof(text_functions[0]);
