/* The parser of json-read.h for strings of JSON_UNIT: 8 or 16 bits for a character. A function gets
   where it is and returns where it ended, NULL when it has declined or failed. */

static inline const JSON_UNIT *JSON_NAME(json_skip_space)(const JSON_UNIT *at,
                                                          const JSON_UNIT *end) {
    while (at < end && (*at == ' ' || *at == '\n' || *at == '\r' || *at == '\t')) at++;
    return at;
}

/* What an escape behind its backslash stands for. */
static const JSON_UNIT *JSON_NAME(json_read_escape)(const JSON_UNIT *at, const JSON_UNIT *end,
                                                    uint32_t *unit) {
    if (at == end) return NULL;
    switch (*at++) {
    case '"': *unit = '"'; return at;
    case '\\': *unit = '\\'; return at;
    case '/': *unit = '/'; return at;
    case 'b': *unit = '\b'; return at;
    case 'f': *unit = '\f'; return at;
    case 'n': *unit = '\n'; return at;
    case 'r': *unit = '\r'; return at;
    case 't': *unit = '\t'; return at;
    case 'u':
        if (end - at < 4) return NULL;
        *unit = 0;
        for (int i = 0; i < 4; i++) {
            int digit = at[i] < 0x80 ? from_hex(at[i]) : -1;
            if (digit < 0) return NULL;
            *unit = *unit << 4 | digit;
        }
        return at + 4;
    default:
        return NULL;
    }
}

/* A string of these units: of 8 bits when they fit. */
static JSValue JSON_NAME(json_new_string)(JSContext *ctx, const JSON_UNIT *units, size_t length) {
    if (sizeof(JSON_UNIT) == 1) {
        JSString *string = js_alloc_string(ctx, length, 0);
        if (!string) return JS_EXCEPTION;
        copy_bytes(str8(string), units, length);
        str8(string)[length] = 0;
        return JS_MKPTR(JS_TAG_STRING, string);
    }
    return js_new_string16_len(ctx, (const uint16_t *)units, length);
}

/* A string with escapes, from its first character on. `at` is at the first backslash. */
static no_inline const JSON_UNIT *JSON_NAME(json_read_escaped)(JSONReader *reader,
                                                               const JSON_UNIT *start,
                                                               const JSON_UNIT *at,
                                                               const JSON_UNIT *end,
                                                               JSValue *string) {
    StringBuffer buffer;
    string_buffer_init(reader->ctx, &buffer, (at - start) + 48);
    for (;;) {
        if (sizeof(JSON_UNIT) == 1)
            string_buffer_write8(&buffer, (const uint8_t *)start, at - start);
        else
            string_buffer_write16(&buffer, (const uint16_t *)start, at - start);
        if (at == end || *at < 0x20) break;
        if (*at == '"') {
            *string = string_buffer_end(&buffer);
            if (!JS_IsException(*string)) return at + 1;
            reader->failed = true;
            return NULL;
        }
        uint32_t unit;
        start = at = JSON_NAME(json_read_escape)(at + 1, end, &unit);
        if (!at) break;
        string_buffer_putc16(&buffer, unit);
        at = JSON_NAME(json_skip_plain)(start, end);
    }
    reader->failed = buffer.error_status != 0;
    string_buffer_free(&buffer);
    return NULL;
}

/* From behind the quote. */
static inline const JSON_UNIT *JSON_NAME(json_read_string)(JSONReader *reader,
                                                           const JSON_UNIT *at,
                                                           const JSON_UNIT *end,
                                                           JSValue *string) {
    const JSON_UNIT *start = at;
    at = JSON_NAME(json_skip_plain)(at, end);
    if (at == end) return NULL;
    if (*at != '"') return JSON_NAME(json_read_escaped)(reader, start, at, end, string);
    *string = JSON_NAME(json_new_string)(reader->ctx, start, at - start);
    if (JS_IsException(*string)) {
        reader->failed = true;
        return NULL;
    }
    return at + 1;
}

/* From behind the quote. */
static const JSON_UNIT *JSON_NAME(json_read_key)(JSONReader *reader, const JSON_UNIT *at,
                                                 const JSON_UNIT *end, JSAtom *name) {
    /* An atom that exists is found without a string when the key is short and plain. */
    char plain[JSON_KEY_LENGTH_MAX];
    size_t length = 0, most = end - at < JSON_KEY_LENGTH_MAX ? end - at : JSON_KEY_LENGTH_MAX;
    while (length < most && at[length] >= 0x20 && at[length] < 0x7f && at[length] != '"' &&
           at[length] != '\\') {
        plain[length] = (char)at[length];
        length++;
    }
    if (length < most && at[length] == '"') {
        *name = JS_NewAtomLen(reader->ctx, plain, length);
        at += length + 1;
    } else {
        JSValue string;
        at = JSON_NAME(json_read_string)(reader, at, end, &string);
        if (!at) return NULL;
        *name = JS_NewAtomStr(reader->ctx, JS_VALUE_GET_STRING(string));
    }
    if (*name != JS_ATOM_NULL) return at;
    reader->failed = true;
    return NULL;
}

