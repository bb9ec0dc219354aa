/* The clock and the random numbers of the language, which both come from the host so that a
   recording of its answers plays back exactly. */

#include <stdio.h>
#include <string.h>

#include "engine.h"

/* The line of the running program, from the stack of a new Error; empty when unknown. */
static void program_position(JSContext *ctx, char *text, size_t capacity) {
    text[0] = '\0';
    JSValue error = JS_NewPlainError(ctx, "position");
    JSValue stack = JS_GetPropertyStr(ctx, error, "stack");
    const char *lines = JS_ToCString(ctx, stack);
    for (const char *line = lines; line && *line;) {
        size_t length = strcspn(line, "\n");
        if (length && !memmem(line, length, "(native)", 8)) {
            snprintf(text, capacity, " (%.*s)", (int)length, line + strspn(line, " "));
            char *end = strchr(text, '\n');
            if (end) strcpy(end, ")");
            break;
        }
        line += length + (line[length] == '\n');
    }
    JS_FreeCString(ctx, lines);
    JS_FreeValue(ctx, stack);
    JS_FreeValue(ctx, error);
}

static void warn(JSContext *ctx, const char *what) {
    char position[256], text[512];
    program_position(ctx, position, sizeof(position));
    snprintf(text, sizeof(text),
             "%s was asked for while the module loads%s: every request will see this same value",
             what, position);
    JSValue values[2] = {JS_NewString(ctx, "warn"), JS_NewString(ctx, text)};
    JSValue answer = host_call(ctx, OP_LOG, 2, (JSValueConst *)values);
    if (JS_IsException(answer)) JS_FreeValue(ctx, JS_GetException(ctx));
    JS_FreeValue(ctx, answer);
    JS_FreeValue(ctx, values[0]);
    JS_FreeValue(ctx, values[1]);
}

/* Before there is a context QuickJS-ng seeds its hashes from the clock: the snapshot must not
   depend on when it was made. */
double wall_clock_ms(void) {
    JSContext *ctx = engine.context;
    if (!ctx) return 0;
    if (engine.loading && !engine.warned_of_clock) {
        engine.warned_of_clock = true;
        warn(ctx, "The time");
    }
    double now = 0;
    JSValue answer = host_call(ctx, OP_WALL_CLOCK, 0, NULL);
    if (JS_IsException(answer) || JS_ToFloat64(ctx, &now, answer) < 0)
        JS_FreeValue(ctx, JS_GetException(ctx));
    JS_FreeValue(ctx, answer);
    return now;
}

static inline uint64_t rotate(uint64_t value, int by) {
    return value << by | value >> (64 - by);
}

/* xoshiro256++ of D. Blackman and S. Vigna, https://prng.di.unimi.it */
static uint64_t next_random(void) {
    uint64_t *s = engine.random;
    uint64_t result = rotate(s[0] + s[3], 23) + s[0];
    uint64_t shifted = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= shifted;
    s[3] = rotate(s[3], 45);
    return result;
}

static bool seed(JSContext *ctx) {
    JSValue length = JS_NewInt32(ctx, sizeof(engine.random));
    JSValue answer = host_call(ctx, OP_RANDOM_BYTES, 1, (JSValueConst *)&length);
    if (JS_IsException(answer)) return false;
    size_t given;
    uint8_t *data = JS_GetUint8Array(ctx, &given, answer);
    bool enough = data && given >= sizeof(engine.random);
    if (enough) memcpy(engine.random, data, sizeof(engine.random));
    JS_FreeValue(ctx, answer);
    if (!enough) JS_ThrowInternalError(ctx, "the host gave too few random bytes");
    engine.seeded = enough;
    return enough;
}

static JSValue math_random(JSContext *ctx, JSValueConst self, int argc, JSValueConst *argv) {
    if (engine.loading && !engine.warned_of_random) {
        engine.warned_of_random = true;
        warn(ctx, "A random number");
    }
    if (!engine.seeded && !seed(ctx)) return JS_EXCEPTION;
    return JS_NewFloat64(ctx, (double)(next_random() >> 11) * 0x1p-53);
}

bool chance_install(JSContext *ctx) {
    JSValue global = JS_GetGlobalObject(ctx);
    JSValue math = JS_GetPropertyStr(ctx, global, "Math");
    JSValue random = JS_NewCFunction(ctx, math_random, "random", 0);
    int set = JS_DefinePropertyValueStr(ctx, math, "random", random,
                                        JS_PROP_WRITABLE | JS_PROP_CONFIGURABLE);
    JS_FreeValue(ctx, math);
    JS_FreeValue(ctx, global);
    return set >= 0;
}
