/* What the host calls. A turn is one event or one completion with all the microtasks after it;
   between turns no C function is on the stack. */

#include <stdlib.h>
#include <string.h>

#include "engine.h"

#define EXPORT(name) __attribute__((export_name(name), used))

/* The linker is told to place a stack of 1 MiB at the bottom of the memory. Programs get most of
   it; what is left serves the C functions that do not ask how much there is. */
#define STACK_FOR_PROGRAMS (1024 * 1024 - 96 * 1024)
/* Garbage in cycles is looked for when this much has been allocated since the snapshot. Few requests
   allocate so much: an instance that serves no other needs no collection. */
#define COLLECT_AFTER (8 * 1024 * 1024)
#define SHAPES_KEPT 1000

extern uint8_t __stack_low, __stack_high;

_Alignas(4096) struct engine engine = {
    .input = {.data = engine.input_first, .capacity = INPUT_FIRST,
              .first = engine.input_first, .first_capacity = INPUT_FIRST},
    .output = {.data = engine.output_first, .capacity = OUTPUT_FIRST,
               .first = engine.output_first, .first_capacity = OUTPUT_FIRST},
    .reply = {.data = engine.reply_first, .capacity = REPLY_FIRST,
              .first = engine.reply_first, .first_capacity = REPLY_FIRST},
    .on_event = JS_UNDEFINED, .on_complete = JS_UNDEFINED,
    .on_rejection = JS_UNDEFINED, .on_refusal = JS_UNDEFINED,
    .base_context = JS_UNDEFINED, .modules = JS_UNDEFINED,
    .transfer = JS_UNDEFINED, .evaluation = JS_UNDEFINED,
};

/* A property of an exception as a string; empty when it has none or does not want to say. */
static JSValue describe(JSContext *ctx, JSValueConst error, const char *property) {
    JSValue value = JS_GetPropertyStr(ctx, error, property);
    JSValue text = JS_IsUndefined(value) || JS_IsException(value) ? JS_EXCEPTION
                                                                  : JS_ToString(ctx, value);
    JS_FreeValue(ctx, value);
    if (!JS_IsException(text)) return text;
    JS_FreeValue(ctx, JS_GetException(ctx));
    return JS_NewString(ctx, "");
}

/* Leaves [name, message, stack] for the host to read. */
static void report(JSContext *ctx, JSValueConst name, JSValueConst message, JSValueConst stack) {
    JSValueConst values[3] = {name, message, stack};
    engine.output.length = 0;
    if (!encode_array(ctx, &engine.output, 3, values)) {
        JS_FreeValue(ctx, JS_GetException(ctx));
        engine.output.length = 0;
    }
    engine.failure.data = (uint32_t)(uintptr_t)engine.output.data;
    engine.failure.length = engine.output.length;
    engine.output.length = 0;
}

static int report_text(JSContext *ctx, int result, const char *name, const char *message) {
    JSValue values[2] = {JS_NewString(ctx, name), JS_NewString(ctx, message)};
    JSValue none = JS_NewString(ctx, "");
    report(ctx, values[0], values[1], none);
    JS_FreeValue(ctx, values[0]);
    JS_FreeValue(ctx, values[1]);
    JS_FreeValue(ctx, none);
    return result;
}

static bool says(JSContext *ctx, JSValueConst string, const char *expected) {
    const char *text = JS_ToCString(ctx, string);
    bool same = text && strcmp(text, expected) == 0;
    JS_FreeCString(ctx, text);
    return same;
}

/* Takes the current exception and tells the host of it. */
static int fail(JSContext *ctx) {
    JSValue error = JS_GetException(ctx);
    if (JS_IsUncatchableError(error)) {
        JS_FreeValue(ctx, error);
        return report_text(ctx, RESULT_INTERRUPTED, "InternalError", "interrupted");
    }
    /* Without room for an error object the engine throws null. */
    if (JS_IsNull(error) && engine.exhausted)
        return report_text(ctx, RESULT_OUT_OF_MEMORY, "InternalError", "out of memory");
    bool object = JS_IsObject(error);
    JSValue name = object ? describe(ctx, error, "name") : JS_NewString(ctx, "");
    JSValue message = object ? describe(ctx, error, "message") : JS_ToString(ctx, error);
    if (JS_IsException(message)) { /* a symbol */
        JS_FreeValue(ctx, JS_GetException(ctx));
        message = JS_NewString(ctx, "a symbol was thrown");
    }
    JSValue stack = object ? describe(ctx, error, "stack") : JS_NewString(ctx, "");
    bool memory = says(ctx, name, "InternalError") && says(ctx, message, "out of memory");
    report(ctx, name, message, stack);
    JS_FreeValue(ctx, name);
    JS_FreeValue(ctx, message);
    JS_FreeValue(ctx, stack);
    JS_FreeValue(ctx, error);
    return memory ? RESULT_OUT_OF_MEMORY : RESULT_EXCEPTION;
}

