/* QuickJS-ng in one piece with the few functions of ours that need its inside: strings without
   copies, arrays without property look-ups, and the seal before a snapshot. */

#include "libc.h"

#include "quickjs.c"

#include "engine.h"

JSValue inside_text(JSContext *ctx, JSValueConst string, struct text *text) {
    JSValue flat = JS_VALUE_GET_TAG(string) == JS_TAG_STRING_ROPE
                       ? js_linearize_string_rope(ctx, string)
                       : js_dup(string);
    if (JS_IsException(flat)) return flat;
    JSString *inner = JS_VALUE_GET_STRING(flat);
    text->wide = inner->is_wide_char;
    text->length = inner->len;
    text->data = inner->is_wide_char ? (const void *)str16(inner) : str8(inner);
    return flat;
}

JSValue inside_latin1_string(JSContext *ctx, const uint8_t *data, size_t length) {
    if (length > JS_STRING_LEN_MAX) return JS_ThrowRangeError(ctx, "invalid string length");
    return js_new_string8_len(ctx, (const char *)data, length);
}

JSValue inside_new_array(JSContext *ctx, uint32_t count, JSValue **slots) {
    JSValue array = js_allocate_fast_array(ctx, count);
    if (JS_IsException(array)) return array;
    *slots = JS_VALUE_GET_OBJ(array)->u.array.u.values;
    return array;
}

bool inside_array_elements(JSContext *ctx, JSValueConst array, JSValueConst **elements,
                           uint32_t *count) {
    JSValue *values;
    uint32_t length;
    if (!js_get_fast_array(ctx, unsafe_unconst(array), &values, count)) return false;
    *elements = (JSValueConst *)values;
    return js_get_length32(ctx, &length, array) == 0 && length == *count;
}

JSValueConst inside_async_context(JSContext *ctx) {
    return ctx->async_context;
}

void inside_set_async_context(JSContext *ctx, JSValueConst value) {
    set_value(ctx, &ctx->async_context, js_dup(value));
}

bool inside_bytes(JSContext *ctx, JSValueConst value, const uint8_t **data, size_t *length) {
    if (JS_IsArrayBuffer(value)) {
        *data = JS_GetArrayBuffer(ctx, length, value);
        return *data || !JS_HasException(ctx);
    }
    if (JS_GetTypedArrayType(value) != JS_TYPED_ARRAY_UINT8) {
        JS_ThrowTypeError(ctx, "only bytes and plain values can cross to the host");
        return false;
    }
    JSObject *array = JS_VALUE_GET_OBJ(value);
    if (typed_array_is_oob(array)) {
        JS_ThrowTypeErrorArrayBufferOOB(ctx);
        return false;
    }
    *data = array->u.array.u.uint8_ptr;
    *length = array->u.array.count;
    return true;
}

JSValue inside_take_bytes(JSContext *ctx, uint8_t *data, size_t length) {
    return JS_NewUint8Array(ctx, data, length, js_array_buffer_realloc, NULL, false);
}

/* The engine makes its own functions when they are first asked for, and every new instance would
   make them again, on pages that are the snapshot's. */
static void make_own_functions(JSContext *ctx) {
    struct list_head *at;
    list_for_each(at, &ctx->rt->gc_obj_list) { /* those made here are at its end */
        JSGCObjectHeader *header = list_entry(at, JSGCObjectHeader, link);
        if (JS_GC_TYPE(header) != JS_GC_OBJ_TYPE_JS_OBJECT) continue;
        JSObject *object = (JSObject *)header;
        for (int i = 0; i < object->shape->prop_count; i++) {
            JSShapeProperty *shape = &get_shape_prop(object->shape)[i];
            JSProperty *property = &object->prop[i];
            if (shape->atom == JS_ATOM_NULL ||
                (shape->flags & JS_PROP_TMASK) != JS_PROP_AUTOINIT ||
                js_autoinit_get_id(property) != JS_AUTOINIT_ID_PROP)
                continue;
            if (JS_AutoInitProperty(ctx, object, shape->atom, property, shape) < 0)
                JS_FreeValue(ctx, JS_GetException(ctx)); /* then a program finds it so as well */
        }
    }
}

void inside_seal(JSContext *ctx) {
    JSRuntime *runtime = ctx->rt;
    JS_RunGC(runtime);
    make_own_functions(ctx);
    blocks_seal(runtime);
}

void inside_collect_after(JSContext *ctx, size_t bytes) {
    JS_SetGCThreshold(ctx->rt, ctx->rt->malloc_state.malloc_size + bytes);
}

void inside_keep_shapes(JSContext *ctx, uint32_t count) {
    ctx->rt->shapes_to_keep = count;
}
