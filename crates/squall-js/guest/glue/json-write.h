/* JSON.stringify of plain data: objects and arrays of the language with data in them, and primitive
   values. No code of the program runs meanwhile, so at anything else (a toJSON, a getter, a proxy,
   an instance of a class with something inside) this gives up, and upstream's way begins anew as if
   nothing had happened. Included by quickjs.c. */

/* What it is inside of, to find circles. */
typedef struct JSONWriterLevel {
    const struct JSONWriterLevel *outer;
    JSObject *object;
} JSONWriterLevel;

typedef enum { JSON_WRITTEN, JSON_DECLINED, JSON_FAILED } JSONWriteResult;

typedef struct JSONWriter {
    JSContext *ctx;
    StringBuffer *buffer;
    int depth;
    /* The last shape that was found to be plain. */
    JSShape *plain;
} JSONWriter;

static bool json_write_float(StringBuffer *buffer, double value) {
    char text[128];
    if (!isfinite(value)) return json_append(buffer, "null", 4);
    int length = decimal_write(text, value);
    if (length == 0) {
        JSDTOATempMem memory;
        length = js_dtoa(text, value, 10, 0, JS_DTOA_FORMAT_FREE, &memory);
    }
    return json_append(buffer, text, length);
}

/* Whether upstream's way would find no function of the program in the chain of prototypes. */
static bool json_has_no_to_json(JSObject *object) {
    for (; object; object = object->shape->proto) {
        if (object->is_exotic && object->class_id != JS_CLASS_ARRAY) return false;
        if (find_own_property1(object, JS_ATOM_toJSON)) return false;
    }
    return true;
}

/* Whether all that JSON.stringify shows of an ordinary object is data under names of which none is
   an index (those come first, whatever their order was). Says so of all objects of the shape. */
static bool json_is_plain(JSONWriter *writer, JSObject *object) {
    JSShape *shape = object->shape;
    if (object->class_id != JS_CLASS_OBJECT || object->is_exotic) return false;
    if (shape == writer->plain) return true;
    if (!json_has_no_to_json(object)) return false;
    JSShapeProperty *property = get_shape_prop(shape);
    for (int i = 0; i < shape->prop_count; i++, property++) {
        if (property->atom == JS_ATOM_NULL || !(property->flags & JS_PROP_ENUMERABLE)) continue;
        uint32_t index;
        if ((property->flags & JS_PROP_TMASK) != JS_PROP_NORMAL ||
            JS_AtomIsArrayIndex(writer->ctx, &index, property->atom))
            return false;
    }
    writer->plain = shape;
    return true;
}

/* What has no form: a member is left out, and an element is null. */
static bool json_is_formless(JSContext *ctx, JSValueConst value) {
    switch (JS_VALUE_GET_NORM_TAG(value)) {
    case JS_TAG_UNDEFINED:
    case JS_TAG_SYMBOL:
        return true;
    case JS_TAG_OBJECT:
        return JS_IsFunction(ctx, value) && json_has_no_to_json(JS_VALUE_GET_OBJ(value));
    default:
        return false;
    }
}

static JSONWriteResult json_write_value(JSONWriter *writer, JSValueConst value,
                                        const JSONWriterLevel *outer);

static JSONWriteResult json_write_members(JSONWriter *writer, JSObject *object,
                                          const JSONWriterLevel *level) {
    JSRuntime *runtime = writer->ctx->rt;
    StringBuffer *buffer = writer->buffer;
    if (!json_is_plain(writer, object)) return JSON_DECLINED;
    JSShape *shape = object->shape;
    bool first = true;
    json_append_one(buffer, '{');
    for (int i = 0; i < shape->prop_count; i++) {
        const JSShapeProperty *property = &get_shape_prop(shape)[i];
        if (property->atom == JS_ATOM_NULL || !(property->flags & JS_PROP_ENUMERABLE)) continue;
        JSString *name = runtime->atom_array[property->atom];
        if (name->atom_type != JS_ATOM_TYPE_STRING) continue;
        JSValueConst value = object->prop[i].u.value;
        if (json_is_formless(writer->ctx, value)) continue;
        if (!first) json_append_one(buffer, ',');
        first = false;
        if (!json_quote(buffer, name) || !json_append_one(buffer, ':')) return JSON_FAILED;
        JSONWriteResult result = json_write_value(writer, value, level);
        if (result != JSON_WRITTEN) return result;
    }
    return json_append_one(buffer, '}') ? JSON_WRITTEN : JSON_FAILED;
}

