/* Regular expressions that are as the language makes them: their prototype has all of its own
   getters and its own exec, so nobody can see whether results were objects in between. Then test,
   replace and match need not make any. Everything else goes upstream's way. Included by quickjs.c. */

/* Captures with their registers, and arguments of a replacer, that need no allocation. */
#define REGEXP_CAPTURES_IN_PLACE 32
#define REGEXP_GROUPS_IN_PLACE 14

typedef struct RegExpRun {
    JSContext *ctx;
    const uint8_t *code;
    int flags, groups;
    JSString *text;
    uint8_t **captures;
    uint8_t *in_place[REGEXP_CAPTURES_IN_PLACE];
} RegExpRun;

/* Where the matches of a whole text lie: for each, begin and end of every group, -1 for one that took
   no part. */
typedef struct RegExpSpans {
    int *at;
    int count, capacity;
    int in_place[64];
} RegExpSpans;

static bool regexp_is_native(JSContext *ctx, JSObject *function, JSCFunctionType native, int magic) {
    return function && function->class_id == JS_CLASS_C_FUNCTION && function->u.cfunc.realm == ctx &&
           function->u.cfunc.c_function.generic == native.generic &&
           function->u.cfunc.magic == magic;
}

/* The prototype's functions lie where js_regexp_proto_funcs has put them, or are not made yet. */
static bool regexp_prototype_is_plain(JSContext *ctx, JSObject *prototype) {
    const JSShapeProperty *properties = get_shape_prop(prototype->shape);
    if (prototype->shape->prop_count < countof(js_regexp_proto_funcs)) return false;
    for (unsigned i = 0; i < countof(js_regexp_proto_funcs); i++) {
        const JSCFunctionListEntry *entry = &js_regexp_proto_funcs[i];
        int kind = properties[i].flags & JS_PROP_TMASK;
        const JSProperty *property = &prototype->prop[i];
        if (entry->def_type == JS_DEF_CGETSET || entry->def_type == JS_DEF_CGETSET_MAGIC) {
            JSCFunctionType native = {.getter = entry->u.getset.get.getter};
            if (kind != JS_PROP_GETSET ||
                !regexp_is_native(ctx, property->u.getset.getter, native, entry->magic))
                return false;
            continue;
        }
        /* Of the functions only exec is called by others. */
        if (entry->u.func.cfunc.generic != js_regexp_exec) continue;
        if (kind == JS_PROP_AUTOINIT) return properties[i].atom == JS_ATOM_exec;
        return kind == JS_PROP_NORMAL && properties[i].atom == JS_ATOM_exec &&
               JS_VALUE_GET_TAG(property->u.value) == JS_TAG_OBJECT &&
               regexp_is_native(ctx, JS_VALUE_GET_OBJ(property->u.value), entry->u.func.cfunc, 0);
    }
    return false;
}

/* The object when it is plain and has nothing of its own but a lastIndex that is a number. */
static JSObject *regexp_plain(JSContext *ctx, JSValueConst value) {
    if (JS_VALUE_GET_TAG(value) != JS_TAG_OBJECT) return NULL;
    JSObject *object = JS_VALUE_GET_OBJ(value);
    JSObject *prototype = JS_VALUE_GET_OBJ(ctx->class_proto[JS_CLASS_REGEXP]);
    if (object->class_id != JS_CLASS_REGEXP || object->shape->proto != prototype ||
        object->shape->prop_count != 1 || !object->u.regexp.bytecode ||
        !(get_shape_prop(object->shape)->flags & JS_PROP_WRITABLE) ||
        JS_VALUE_GET_TAG(object->prop[0].u.value) != JS_TAG_INT ||
        !regexp_prototype_is_plain(ctx, prototype))
        return NULL;
    return object;
}

/* A page that holds what it should is not written to: it may be shared. */
static void regexp_set_last_index(JSObject *object, int index) {
    if (JS_VALUE_GET_INT(object->prop[0].u.value) != index)
        object->prop[0].u.value = js_int32(index);
}

static bool regexp_begin(RegExpRun *run, JSContext *ctx, JSObject *object, JSString *text) {
    run->ctx = ctx;
    run->code = str8(object->u.regexp.bytecode);
    run->flags = lre_get_flags(run->code);
    run->groups = lre_get_capture_count(run->code);
    run->text = text;
    run->captures = run->in_place;
    int places = lre_get_alloc_count(run->code);
    if (places > REGEXP_CAPTURES_IN_PLACE)
        run->captures = js_malloc(ctx, places * sizeof(run->captures[0]));
    return run->captures != NULL;
}

