/* Where a regular expression can begin to match, when its first step says so: a character, a class
   of characters, or the beginning of the text. Upstream tries every position with a piece of code in
   front of the expression (split, any, goto). Included by libregexp.c. */

#define SEEK_PREFIX_LENGTH (5 + 1 + 5)

/* What the operation at `op` asks of the first character. */
static bool seek_class_has(const uint8_t *op, uint32_t c) {
    int low_index = 0, high_index = get_u16(op + 1) - 1;
    const uint8_t *ranges = op + 3;
    /* 0xffff as the last end stands for infinity. */
    if (c >= 0xffff && get_u16(ranges + high_index * 4 + 2) == 0xffff) return true;
    while (low_index <= high_index) {
        int index = (low_index + high_index) / 2;
        if (c < get_u16(ranges + index * 4))
            high_index = index - 1;
        else if (c > get_u16(ranges + index * 4 + 2))
            low_index = index + 1;
        else
            return true;
    }
    return false;
}

static inline bool seek_accepts(const uint8_t *op, uint32_t c) {
    return *op == REOP_char ? c == get_u16(op + 1) : seek_class_has(op, c);
}

static const uint8_t *seek_next(const REExecContext *s, const uint8_t *op, const uint8_t *at) {
    if (s->cbuf_type == 0) {
        while (at < s->cbuf_end && !seek_accepts(op, *at)) at++;
    } else {
        while (at < s->cbuf_end && !seek_accepts(op, *(const uint16_t *)at)) at += 2;
    }
    return at;
}

/* The same as running the whole code at `at`. */
static intptr_t lre_seek(REExecContext *s, uint8_t **capture, const uint8_t *code,
                         const uint8_t *at) {
    const uint8_t *start = code + RE_HEADER_LEN, *body = start + SEEK_PREFIX_LENGTH, *op = body;
    /* Pairs of surrogates are one character; those are left to the code. */
    if ((lre_get_flags(code) & LRE_FLAG_STICKY) || s->cbuf_type == 2)
        return lre_exec_backtrack(s, capture, start, at);
    while (*op == REOP_save_start) op += 2;
    if (*op == REOP_line_start)
        return at == s->cbuf ? lre_exec_backtrack(s, capture, body, at) : 0;
    if (*op != REOP_char && *op != REOP_range) return lre_exec_backtrack(s, capture, start, at);
    for (;;) {
        at = seek_next(s, op, at);
        if (at >= s->cbuf_end) return 0;
        intptr_t result = lre_exec_backtrack(s, capture, body, at);
        if (result != 0) return result;
        if (lre_poll_timeout(s)) return LRE_RET_TIMEOUT;
        /* What a failure leaves in the captures means nothing. */
        for (int i = 0; i < s->capture_count * 2; i++) capture[i] = NULL;
        at += s->cbuf_type == 0 ? 1 : 2;
    }
}
