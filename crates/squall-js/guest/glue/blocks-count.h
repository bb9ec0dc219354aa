/* Counting references without writing to the snapshot. What existed when the snapshot was made
   has a count that no longer changes: it lives as long as the instance, and a request that only
   uses it leaves its page alone. Included by quickjs.c in place of plain increments. */

static inline void js_ref(const void *pointer) {
    JSMallocBlockHeader *block = js_rc(pointer);
    int count = block->ref_count;
    if (likely(count < BLOCK_FROZEN)) block->ref_count = count + 1;
}

static inline int js_unref(const void *pointer) {
    JSMallocBlockHeader *block = js_rc(pointer);
    int count = block->ref_count;
    if (unlikely(count >= BLOCK_FROZEN)) return count;
    return block->ref_count = count - 1;
}