static void regexp_end(RegExpRun *run) {
    if (run->captures != run->in_place) js_free(run->ctx, run->captures);
}

/* 1 when it matches at or behind `from`, 0 when it does not, -1 after an exception. */
static int regexp_match(RegExpRun *run, int from) {
    JSString *text = run->text;
    if (from < 0 || from > text->len) return 0;
    int result = lre_exec(run->captures, run->code, str8(text), from, text->len,
                          text->is_wide_char, run->ctx);
    if (result >= 0) return result == 1;
    if (result == LRE_RET_TIMEOUT)
        JS_ThrowInterrupted(run->ctx);
    else if (result == LRE_RET_MEMORY_ERROR)
        JS_ThrowInternalError(run->ctx, "out of memory in regexp execution");
    else
        JS_ThrowInternalError(run->ctx, "corrupted bytecode in regexp execution");
    return -1;
}

static inline int regexp_position(const RegExpRun *run, int capture) {
    const uint8_t *at = run->captures[capture];
    return at ? (int)((at - str8(run->text)) >> run->text->is_wide_char) : -1;
}

static void regexp_spans_free(JSContext *ctx, RegExpSpans *spans) {
    if (spans->at != spans->in_place) js_free(ctx, spans->at);
}

static bool regexp_spans_add(RegExpRun *run, RegExpSpans *spans) {
    int more = run->groups * 2;
    if (more > spans->capacity - spans->count) {
        bool moved = spans->at != spans->in_place;
        if (spans->capacity > INT32_MAX / 16) {
            JS_ThrowOutOfMemory(run->ctx);
            return false;
        }
        int capacity = (spans->capacity + more) * 2;
        int *at = js_realloc(run->ctx, moved ? spans->at : NULL, capacity * sizeof(int));
        if (!at) return false;
        if (!moved) memcpy(at, spans->in_place, sizeof(spans->in_place));
        spans->at = at;
        spans->capacity = capacity;
    }
    for (int i = 0; i < run->groups; i++) {
        int begin = regexp_position(run, 2 * i), end = regexp_position(run, 2 * i + 1);
        spans->at[spans->count++] = end < 0 ? -1 : begin;
        spans->at[spans->count++] = begin < 0 ? -1 : end;
    }
    return true;
}

/* All matches of a global expression, the first one of another. The program does not run
   meanwhile. */
static bool regexp_find(RegExpRun *run, RegExpSpans *spans) {
    bool unicode = run->flags & (LRE_FLAG_UNICODE | LRE_FLAG_UNICODE_SETS);
    spans->at = spans->in_place;
    spans->count = 0;
    spans->capacity = countof(spans->in_place);
    for (int64_t from = 0; from <= run->text->len;) {
        int found = regexp_match(run, (int)from);
        if (found < 0 || (found && !regexp_spans_add(run, spans))) return false;
        if (!found || !(run->flags & LRE_FLAG_GLOBAL)) return true;
        int begin = regexp_position(run, 0), end = regexp_position(run, 1);
        from = begin == end ? string_advance_index(run->text, end, unicode) : end;
    }
    return true;
}

static JSValue regexp_group(const RegExpRun *run, const int *span) {
    if (span[0] < 0) return JS_UNDEFINED;
    return js_sub_string(run->ctx, run->text, span[0], span[1]);
}

/* What the replacer makes of one match. */
static JSValue regexp_replacement(RegExpRun *run, const int *spans, JSValueConst replacer) {
    JSContext *ctx = run->ctx;
    JSValue arguments[REGEXP_GROUPS_IN_PLACE + 2];
    JSValue result = JS_UNDEFINED;
    int count = 0;
    while (count < run->groups && !JS_IsException(result)) {
        result = regexp_group(run, spans + 2 * count);
        if (!JS_IsException(result)) arguments[count++] = result;
    }
    if (!JS_IsException(result)) {
        arguments[count++] = js_int32(spans[0]);
        arguments[count++] = js_dup(JS_MKPTR(JS_TAG_STRING, run->text));
        result = JS_ToStringFree(ctx, JS_Call(ctx, replacer, JS_UNDEFINED, count, vc(arguments)));
    }
    while (count > 0) JS_FreeValue(ctx, arguments[--count]);
    return result;
}

