/* What the engine's allocator takes its regions and large blocks from: the C library's, which
   grows the memory until the host refuses. A refusal becomes an exception that says so; a refusal
   of a small piece also ends the turn with RESULT_OUT_OF_MEMORY, because by then anything may
   have been left undone. */

#include <malloc.h>
#include <stdlib.h>

#include "engine.h"

#define RESERVE (64 * 1024)
/* Programs ask for more than this at once; the engine itself hardly does. */
#define SMALL (64 * 1024)

static void *checked(void *pointer, size_t size) {
    if (pointer || size > SMALL) return pointer;
    engine.exhausted = true;
    free(engine.reserve);
    engine.reserve = NULL;
    return NULL;
}

static void *engine_malloc(void *opaque, size_t size) {
    (void)opaque;
    return checked(malloc(size), size);
}

static void *engine_calloc(void *opaque, size_t count, size_t size) {
    (void)opaque;
    return checked(calloc(count, size), count * size);
}

static void engine_free(void *opaque, void *pointer) {
    (void)opaque;
    free(pointer);
}

static void *engine_realloc(void *opaque, void *pointer, size_t size) {
    (void)opaque;
    return checked(realloc(pointer, size), size);
}

static size_t engine_usable_size(const void *pointer) {
    return malloc_usable_size((void *)(uintptr_t)pointer);
}

const JSMallocFunctions memory_functions = {
    .js_calloc = engine_calloc,
    .js_malloc = engine_malloc,
    .js_free = engine_free,
    .js_realloc = engine_realloc,
    .js_malloc_usable_size = engine_usable_size,
};

void memory_refill_reserve(void) {
    if (!engine.reserve) engine.reserve = malloc(RESERVE);
}

void memory_foresee(void) {
    static const size_t sizes[] = {12 << 10, 24 << 10, 48 << 10, 96 << 10, 192 << 10};
    for (size_t at = 0; at < sizeof(sizes) / sizeof(sizes[0]); at++) {
        void *volatile block = malloc(sizes[at]);
        free(block);
    }
}
