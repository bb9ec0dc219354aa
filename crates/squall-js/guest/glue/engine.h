/* The guest side of Squall's JavaScript engine: QuickJS-ng with one object, `__host`, that stands
   for everything outside. What is shared between the files of this folder. */
#ifndef SQUALL_ENGINE_H
#define SQUALL_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "quickjs.h"

/* Operations that the engine itself needs; the rest of the table is the web layer's (ops.ts). */
enum { OP_WALL_CLOCK = 1, OP_RANDOM_BYTES = 3, OP_LOG = 18 };

/* What the exports return. */
enum {
    RESULT_DONE = 0,
    RESULT_EXCEPTION = 1,
    RESULT_INTERRUPTED = 2,
    RESULT_PENDING = 3,
    RESULT_OUT_OF_MEMORY = 4,
};

/* Bytes that grow. `first` serves until they do not fit: it lies beside everything else that a
   request writes to, so that a small request touches no page for its messages alone. */
struct bytes {
    uint8_t *data;
    size_t length;
    size_t capacity;
    uint8_t *first;
    size_t first_capacity;
};

#define INPUT_FIRST 2048
#define OUTPUT_FIRST 1024
#define REPLY_FIRST 1024

/* All of the glue's own state that changes, on pages of its own. */
struct engine {
    JSRuntime *runtime;
    JSContext *context;

    struct { uint32_t data, length; } failure;
    uint8_t interrupt;
    /* A small allocation has failed since the turn began. */
    bool exhausted;
    bool loading;
    bool warned_of_clock;
    bool warned_of_random;
    bool seeded;

    /* What the web layer has put into `__host` by the end of boot. */
    JSValue on_event, on_complete, on_rejection, on_refusal;
    /* The context of everything that no request has started. */
    JSValue base_context;
    /* Built-in modules: name to exports. */
    JSValue modules;
    /* ArrayBuffer.prototype.transfer as it was before any program ran. */
    JSValue transfer;
    /* The module being loaded and the promise of its evaluation. */
    JSModuleDef *module;
    JSValue evaluation;

    uint64_t random[4];
    /* Given up when memory runs out, so that there is room to say so. */
    void *reserve;

    struct bytes input, output, reply;
    uint8_t input_first[INPUT_FIRST];
    uint8_t output_first[OUTPUT_FIRST];
    uint8_t reply_first[REPLY_FIRST];
};

extern struct engine engine;

/* values.c */
bool bytes_reserve(struct bytes *bytes, size_t more);
void bytes_reset(struct bytes *bytes);
bool encode_array(JSContext *ctx, struct bytes *to, int count, JSValueConst *values);
JSValue decode_next(JSContext *ctx, const uint8_t **data, const uint8_t *end);
/* A string that C code reads in place: false when the bytes at `*data` are something else. */
bool decode_raw_string(const uint8_t **data, const uint8_t *end, const char **text,
                       size_t *length);
bool decode_array_header(const uint8_t **data, const uint8_t *end, uint32_t *count);

/* host.c */
JSValue host_call(JSContext *ctx, int op, int count, JSValueConst *values);
JSValue host_object(JSContext *ctx);
void host_take_hooks(JSContext *ctx, JSValueConst host);

/* text.c */
extern const JSCFunctionListEntry text_functions[];
extern const int text_function_count;

/* modules.c */
JSValue modules_register(JSContext *ctx, JSValueConst self, int argc, JSValueConst *argv);
void modules_install(JSRuntime *runtime);

/* chance.c: the clock and the random numbers */
bool chance_install(JSContext *ctx);
double wall_clock_ms(void);

/* memory.c */
extern const JSMallocFunctions memory_functions;
void memory_refill_reserve(void);
/* Takes what requests are likely to need of large blocks, and leaves it to the C library. A memory
   can not shrink: without this each program that an instance becomes would grow it further, and
   write to pages that no program before has touched. */
void memory_foresee(void);

/* inside.c: what needs the engine's inside */
struct text {
    const void *data; /* bytes of Latin-1, or UTF-16 when wide */
    uint32_t length;
    bool wide;
};
/* The flat form of a string, to be freed by the caller, and where its characters are. */
JSValue inside_text(JSContext *ctx, JSValueConst string, struct text *text);
JSValue inside_latin1_string(JSContext *ctx, const uint8_t *data, size_t length);
/* An array of `count` slots that hold undefined. */
JSValue inside_new_array(JSContext *ctx, uint32_t count, JSValue **slots);
/* The elements of an ordinary array without holes. */
bool inside_array_elements(JSContext *ctx, JSValueConst array, JSValueConst **elements,
                           uint32_t *count);
JSValueConst inside_async_context(JSContext *ctx);
void inside_set_async_context(JSContext *ctx, JSValueConst value);
/* The bytes of a Uint8Array or an ArrayBuffer; throws for anything else. */
bool inside_bytes(JSContext *ctx, JSValueConst value, const uint8_t **data, size_t *length);
/* A Uint8Array over memory of js_malloc, which it takes over. */
JSValue inside_take_bytes(JSContext *ctx, uint8_t *data, size_t length);
/* Collects garbage and makes what is left part of the snapshot. */
void inside_seal(JSContext *ctx);
/* The next collection comes when so much more is allocated than now. */
void inside_collect_after(JSContext *ctx, size_t bytes);
/* So many shapes of objects are kept from now on, whether there are objects of them or not. */
void inside_keep_shapes(JSContext *ctx, uint32_t count);

#endif
