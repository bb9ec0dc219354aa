/* What the engine's allocator takes its regions and large blocks from: the C library's, which
   grows the memory until the host refuses. A refusal becomes an exception that says so; a refusal
   of a small piece also ends the turn with RESULT_OUT_OF_MEMORY, because by then anything may
   have been left undone. */

#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <unistd.h>

#include "engine.h"

/* Whether the program may use so many more bytes of a memory that is large enough already. */
__attribute__((import_module("squall"), import_name("extend")))
int32_t import_extend(size_t bytes);

#define WASM_PAGE (64 * 1024)
#define RESERVE (64 * 1024)
/* Programs ask for more than this at once; the engine itself hardly does. */
#define SMALL (64 * 1024)

/* In place of the C library's, which takes the end of the memory for that of the heap. But a memory
   can not shrink: when an instance is made new, it stays as large as the program before has grown
   it, and every program would grow it further. Called with whole pages. */
void *sbrk(intptr_t more) {
    uintptr_t size = __builtin_wasm_memory_size(0) * WASM_PAGE;
    if (!engine.heap_end) engine.heap_end = size;
    uintptr_t end = engine.heap_end, present = size - end;
    if (more < 0 || more % WASM_PAGE != 0) abort();
    if (present > (uintptr_t)more) present = more;
    size_t missing = more - present;
    if ((present && !import_extend(present)) ||
        (missing && __builtin_wasm_memory_grow(0, missing / WASM_PAGE) == SIZE_MAX)) {
        errno = ENOMEM;
        return (void *)-1;
    }
    engine.heap_end = end + more;
    return (void *)end;
}

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