/* Runs the microtasks. The first failure is the one that is told. */
static int drain(JSContext *ctx, int result) {
    while (result != RESULT_INTERRUPTED) {
        JSContext *of;
        int ran = JS_ExecutePendingJob(engine.runtime, &of);
        if (ran == 0) break;
        if (ran > 0) continue;
        if (result == RESULT_DONE) {
            result = fail(ctx);
        } else {
            JSValue error = JS_GetException(ctx);
            if (JS_IsUncatchableError(error)) result = RESULT_INTERRUPTED;
            JS_FreeValue(ctx, error);
        }
    }
    return result;
}

static JSContext *begin_turn(void) {
    JSContext *ctx = engine.context;
    engine.exhausted = false;
    engine.output.length = 0;
    inside_set_async_context(ctx, engine.base_context);
    return ctx;
}

static int end_turn(JSContext *ctx, int result) {
    if (engine.exhausted) {
        memory_refill_reserve();
        if (result == RESULT_DONE || result == RESULT_PENDING)
            report_text(ctx, RESULT_OUT_OF_MEMORY, "InternalError", "out of memory");
        if (result != RESULT_INTERRUPTED) result = RESULT_OUT_OF_MEMORY;
    }
    return result;
}

/* Calls a hook, frees its arguments and runs what it has set off. */
static int call_hook(JSContext *ctx, JSValueConst hook, int argc, JSValue *argv) {
    int result = RESULT_DONE;
    bool complete = true;
    for (int i = 0; i < argc; i++) complete = complete && !JS_IsException(argv[i]);
    JSValue answer = complete ? JS_Call(ctx, hook, JS_UNDEFINED, argc, (JSValueConst *)argv)
                              : JS_EXCEPTION;
    if (JS_IsException(answer)) result = fail(ctx);
    JS_FreeValue(ctx, answer);
    for (int i = 0; i < argc; i++) JS_FreeValue(ctx, argv[i]);
    return drain(ctx, result);
}

static void on_rejection(JSContext *ctx, JSValueConst promise, JSValueConst reason, bool handled,
                         void *opaque) {
    (void)opaque;
    if (!JS_IsFunction(ctx, engine.on_rejection)) return;
    JSValueConst values[3] = {promise, reason, JS_NewBool(ctx, handled)};
    JSValue answer = JS_Call(ctx, engine.on_rejection, JS_UNDEFINED, 3, values);
    /* An interruption is not lost: the flag is still set when the engine looks again. */
    if (JS_IsException(answer)) JS_FreeValue(ctx, JS_GetException(ctx));
    JS_FreeValue(ctx, answer);
}

static int interrupted(JSRuntime *runtime, void *opaque) {
    (void)runtime, (void)opaque;
    return *(volatile uint8_t *)&engine.interrupt;
}

/* The language without what compares badly (atob of the engine's own, a clock) or reaches out. */
static JSContext *new_context(JSRuntime *runtime) {
    JSContext *ctx = JS_NewContextRaw(runtime);
    if (!ctx) return NULL;
    bool failed = JS_AddIntrinsicBaseObjects(ctx) || JS_AddIntrinsicDate(ctx) ||
                  JS_AddIntrinsicEval(ctx) || JS_AddIntrinsicRegExp(ctx) ||
                  JS_AddIntrinsicJSON(ctx) || JS_AddIntrinsicProxy(ctx) ||
                  JS_AddIntrinsicMapSet(ctx) || JS_AddIntrinsicTypedArrays(ctx) ||
                  JS_AddIntrinsicPromise(ctx) || JS_AddIntrinsicWeakRef(ctx);
    return failed ? NULL : ctx;
}

static JSValue array_buffer_transfer(JSContext *ctx) {
    JSValue proto = JS_GetClassProto(ctx, JS_GetClassID(JS_NewArrayBufferCopy(ctx, NULL, 0)));
    JSValue transfer = JS_GetPropertyStr(ctx, proto, "transfer");
    JS_FreeValue(ctx, proto);
    return transfer;
}

