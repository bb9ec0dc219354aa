/* The object `__host`: the host's operations, the context of a task, promises looked into. The
   web layer takes it out of the global scope before any program runs. */

#include <string.h>

#include "engine.h"

#define IMPORT(name) __attribute__((import_module("squall"), import_name(name)))

IMPORT("call")
int32_t import_call(int32_t op, const uint8_t *arguments, size_t length, uint8_t *out,
                    size_t out_capacity);
IMPORT("take") void import_take(uint8_t *out);
IMPORT("start") int32_t import_start(int32_t op, const uint8_t *arguments, size_t length);
IMPORT("cancel") void import_cancel(int32_t operation);

static JSValue refused(JSContext *ctx, JSValue value) {
    JSValue error;
    if (JS_IsFunction(ctx, engine.on_refusal)) {
        error = JS_Call(ctx, engine.on_refusal, JS_UNDEFINED, 1, (JSValueConst *)&value);
    } else {
        JSValue text = JS_ToString(ctx, value);
        const char *characters = JS_ToCString(ctx, text);
        error = JS_NewPlainError(ctx, "%s", characters ? characters : "refused");
        JS_FreeCString(ctx, characters);
        JS_FreeValue(ctx, text);
    }
    JS_FreeValue(ctx, value);
    if (JS_IsException(error)) return error;
    return JS_Throw(ctx, error);
}

/* Arguments are written behind those of a call that is still being written: a getter in an
   argument may make a call itself. */
JSValue host_call(JSContext *ctx, int op, int count, JSValueConst *values) {
    struct bytes *output = &engine.output, *reply = &engine.reply;
    size_t start = output->length;
    if (!encode_array(ctx, output, count, values)) {
        output->length = start;
        return JS_EXCEPTION;
    }
    int32_t result = import_call(op, output->data + start, output->length - start, reply->data,
                                 reply->capacity);
    output->length = start;
    bool refusal = result < 0;
    size_t length = refusal ? -(size_t)result : (size_t)result;
    if (length > reply->capacity) {
        reply->length = 0;
        if (!bytes_reserve(reply, length)) return JS_ThrowOutOfMemory(ctx);
        import_take(reply->data);
    }
    const uint8_t *at = reply->data;
    JSValue value = length ? decode_next(ctx, &at, at + length) : JS_UNDEFINED;
    return refusal && !JS_IsException(value) ? refused(ctx, value) : value;
}

static JSValue host_js_call(JSContext *ctx, JSValueConst self, int argc, JSValueConst *argv) {
    int32_t op;
    if (JS_ToInt32(ctx, &op, argc > 0 ? argv[0] : JS_UNDEFINED)) return JS_EXCEPTION;
    return host_call(ctx, op, argc > 0 ? argc - 1 : 0, argv + 1);
}

static JSValue host_js_start(JSContext *ctx, JSValueConst self, int argc, JSValueConst *argv) {
    struct bytes *output = &engine.output;
    int32_t op;
    if (JS_ToInt32(ctx, &op, argc > 0 ? argv[0] : JS_UNDEFINED)) return JS_EXCEPTION;
    size_t start = output->length;
    int32_t operation = 0;
    bool written = encode_array(ctx, output, argc > 0 ? argc - 1 : 0, argv + 1);
    if (written) operation = import_start(op, output->data + start, output->length - start);
    output->length = start;
    return written ? JS_NewInt32(ctx, operation) : JS_EXCEPTION;
}

static JSValue host_js_cancel(JSContext *ctx, JSValueConst self, int argc, JSValueConst *argv) {
    int32_t operation;
    if (JS_ToInt32(ctx, &operation, argv[0])) return JS_EXCEPTION;
    import_cancel(operation);
    return JS_UNDEFINED;
}

static JSValue host_get_context(JSContext *ctx, JSValueConst self, int argc, JSValueConst *argv) {
    return JS_DupValue(ctx, inside_async_context(ctx));
}

static JSValue host_set_context(JSContext *ctx, JSValueConst self, int argc, JSValueConst *argv) {
    inside_set_async_context(ctx, argv[0]);
    return JS_UNDEFINED;
}

static JSValue host_transfer(JSContext *ctx, JSValueConst self, int argc, JSValueConst *argv) {
    return JS_Call(ctx, engine.transfer, argv[0], 0, NULL);
}

static JSValue host_promise_state(JSContext *ctx, JSValueConst self, int argc,
                                  JSValueConst *argv) {
    if (!JS_IsPromise(argv[0])) return JS_ThrowTypeError(ctx, "not a promise");
    switch (JS_PromiseState(ctx, argv[0])) {
    case JS_PROMISE_FULFILLED:
        return JS_NewInt32(ctx, 1);
    case JS_PROMISE_REJECTED:
        return JS_NewInt32(ctx, 2);
    default:
        return JS_NewInt32(ctx, 0);
    }
}

static JSValue host_promise_result(JSContext *ctx, JSValueConst self, int argc,
                                   JSValueConst *argv) {
    if (!JS_IsPromise(argv[0])) return JS_ThrowTypeError(ctx, "not a promise");
    return JS_PromiseResult(ctx, argv[0]);
}

static const JSCFunctionListEntry host_functions[] = {
    JS_CFUNC_DEF("call", 1, host_js_call),
    JS_CFUNC_DEF("start", 1, host_js_start),
    JS_CFUNC_DEF("cancel", 1, host_js_cancel),
    JS_CFUNC_DEF("getContext", 0, host_get_context),
    JS_CFUNC_DEF("setContext", 1, host_set_context),
    JS_CFUNC_DEF("transfer", 1, host_transfer),
    JS_CFUNC_DEF("promiseState", 1, host_promise_state),
    JS_CFUNC_DEF("promiseResult", 1, host_promise_result),
    JS_CFUNC_DEF("registerModule", 2, modules_register),
};

JSValue host_object(JSContext *ctx) {
    JSValue host = JS_NewObject(ctx);
    if (JS_IsException(host)) return host;
    int count = sizeof(host_functions) / sizeof(host_functions[0]);
    if (JS_SetPropertyFunctionList(ctx, host, host_functions, count) < 0 ||
        JS_SetPropertyFunctionList(ctx, host, text_functions, text_function_count) < 0) {
        JS_FreeValue(ctx, host);
        return JS_EXCEPTION;
    }
    return host;
}

void host_take_hooks(JSContext *ctx, JSValueConst host) {
    engine.on_event = JS_GetPropertyStr(ctx, host, "onEvent");
    engine.on_complete = JS_GetPropertyStr(ctx, host, "onComplete");
    engine.on_rejection = JS_GetPropertyStr(ctx, host, "onRejection");
    engine.on_refusal = JS_GetPropertyStr(ctx, host, "onRefusal");
}
