/* The functions of the allocator that blocks.h describes, by the names that QuickJS-ng calls.
   Included by quickjs.c where JSRuntime is known. */

static inline JSMallocBlockHeader *block_of(const void *pointer) {
    return (JSMallocBlockHeader *)((uint8_t *)(uintptr_t)pointer -
                                   offsetof(JSMallocBlockHeader, user_data));
}

static inline JSMallocBlockHeader **block_link(JSMallocBlockHeader *block) {
    return (JSMallocBlockHeader **)block->user_data;
}

static void js_arena_init(JSRuntime *rt) {
    ((JSMallocBlockHeader *)rt->arena_state.zero_size_block)->block_size_idx = BLOCK_IS_LARGE;
}

/* A new region; what is left of the old one is forgotten. A smaller one must do when the host
   gives no more memory. */
static no_inline bool block_region(JSRuntime *rt, size_t needed) {
    JSArenaState *state = &rt->arena_state;
    BlockRegion *region = NULL;
    size_t size = BLOCK_REGION;
    for (; !region && size >= BLOCK_REGION_SMALLEST; size /= 2)
        region = rt->mf.js_malloc(rt->malloc_state.opaque, size);
    if (!region) return false;
    if (state->newest) state->newest->last = state->next;
    region->older = state->newest;
    region->first = (uint8_t *)(((uintptr_t)(region + 1) + 7) & ~(uintptr_t)7);
    state->newest = region;
    state->next = region->first;
    state->end = (uint8_t *)region + size * 2;
    return needed <= (size_t)(state->end - state->next);
}

static no_inline void *block_large(JSRuntime *rt, size_t size, bool zeroed) {
    size_t total = sizeof(JSMallocBlockHeader) + size;
    if (total < size) return NULL;
    JSMallocBlockHeader *block = zeroed ? rt->mf.js_calloc(rt->malloc_state.opaque, 1, total)
                                        : rt->mf.js_malloc(rt->malloc_state.opaque, total);
    if (!block) return NULL;
    block->block_size_idx = BLOCK_IS_LARGE;
    return block->user_data;
}

static inline void *js_arena_malloc(JSRuntime *rt, size_t size) {
    JSArenaState *state = &rt->arena_state;
    if (unlikely(size > BLOCK_LARGEST - sizeof(JSMallocBlockHeader)))
        return block_large(rt, size, false);
    if (unlikely(size == 0))
        return ((JSMallocBlockHeader *)state->zero_size_block)->user_data;
    unsigned class = block_class(size + sizeof(JSMallocBlockHeader));
    JSMallocBlockHeader *block = state->free[class];
    if (block) {
        state->free[class] = *block_link(block);
    } else {
        size_t total = block_size(class);
        if (unlikely(total > (size_t)(state->end - state->next)) && !block_region(rt, total))
            return NULL;
        block = (JSMallocBlockHeader *)state->next;
        state->next += total;
        block->block_size_idx = class;
    }
    return block->user_data;
}

static inline void js_arena_free(JSRuntime *rt, void *pointer) {
    JSArenaState *state = &rt->arena_state;
    if (!pointer) return;
    JSMallocBlockHeader *block = block_of(pointer);
    unsigned class = block->block_size_idx;
    if (likely(class != BLOCK_IS_LARGE)) {
        *block_link(block) = state->free[class];
        state->free[class] = block;
    } else if (block != (JSMallocBlockHeader *)state->zero_size_block) {
        rt->mf.js_free(rt->malloc_state.opaque, block);
    }
}

static size_t js_arena_usable_size(JSRuntime *rt, const void *pointer) {
    if (!pointer) return 0;
    JSMallocBlockHeader *block = block_of(pointer);
    if (likely(block->block_size_idx != BLOCK_IS_LARGE))
        return block_size(block->block_size_idx) - sizeof(JSMallocBlockHeader);
    if (block == (JSMallocBlockHeader *)rt->arena_state.zero_size_block) return 0;
    return rt->mf.js_malloc_usable_size(block) - sizeof(JSMallocBlockHeader);
}

static void *js_arena_realloc(JSRuntime *rt, void *pointer, size_t size) {
    JSMallocBlockHeader *block = block_of(pointer);
    size_t usable = js_arena_usable_size(rt, pointer);
    if (block->block_size_idx == BLOCK_IS_LARGE && usable != 0) {
        size_t total = sizeof(JSMallocBlockHeader) + size;
        if (total < size) return NULL;
        block = rt->mf.js_realloc(rt->malloc_state.opaque, block, total);
        return block ? block->user_data : NULL;
    }
    if (usable != 0 && size <= usable) return pointer;
    void *moved = js_arena_malloc(rt, size);
    if (!moved || usable == 0) return moved;
    /* The engine keeps its reference count and the collector's marks in the header. */
    JSMallocBlockHeader *to = block_of(moved);
    to->gc_obj_type = block->gc_obj_type;
    to->mark = block->mark;
    to->ref_count = block->ref_count;
    memcpy(moved, pointer, usable);
    js_arena_free(rt, pointer);
    return moved;
}

static void *js_arena_calloc(JSRuntime *rt, size_t count, size_t size) {
    size_t bytes = count * size; /* the caller has checked that this fits */
    if (bytes > BLOCK_LARGEST - sizeof(JSMallocBlockHeader)) return block_large(rt, bytes, true);
    void *pointer = js_arena_malloc(rt, bytes);
    return pointer ? memset(pointer, 0, bytes) : NULL;
}

/* A runtime lives as long as its memory does. */
static void js_arena_free_all(JSRuntime *rt) { (void)rt; }

/* Freezes all blocks since the last seal, whatever they hold: the count of those that are not
   counted means nothing. Blocks that are free are cleared, so that the snapshot holds no garbage. */
static void blocks_freeze(JSArenaState *state) {
    if (state->newest) state->newest->last = state->next;
    for (BlockRegion *region = state->newest; region; region = region->older) {
        for (uint8_t *at = region->first; at < region->last;) {
            JSMallocBlockHeader *block = (JSMallocBlockHeader *)at;
            block->ref_count |= BLOCK_FROZEN;
            at += block_size(block->block_size_idx);
        }
    }
    for (unsigned class = 0; class < BLOCK_CLASSES; class++) {
        for (JSMallocBlockHeader *block = state->free[class], *next; block; block = next) {
            next = *block_link(block);
            memset(block, 0, block_size(class));
        }
    }
    memset(state->free, 0, sizeof(state->free));
    state->newest = NULL;
    state->next = state->end = NULL;
}

/* To be called after a collection. The collector need not look at frozen objects either: they
   leave its list, and what they refer to is alive because they still count it. */
static void blocks_seal(JSRuntime *rt) {
    JSArenaState *state = &rt->arena_state;
    struct list_head *at;
    list_for_each(at, &rt->gc_obj_list) {
        JSGCObjectHeader *object = list_entry(at, JSGCObjectHeader, link);
        JS_REF_COUNT(object) |= BLOCK_FROZEN;
    }
    list_del(&rt->gc_obj_list);
    init_list_head(&rt->gc_obj_list);
    blocks_freeze(state);
    if (!block_region(rt, 0)) return;
    uintptr_t start = (uintptr_t)state->next;
    state->next = (uint8_t *)((start + BLOCK_PAGE - 1) & ~(uintptr_t)(BLOCK_PAGE - 1));
    state->newest->first = state->next;
}