EXPORT("squall_buffer") uint8_t *squall_buffer(size_t length) {
    struct bytes *input = &engine.input;
    input->length = 0;
    /* One more, for the zero that the parser wants after a source. */
    if (!bytes_reserve(input, length + 1)) return NULL;
    return input->data;
}

EXPORT("squall_out") void *squall_out(void) {
    return &engine.failure;
}

EXPORT("squall_interrupt_flag") uint8_t *squall_interrupt_flag(void) {
    return &engine.interrupt;
}

/* A runtime that knows the language and nothing else. */
static JSContext *start(void) {
    JSRuntime *runtime = engine.runtime = JS_NewRuntime2(&memory_functions, NULL);
    if (!runtime) return NULL;
    JS_SetMaxStackSize(runtime, STACK_FOR_PROGRAMS);
    JS_SetGCThreshold(runtime, SIZE_MAX);
    JS_SetInterruptHandler(runtime, interrupted, NULL);
    JS_SetHostPromiseRejectionTracker(runtime, on_rejection, NULL);
    modules_install(runtime);
    JSContext *ctx = new_context(runtime);
    if (!ctx) return NULL;
    memory_refill_reserve();
    engine.modules = JS_NewObjectProto(ctx, JS_NULL);
    engine.transfer = array_buffer_transfer(ctx);
    return engine.context = ctx;
}

/* [name, source, isModule] in the input becomes bytecode, whose place and length the host then reads
   as it reads a failure. A parser leaves much garbage behind, so what is compiled here is run in
   another instance, whose memory becomes the snapshot. */
EXPORT("squall_compile") int squall_compile(size_t length) {
    JSContext *ctx = engine.context ? begin_turn() : start();
    if (!ctx) return RESULT_OUT_OF_MEMORY;
    const uint8_t *at = engine.input.data, *end = at + length;
    const char *name, *source;
    size_t name_length, source_length;
    uint32_t count;
    if (!decode_array_header(&at, end, &count) || count != 3 ||
        !decode_raw_string(&at, end, &name, &name_length) ||
        !decode_raw_string(&at, end, &source, &source_length) || at == end)
        return report_text(ctx, RESULT_EXCEPTION, "TypeError", "[name, source, isModule] expected");
    JSValue is_module = decode_next(ctx, &at, end);
    bool module = JS_ToBool(ctx, is_module);
    char *name_text = js_strndup(ctx, name, name_length);
    char *source_text = js_strndup(ctx, source, source_length);
    if (!name_text || !source_text) return fail(ctx);
    JSValue compiled = JS_Eval(ctx, source_text, source_length, name_text,
                               (module ? JS_EVAL_TYPE_MODULE : JS_EVAL_TYPE_GLOBAL) |
                                   JS_EVAL_FLAG_COMPILE_ONLY);
    if (JS_IsException(compiled)) return end_turn(ctx, fail(ctx));
    /* Programs may look at their functions' text; what is under them are native functions. */
    int flags = JS_WRITE_OBJ_BYTECODE | (module ? 0 : JS_WRITE_OBJ_STRIP_SOURCE);
    size_t size;
    uint8_t *bytecode = JS_WriteObject(ctx, &size, compiled, flags);
    if (!bytecode) return end_turn(ctx, fail(ctx));
    engine.failure.data = (uint32_t)(uintptr_t)bytecode;
    engine.failure.length = size;
    return end_turn(ctx, RESULT_DONE);
}

/* Runs the web layer, whose bytecode is in the input. */
EXPORT("squall_boot") int squall_boot(size_t length) {
    JSContext *ctx = start();
    if (!ctx) return RESULT_OUT_OF_MEMORY;
    JSValue global = JS_GetGlobalObject(ctx), host = host_object(ctx);
    int result = RESULT_DONE;
    if (!chance_install(ctx) ||
        JS_SetPropertyStr(ctx, global, "__host", JS_DupValue(ctx, host)) < 0)
        result = fail(ctx);
    JS_FreeValue(ctx, global);
    if (result == RESULT_DONE) {
        JSValue layer = JS_ReadObject(ctx, engine.input.data, length, JS_READ_OBJ_BYTECODE);
        JSValue value = JS_IsException(layer) ? layer : JS_EvalFunction(ctx, layer);
        result = drain(ctx, JS_IsException(value) ? fail(ctx) : RESULT_DONE);
        JS_FreeValue(ctx, value);
    }
    host_take_hooks(ctx, host);
    JS_FreeValue(ctx, host);
    engine.base_context = JS_DupValue(ctx, inside_async_context(ctx));
    return end_turn(ctx, result);
}