static JSONWriteResult json_write_elements(JSONWriter *writer, JSObject *array,
                                           const JSONWriterLevel *level) {
    StringBuffer *buffer = writer->buffer;
    uint32_t count = array->u.array.count;
    JSValue length = array->prop[0].u.value;
    if (!array->fast_array || JS_VALUE_GET_TAG(length) != JS_TAG_INT ||
        (uint32_t)JS_VALUE_GET_INT(length) != count || !json_has_no_to_json(array))
        return JSON_DECLINED;
    json_append_one(buffer, '[');
    for (uint32_t i = 0; i < count; i++) {
        if (i > 0) json_append_one(buffer, ',');
        JSValueConst value = array->u.array.u.values[i];
        if (json_is_formless(writer->ctx, value)) value = JS_NULL;
        JSONWriteResult result = json_write_value(writer, value, level);
        if (result != JSON_WRITTEN) return result;
    }
    return json_append_one(buffer, ']') ? JSON_WRITTEN : JSON_FAILED;
}

static JSONWriteResult json_write_object(JSONWriter *writer, JSObject *object,
                                         const JSONWriterLevel *outer) {
    JSONWriterLevel level = {.outer = outer, .object = object};
    for (; outer; outer = outer->outer)
        if (outer->object == object) return JSON_DECLINED;
    if (writer->depth >= JSON_DEPTH_MAX || js_check_stack_overflow(writer->ctx->rt, 0))
        return JSON_DECLINED;
    writer->depth++;
    JSONWriteResult result = object->class_id == JS_CLASS_ARRAY
                                 ? json_write_elements(writer, object, &level)
                                 : json_write_members(writer, object, &level);
    writer->depth--;
    return result;
}

static JSONWriteResult json_write_value(JSONWriter *writer, JSValueConst value,
                                        const JSONWriterLevel *outer) {
    StringBuffer *buffer = writer->buffer;
    bool written;
    switch (JS_VALUE_GET_NORM_TAG(value)) {
    case JS_TAG_STRING:
        written = json_quote(buffer, JS_VALUE_GET_STRING(value));
        break;
    case JS_TAG_STRING_ROPE: {
        JSValue flat = js_linearize_string_rope(writer->ctx, value);
        if (JS_IsException(flat)) return JSON_FAILED;
        written = json_quote(buffer, JS_VALUE_GET_STRING(flat));
        JS_FreeValue(writer->ctx, flat);
        break;
    }
    case JS_TAG_INT: {
        char text[DECIMAL_LENGTH_MAX];
        size_t length = i32toa(text, JS_VALUE_GET_INT(value));
        written = json_append(buffer, text, length);
        break;
    }
    case JS_TAG_FLOAT64:
        written = json_write_float(buffer, JS_VALUE_GET_FLOAT64(value));
        break;
    case JS_TAG_BOOL:
        written = JS_VALUE_GET_BOOL(value) ? json_append(buffer, "true", 4)
                                           : json_append(buffer, "false", 5);
        break;
    case JS_TAG_NULL:
        written = json_append(buffer, "null", 4);
        break;
    case JS_TAG_OBJECT:
        return json_write_object(writer, JS_VALUE_GET_OBJ(value), outer);
    default:
        return JSON_DECLINED;
    }
    return written ? JSON_WRITTEN : JSON_FAILED;
}

/* False when upstream's way must be gone. */
static bool json_write(JSContext *ctx, JSValueConst value, JSValue *result) {
    StringBuffer buffer;
    JSONWriter writer = {.ctx = ctx, .buffer = &buffer};
    if (json_is_formless(ctx, value)) {
        *result = JS_UNDEFINED;
        return true;
    }
    string_buffer_init(ctx, &buffer, 128);
    JSONWriteResult written = json_write_value(&writer, value, NULL);
    /* A buffer that could not grow says so at its end. */
    if (written == JSON_WRITTEN || buffer.error_status) {
        *result = string_buffer_end(&buffer);
        return true;
    }
    string_buffer_free(&buffer);
    *result = JS_EXCEPTION;
    return written == JSON_FAILED;
}
