/* JSON.parse without a reviver, as most programs call it: over the characters of the string where
   they lie, with no tokens and no copy as UTF-8 between. It only knows what is right. Whatever it
   does not understand it declines, and upstream's parser, which comes next, finds the error and
   says where it is; so do nesting and numbers beyond its means. Included by quickjs.c.

   Values wait on a stack of their own until the array or object around them is complete, so that it
   is made once and in its final size. Arrays of records are the rule, so an object first tries the
   shape of the last one at its depth: while the keys are those of that shape, in order, there are
   neither atoms nor transitions of shapes. */

#define JSON_SHAPES 16
#define JSON_NUMBER_LENGTH_MAX 64
#define JSON_KEY_LENGTH_MAX 64

typedef struct JSONReader {
    JSContext *ctx;
    /* Complete values that belong to arrays and objects that are not. */
    JSValue *values;
    uint32_t count, capacity;
    int depth;
    /* What the last object at each depth looked like. */
    JSShape *shapes[JSON_SHAPES];
    /* An exception is pending: upstream's parser is not to be asked. */
    bool failed;
} JSONReader;

static no_inline bool json_read_grow(JSONReader *reader) {
    uint32_t capacity = reader->capacity ? reader->capacity * 2 : 64;
    JSValue *values = NULL;
    if (capacity <= UINT32_MAX / sizeof(JSValue))
        values = js_realloc(reader->ctx, reader->values, capacity * sizeof(JSValue));
    if (!values) {
        reader->failed = true;
        return false;
    }
    reader->values = values;
    reader->capacity = capacity;
    return true;
}

/* Takes the value over, also when it fails. */
static inline bool json_read_push(JSONReader *reader, JSValue value) {
    if (unlikely(JS_IsException(value))) {
        reader->failed = true;
        return false;
    }
    if (unlikely(reader->count == reader->capacity) && !json_read_grow(reader)) {
        JS_FreeValue(reader->ctx, value);
        return false;
    }
    reader->values[reader->count++] = value;
    return true;
}

/* The values above `from` become an array in their place. */
static bool json_read_close_array(JSONReader *reader, uint32_t from) {
    uint32_t count = reader->count - from;
    JSValue array = JS_NewArray(reader->ctx);
    if (!JS_IsException(array) && count > 0) {
        JSObject *object = JS_VALUE_GET_OBJ(array);
        if (expand_fast_array(reader->ctx, object, count) < 0) {
            JS_FreeValue(reader->ctx, array);
            array = JS_EXCEPTION;
        } else {
            memcpy(object->u.array.u.values, reader->values + from, count * sizeof(JSValue));
            object->u.array.count = count;
            object->prop[0].u.value = js_int32(count);
            reader->count = from;
        }
    }
    return json_read_push(reader, array);
}

/* Gives an object the property whose value is on top of the stack. */
static bool json_read_define(JSONReader *reader, JSObject *object, JSAtom name) {
    JSContext *ctx = reader->ctx;
    JSProperty *property;
    if (unlikely(find_own_property(&property, object, name) != NULL)) {
        /* The key was there before: the last value counts. */
        set_value(ctx, &property->u.value, reader->values[--reader->count]);
        return true;
    }
    property = add_property(ctx, object, name, JS_PROP_C_W_E);
    if (!property) {
        reader->failed = true;
        return false;
    }
    property->u.value = reader->values[--reader->count];
    return true;
}

/* An object with the first `count` properties of a shape, whose values are above `from`; it takes
   their place. */
static bool json_read_open_object(JSONReader *reader, JSShape *shape, uint32_t from) {
    JSContext *ctx = reader->ctx;
    uint32_t count = reader->count - from;
    JSValue value = JS_NewObject(ctx);
    if (JS_IsException(value)) {
        reader->failed = true;
        return false;
    }
    JSObject *object = JS_VALUE_GET_OBJ(value);
    for (uint32_t i = 0; i < count; i++) {
        JSProperty *property = add_property(ctx, object, get_shape_prop(shape)[i].atom,
                                            JS_PROP_C_W_E);
        if (!property) {
            JS_FreeValue(ctx, value);
            reader->failed = true;
            return false;
        }
        property->u.value = js_dup(reader->values[from + i]);
    }
    while (reader->count > from) JS_FreeValue(ctx, reader->values[--reader->count]);
    return json_read_push(reader, value);
}

/* The values above `from` become an object of a shape with just so many properties. */
static bool json_read_close_object(JSONReader *reader, JSShape *shape, uint32_t from) {
    JSValue value = JS_NewObjectFromShape(reader->ctx, js_dup_shape(shape), JS_CLASS_OBJECT, NULL);
    if (JS_IsException(value)) {
        reader->failed = true;
        return false;
    }
    JSProperty *properties = JS_VALUE_GET_OBJ(value)->prop;
    for (uint32_t i = from; i < reader->count; i++)
        properties[i - from].u.value = reader->values[i];
    reader->count = from;
    return json_read_push(reader, value);
}

/* Remembers how an object looks that was made key by key, when all its keys are written as they
   are, in 8 bits. While it is remembered nobody changes the shape: it is shared. */
static void json_read_remember(JSONReader *reader, JSObject *object) {
    JSRuntime *runtime = reader->ctx->rt;
    JSShape *shape = object->shape, **place = &reader->shapes[reader->depth % JSON_SHAPES];
    if (!shape->is_hashed) return;
    for (int i = 0; i < shape->prop_count; i++) {
        JSAtom atom = get_shape_prop(shape)[i].atom;
        if (__JS_AtomIsTaggedInt(atom)) return;
        JSString *name = runtime->atom_array[atom];
        if (name->is_wide_char) return;
        const uint8_t *start = str8(name), *end = start + name->len;
        if (json_skip_plain_8(start, end) != end) return;
    }
    js_free_shape_null(runtime, *place);
    *place = js_dup_shape(shape);
}

/* Whether an array or object may begin here. */
static inline bool json_read_enter(JSONReader *reader) {
    return reader->depth++ < JSON_DEPTH_MAX && !js_check_stack_overflow(reader->ctx->rt, 0);
}

#define JSON_UNIT uint8_t
#define JSON_NAME(name) name##_8
#include "json-read-units.h"
#undef JSON_UNIT
#undef JSON_NAME

#define JSON_UNIT uint16_t
#define JSON_NAME(name) name##_16
#include "json-read-units.h"
#undef JSON_UNIT
#undef JSON_NAME

/* Parses a flat string. False when that is for upstream's parser. */
static bool json_read(JSContext *ctx, JSValueConst string, JSValue *result) {
    JSString *text = JS_VALUE_GET_STRING(string);
    JSONReader reader = {.ctx = ctx};
    bool complete = text->is_wide_char
                        ? json_read_text_16(&reader, str16(text), str16(text) + text->len)
                        : json_read_text_8(&reader, str8(text), str8(text) + text->len);
    *result = complete ? reader.values[--reader.count] : JS_EXCEPTION;
    while (reader.count > 0) JS_FreeValue(ctx, reader.values[--reader.count]);
    for (int i = 0; i < JSON_SHAPES; i++) js_free_shape_null(ctx->rt, reader.shapes[i]);
    js_free(ctx, reader.values);
    return complete || reader.failed;
}
