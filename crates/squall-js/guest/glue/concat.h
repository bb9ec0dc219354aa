/* What template literals with numbers in them become: String.prototype.concat of strings and other
   primitives, put together in one step. Included by quickjs.c. */

#define CONCAT_PARTS_MAX 16
/* Longer results may be worth a rope. */
#define CONCAT_LENGTH_MAX JS_STRING_ROPE_SHORT2_LEN

static void concat_copy(JSString *to, uint32_t at, JSString *part) {
    if (to->is_wide_char)
        copy_str16(str16(to) + at, part, 0, part->len);
    else
        copy_bytes(str8(to) + at, str8(part), part->len);
}

static JSValue concat_parts(JSContext *ctx, const JSValue *parts, int count) {
    uint32_t length = 0, wide = 0;
    for (int i = 0; i < count && length <= CONCAT_LENGTH_MAX; i++) {
        JSString *part = JS_VALUE_GET_STRING(parts[i]);
        length += part->len;
        wide |= part->is_wide_char;
    }
    if (length > CONCAT_LENGTH_MAX) {
        JSValue result = js_dup(parts[0]);
        for (int i = 1; i < count && !JS_IsException(result); i++)
            result = JS_ConcatString(ctx, result, js_dup(parts[i]));
        return result;
    }
    if (length == 0) return js_empty_string(ctx->rt);
    JSString *string = js_alloc_string(ctx, length, wide);
    if (!string) return JS_EXCEPTION;
    uint32_t at = 0;
    for (int i = 0; i < count; i++) {
        JSString *part = JS_VALUE_GET_STRING(parts[i]);
        concat_copy(string, at, part);
        at += part->len;
    }
    if (!wide) str8(string)[length] = 0;
    return JS_MKPTR(JS_TAG_STRING, string);
}

/* `first` is a string already, and taken over. False when that is for upstream's way. */
static bool concat_few(JSContext *ctx, JSValue first, int argc, JSValueConst *argv,
                       JSValue *result) {
    JSValue parts[CONCAT_PARTS_MAX + 1] = {first};
    int count = 1;
    if (argc > CONCAT_PARTS_MAX || JS_VALUE_GET_TAG(first) != JS_TAG_STRING) return false;
    /* A rope stays one. */
    for (int i = 0; i < argc; i++)
        if (JS_VALUE_GET_TAG(argv[i]) == JS_TAG_STRING_ROPE) return false;
    *result = JS_UNDEFINED;
    for (int i = 0; i < argc && !JS_IsException(*result); i++) {
        JSValue part = JS_ToString(ctx, argv[i]);
        if (JS_IsException(part))
            *result = part;
        else
            parts[count++] = part;
    }
    if (!JS_IsException(*result)) *result = concat_parts(ctx, parts, count);
    while (count > 0) JS_FreeValue(ctx, parts[--count]);
    return true;
}