/* Whether the key behind the quote is this one; returns what follows it. */
static inline const JSON_UNIT *JSON_NAME(json_match_key)(const JSON_UNIT *at, const JSON_UNIT *end,
                                                         JSString *name) {
    uint32_t length = name->len;
    if ((size_t)(end - at) <= length || at[length] != '"') return NULL;
    const uint8_t *expected = str8(name);
    for (uint32_t i = 0; i < length; i++)
        if (at[i] != expected[i]) return NULL;
    return at + length + 1;
}

static const JSON_UNIT *JSON_NAME(json_read_number)(JSONReader *reader, const JSON_UNIT *at,
                                                    const JSON_UNIT *end, JSValue *number) {
    const JSON_UNIT *start = at;
    bool negative = *at == '-', whole = true;
    uint64_t mantissa = 0;
    int exponent = 0;
    at += negative;
    const JSON_UNIT *digits = at;
    while (at < end && is_digit(*at)) mantissa = mantissa * 10 + (*at++ - '0');
    if (at == digits || (*digits == '0' && at - digits > 1)) return NULL;
    size_t count = at - digits;
    if (at < end && *at == '.') {
        const JSON_UNIT *fraction = ++at;
        while (at < end && is_digit(*at)) mantissa = mantissa * 10 + (*at++ - '0');
        if (at == fraction) return NULL;
        count += at - fraction;
        exponent = -(int)(at - fraction);
        whole = false;
    }
    if (at < end && (*at == 'e' || *at == 'E')) {
        int written = 0;
        at++;
        bool below = at < end && *at == '-';
        if (at < end && (*at == '-' || *at == '+')) at++;
        const JSON_UNIT *power = at;
        while (at < end && is_digit(*at) && at - power < 5) written = written * 10 + (*at++ - '0');
        if (at == power || (at < end && is_digit(*at))) return NULL;
        exponent += below ? -written : written;
        whole = false;
    }
    double value;
    /* 19 digits fit into the mantissa. */
    if (count <= 19 && whole && mantissa <= INT32_MAX && !(negative && mantissa == 0)) {
        *number = js_int32(negative ? -(int32_t)mantissa : (int32_t)mantissa);
        return at;
    }
    if (count <= 19 && decimal_value(mantissa, exponent, &value)) {
        *number = js_float64(negative ? -value : value);
        return at;
    }
    char text[JSON_NUMBER_LENGTH_MAX + 1];
    size_t length = at - start;
    if (length > JSON_NUMBER_LENGTH_MAX) return NULL;
    for (size_t i = 0; i < length; i++) text[i] = (char)start[i];
    text[length] = 0;
    JSATODTempMem memory;
    *number = js_float64(js_atod(text, NULL, 10, 0, &memory));
    return at;
}

static inline const JSON_UNIT *JSON_NAME(json_read_word)(const JSON_UNIT *at, const JSON_UNIT *end,
                                                         const char *word, size_t length) {
    if ((size_t)(end - at) < length) return NULL;
    for (size_t i = 0; i < length; i++)
        if (at[i] != (unsigned char)word[i]) return NULL;
    return at + length;
}

static const JSON_UNIT *JSON_NAME(json_read_array)(JSONReader *reader, const JSON_UNIT *at,
                                                   const JSON_UNIT *end);
static const JSON_UNIT *JSON_NAME(json_read_object)(JSONReader *reader, const JSON_UNIT *at,
                                                    const JSON_UNIT *end);

/* Leaves the value on the stack, and the space behind it read. */
static const JSON_UNIT *JSON_NAME(json_read_value)(JSONReader *reader, const JSON_UNIT *at,
                                                   const JSON_UNIT *end) {
    JSValue value;
    if (at == end) return NULL;
    switch (*at) {
    case '"':
        at = JSON_NAME(json_read_string)(reader, at + 1, end, &value);
        break;
    case '-': case '0': case '1': case '2': case '3': case '4':
    case '5': case '6': case '7': case '8': case '9':
        at = JSON_NAME(json_read_number)(reader, at, end, &value);
        break;
    case '{':
        at = JSON_NAME(json_read_object)(reader, at + 1, end);
        return at ? JSON_NAME(json_skip_space)(at, end) : NULL;
    case '[':
        at = JSON_NAME(json_read_array)(reader, at + 1, end);
        return at ? JSON_NAME(json_skip_space)(at, end) : NULL;
    case 't':
        at = JSON_NAME(json_read_word)(at, end, "true", 4);
        value = JS_TRUE;
        break;
    case 'f':
        at = JSON_NAME(json_read_word)(at, end, "false", 5);
        value = JS_FALSE;
        break;
    case 'n':
        at = JSON_NAME(json_read_word)(at, end, "null", 4);
        value = JS_NULL;
        break;
    default:
        return NULL;
    }
    if (!at || !json_read_push(reader, value)) return NULL;
    return JSON_NAME(json_skip_space)(at, end);
}