/* Begins the evaluation of the module whose bytecode is in the input. */
static int evaluate(JSContext *ctx, size_t length) {
    JSValue module = JS_ReadObject(ctx, engine.input.data, length, JS_READ_OBJ_BYTECODE);
    if (JS_IsException(module)) return fail(ctx);
    if (JS_ResolveModule(ctx, module) < 0) {
        JS_FreeValue(ctx, module);
        return fail(ctx);
    }
    engine.module = JS_VALUE_GET_PTR(module);
    engine.evaluation = JS_EvalFunction(ctx, module);
    if (JS_IsException(engine.evaluation)) {
        engine.evaluation = JS_UNDEFINED;
        return fail(ctx);
    }
    /* The result of the load tells of its failure; nobody else has to. */
    if (JS_IsPromise(engine.evaluation)) JS_PromiseMarkAsHandled(ctx, engine.evaluation);
    return RESULT_DONE;
}

/* What has become of the evaluation; once it is done, the program is told to the web layer. */
static int settle(JSContext *ctx) {
    int result = drain(ctx, RESULT_DONE);
    if (result != RESULT_DONE) return result;
    switch (JS_PromiseState(ctx, engine.evaluation)) {
    case JS_PROMISE_PENDING:
        return report_text(ctx, RESULT_PENDING, "Error", "top-level await does not settle");
    case JS_PROMISE_REJECTED:
        JS_Throw(ctx, JS_PromiseResult(ctx, engine.evaluation));
        return fail(ctx);
    default: {
        JSValue values[2] = {JS_NewString(ctx, "load"),
                             JS_GetModuleNamespace(ctx, engine.module)};
        return call_hook(ctx, engine.on_event, 2, values);
    }
    }
}

EXPORT("squall_load") int squall_load(size_t length) {
    JSContext *ctx = begin_turn();
    engine.loading = true;
    int result = length == 0 ? RESULT_DONE : evaluate(ctx, length);
    if (result == RESULT_DONE) result = settle(ctx);
    if (result != RESULT_PENDING) {
        engine.loading = false;
        JS_FreeValue(ctx, engine.evaluation);
        engine.evaluation = JS_UNDEFINED;
    }
    return end_turn(ctx, result);
}

/* More than any event has. */
#define EVENT_VALUES 16

EXPORT("squall_event") int squall_event(size_t length) {
    JSContext *ctx = begin_turn();
    const uint8_t *at = engine.input.data, *end = at + length;
    uint32_t count;
    if (!decode_array_header(&at, end, &count) || count > EVENT_VALUES)
        return report_text(ctx, RESULT_EXCEPTION, "TypeError", "[kind, ...] expected");
    JSValue values[EVENT_VALUES];
    for (uint32_t i = 0; i < count; i++) values[i] = decode_next(ctx, &at, end);
    return end_turn(ctx, call_hook(ctx, engine.on_event, count, values));
}

EXPORT("squall_complete") int squall_complete(int32_t operation, int32_t failed, size_t length) {
    JSContext *ctx = begin_turn();
    const uint8_t *at = engine.input.data;
    JSValue values[3] = {JS_NewInt32(ctx, operation), JS_NewBool(ctx, failed != 0),
                         decode_next(ctx, &at, at + length)};
    return end_turn(ctx, call_hook(ctx, engine.on_complete, 3, values));
}

/* Leaves the memory as a snapshot wants it: no garbage, nothing of this run in buffers or under
   the stack, and a place for what requests will allocate. */
EXPORT("squall_prepare") int squall_prepare(void) {
    JSContext *ctx = begin_turn();
    engine.seeded = engine.warned_of_clock = engine.warned_of_random = false;
    memset(engine.random, 0, sizeof(engine.random));
    engine.failure.data = engine.failure.length = 0;
    bytes_reset(&engine.input);
    bytes_reset(&engine.output);
    bytes_reset(&engine.reply);
    inside_seal(ctx);
    inside_collect_after(ctx, COLLECT_AFTER);
    memory_foresee();
    uint8_t *here = __builtin_frame_address(0);
    memset(&__stack_low, 0, here - 256 - &__stack_low);
    return RESULT_DONE;
}

/* For an instance that serves many requests: it should stay small, and its objects look alike from
   one to the next. */
EXPORT("squall_serve_many") void squall_serve_many(size_t collect_after) {
    inside_collect_after(engine.context, collect_after);
    inside_keep_shapes(engine.context, SHAPES_KEPT);
}