/* What replaces is a function, or a string when that is in `literal`. */
static JSValue regexp_put_together(RegExpRun *run, const RegExpSpans *spans, JSValueConst replacer,
                                   JSString *literal) {
    StringBuffer buffer;
    int done = 0;
    string_buffer_init(run->ctx, &buffer, run->text->len);
    for (int i = 0; i < spans->count; i += run->groups * 2) {
        const int *span = spans->at + i;
        string_buffer_concat(&buffer, run->text, done, span[0]);
        done = span[1];
        if (literal) {
            string_buffer_concat(&buffer, literal, 0, literal->len);
            continue;
        }
        JSValue text = regexp_replacement(run, span, replacer);
        if (JS_IsException(text)) {
            string_buffer_free(&buffer);
            return text;
        }
        string_buffer_concat_value_free(&buffer, text);
    }
    string_buffer_concat(&buffer, run->text, done, run->text->len);
    return string_buffer_end(&buffer);
}

/* RegExp.prototype[Symbol.replace] of a flat string. `literal` is what replaces, or NULL for the
   function. False when that is for upstream's way. */
static bool regexp_replace(JSContext *ctx, JSValueConst regexp, JSString *text,
                           JSValueConst replacer, JSString *literal, JSValue *result) {
    JSObject *object = regexp_plain(ctx, regexp);
    RegExpRun run;
    RegExpSpans spans;
    if (!object) return false;
    const uint8_t *code = str8(object->u.regexp.bytecode);
    if ((lre_get_flags(code) & LRE_FLAG_STICKY) || lre_get_groupnames(code) ||
        lre_get_capture_count(code) > REGEXP_GROUPS_IN_PLACE ||
        (literal && string_indexof_char(literal, '$', 0) >= 0))
        return false;
    *result = JS_EXCEPTION;
    if (!regexp_begin(&run, ctx, object, text)) return true;
    if (run.flags & LRE_FLAG_GLOBAL) regexp_set_last_index(object, 0);
    if (regexp_find(&run, &spans)) {
        *result = spans.count ? regexp_put_together(&run, &spans, replacer, literal)
                              : js_dup(JS_MKPTR(JS_TAG_STRING, text));
    }
    regexp_spans_free(ctx, &spans);
    regexp_end(&run);
    return true;
}

/* RegExp.prototype[Symbol.match] of a flat string with a global expression. */
static bool regexp_match_all(JSContext *ctx, JSValueConst regexp, JSString *text, JSValue *result) {
    JSObject *object = regexp_plain(ctx, regexp);
    RegExpRun run;
    RegExpSpans spans;
    if (!object) return false;
    int flags = lre_get_flags(str8(object->u.regexp.bytecode));
    if (!(flags & LRE_FLAG_GLOBAL) || (flags & LRE_FLAG_STICKY)) return false;
    *result = JS_EXCEPTION;
    if (!regexp_begin(&run, ctx, object, text)) return true;
    regexp_set_last_index(object, 0);
    if (regexp_find(&run, &spans)) {
        int count = spans.count / (run.groups * 2);
        *result = count ? js_allocate_fast_array(ctx, count) : JS_NULL;
        for (int i = 0; i < count && !JS_IsException(*result); i++) {
            JSValue group = regexp_group(&run, spans.at + i * run.groups * 2);
            if (JS_IsException(group)) {
                JS_FreeValue(ctx, *result);
                *result = group;
            } else {
                JS_VALUE_GET_OBJ(*result)->u.array.u.values[i] = group;
            }
        }
    }
    regexp_spans_free(ctx, &spans);
    regexp_end(&run);
    return true;
}

/* RegExp.prototype.test: 1, 0, -1 after an exception, -2 when that is for upstream's way. */
static int regexp_test(JSContext *ctx, JSValueConst regexp, JSValueConst string) {
    JSObject *object = regexp_plain(ctx, regexp);
    RegExpRun run;
    if (!object || JS_VALUE_GET_TAG(string) != JS_TAG_STRING) return -2;
    if (!regexp_begin(&run, ctx, object, JS_VALUE_GET_STRING(string))) return -1;
    bool counts = run.flags & (LRE_FLAG_GLOBAL | LRE_FLAG_STICKY);
    int found = regexp_match(&run, counts ? JS_VALUE_GET_INT(object->prop[0].u.value) : 0);
    if (counts && found >= 0)
        regexp_set_last_index(object, found ? regexp_position(&run, 1) : 0);
    regexp_end(&run);
    return found;
}
