/* The allocator of the engine: replaces the arenas of QuickJS-ng (see quickjs.patch) and is
   included there, because it shares their block header.

   An instance of a function is a copy of the pages that its work dirties, so what matters most is
   that a request writes to few pages. Arenas put each size on a page of its own; here blocks of
   all sizes are cut from one region, one after the other, and a freed block is taken again by the
   next one of its size. `blocks_seal` begins a new region before a snapshot and forgets the holes
   in the old one, so that no request ever writes between the objects of the snapshot; and it
   freezes their reference counts (blocks-count.h), so that using them writes nothing either. */

#define BLOCK_CLASSES 63
#define BLOCK_LARGEST 8192
/* With what the C library adds it is a power of two. */
#define BLOCK_REGION (256 * 1024 - 64)
#define BLOCK_REGION_SMALLEST (16 * 1024)
#define BLOCK_PAGE 4096
#define BLOCK_IS_LARGE 0xff
/* The count of a frozen block: far above what references can add up to. */
#define BLOCK_FROZEN 0x40000000

/* The head of a region: its blocks lie from `first` to `last`. */
typedef struct BlockRegion {
    struct BlockRegion *older;
    uint8_t *first;
    uint8_t *last;
} BlockRegion;

typedef struct JSArenaState {
    JSMallocBlockHeader *free[BLOCK_CLASSES];
    uint8_t *next;
    uint8_t *end;
    /* Regions since the last seal. */
    BlockRegion *newest;
    _Alignas(8) uint8_t zero_size_block[sizeof(JSMallocBlockHeader)];
} JSArenaState;

/* Sizes with their header: every 8 bytes up to 128, then eight steps for each doubling. */
static inline unsigned block_class(size_t total) {
    if (total <= 128) return total <= 16 ? 0 : (total + 7) / 8 - 2;
    unsigned log = 31 - __builtin_clz((unsigned)total - 1);
    return 15 + (log - 7) * 8 + ((total - 1) >> (log - 3)) - 8;
}

static inline size_t block_size(unsigned class) {
    if (class < 15) return (class + 2) * 8;
    unsigned step = class - 15;
    return (size_t)(step % 8 + 9) << (step / 8 + 4);
}