/* From behind the bracket. */
static const JSON_UNIT *JSON_NAME(json_read_array)(JSONReader *reader, const JSON_UNIT *at,
                                                   const JSON_UNIT *end) {
    uint32_t from = reader->count;
    if (!json_read_enter(reader)) return NULL;
    at = JSON_NAME(json_skip_space)(at, end);
    if (at < end && *at == ']') {
        at++;
    } else {
        for (;;) {
            at = JSON_NAME(json_read_value)(reader, at, end);
            if (!at || at == end) return NULL;
            if (*at == ']') break;
            if (*at != ',') return NULL;
            at = JSON_NAME(json_skip_space)(at + 1, end);
        }
        at++;
    }
    reader->depth--;
    return json_read_close_array(reader, from) ? at : NULL;
}

/* The rest of an object that is made key by key and lies on the stack, from a quote on. */
static const JSON_UNIT *JSON_NAME(json_read_keys)(JSONReader *reader, const JSON_UNIT *at,
                                                  const JSON_UNIT *end) {
    JSObject *object = JS_VALUE_GET_OBJ(reader->values[reader->count - 1]);
    for (;;) {
        JSAtom name;
        if (at == end || *at != '"') return NULL;
        at = JSON_NAME(json_read_key)(reader, at + 1, end, &name);
        if (!at) return NULL;
        at = JSON_NAME(json_skip_space)(at, end);
        if (at < end && *at == ':')
            at = JSON_NAME(json_read_value)(reader, JSON_NAME(json_skip_space)(at + 1, end), end);
        else
            at = NULL;
        bool defined = at && json_read_define(reader, object, name);
        JS_FreeAtom(reader->ctx, name);
        if (!defined || at == end) return NULL;
        if (*at == '}') break;
        if (*at != ',') return NULL;
        at = JSON_NAME(json_skip_space)(at + 1, end);
    }
    json_read_remember(reader, object);
    reader->depth--;
    return at + 1;
}

/* From behind the brace. */
static const JSON_UNIT *JSON_NAME(json_read_object)(JSONReader *reader, const JSON_UNIT *at,
                                                    const JSON_UNIT *end) {
    uint32_t from = reader->count;
    if (!json_read_enter(reader)) return NULL;
    JSShape *shape = reader->shapes[reader->depth % JSON_SHAPES];
    at = JSON_NAME(json_skip_space)(at, end);
    if (at < end && *at == '}') {
        reader->depth--;
        return json_read_push(reader, JS_NewObject(reader->ctx)) ? at + 1 : NULL;
    }
    /* Objects inside may put another shape into its place. */
    if (shape) js_dup_shape(shape);
    int expected = shape ? shape->prop_count : 0;
    for (int i = 0; i < expected; i++) {
        if (at == end || *at != '"') goto declined;
        JSString *name = reader->ctx->rt->atom_array[get_shape_prop(shape)[i].atom];
        const JSON_UNIT *behind = JSON_NAME(json_match_key)(at + 1, end, name);
        if (!behind) break;
        at = JSON_NAME(json_skip_space)(behind, end);
        if (at == end || *at != ':') goto declined;
        at = JSON_NAME(json_read_value)(reader, JSON_NAME(json_skip_space)(at + 1, end), end);
        if (!at || at == end) goto declined;
        if (*at == '}') {
            bool same = i + 1 == expected;
            bool closed = same ? json_read_close_object(reader, shape, from)
                               : json_read_open_object(reader, shape, from);
            if (closed && !same)
                json_read_remember(reader, JS_VALUE_GET_OBJ(reader->values[from]));
            js_free_shape(reader->ctx->rt, shape);
            reader->depth--;
            return closed ? at + 1 : NULL;
        }
        if (*at != ',') goto declined;
        at = JSON_NAME(json_skip_space)(at + 1, end);
    }
    bool opened = json_read_open_object(reader, shape, from);
    js_free_shape_null(reader->ctx->rt, shape);
    return opened ? JSON_NAME(json_read_keys)(reader, at, end) : NULL;
declined:
    js_free_shape(reader->ctx->rt, shape);
    return NULL;
}

static bool JSON_NAME(json_read_text)(JSONReader *reader, const JSON_UNIT *at,
                                      const JSON_UNIT *end) {
    at = JSON_NAME(json_read_value)(reader, JSON_NAME(json_skip_space)(at, end), end);
    return at == end;
}
