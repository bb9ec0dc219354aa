/* Decimal numbers that are short, read and written with a few operations on doubles instead of
   arithmetic on many words. Everything here is exact or declines; then dtoa.c does the work.
   Included by quickjs.c.

   Reading: when mantissa and power of ten are both exact as doubles, one multiplication or
   division rounds correctly (Clinger, "How to read floating point numbers accurately", 1990).
   Writing: decimals of at most 15 digits and doubles correspond one to one, so a decimal of so few
   digits that reads as the double is its shortest form, whatever way it was found. */

#define DECIMAL_EXACT_POWER 22
#define DECIMAL_EXACT_MANTISSA ((uint64_t)1 << 53)
/* No decimal of 15 digits has a mantissa of this or more. */
#define DECIMAL_UNIQUE_MANTISSA 1e15

static const double decimal_powers[DECIMAL_EXACT_POWER + 1] = {
    1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
    1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
};

/* mantissa * 10^exponent, when one operation gives it. */
static inline bool decimal_value(uint64_t mantissa, int exponent, double *value) {
    if (mantissa > DECIMAL_EXACT_MANTISSA) return false;
    double exact = (double)mantissa;
    if (exponent >= 0) {
        if (exponent > DECIMAL_EXACT_POWER) return false;
        *value = exact * decimal_powers[exponent];
    } else {
        if (exponent < -DECIMAL_EXACT_POWER) return false;
        *value = exact / decimal_powers[-exponent];
    }
    return true;
}

/* Reads digits with at most one point and no exponent, the whole of `length` bytes. */
static bool decimal_read(const char *text, size_t length, double *value) {
    uint64_t mantissa = 0;
    int digits = 0, exponent = 0;
    bool fraction = false;
    if (length == 0 || length > 18) return false; /* so that the mantissa does not overflow */
    for (size_t i = 0; i < length; i++) {
        unsigned digit = (unsigned char)text[i] - '0';
        if (digit < 10) {
            mantissa = mantissa * 10 + digit;
            digits++;
            exponent -= fraction;
        } else if (text[i] == '.' && !fraction) {
            fraction = true;
        } else {
            return false;
        }
    }
    return digits > 0 && decimal_value(mantissa, exponent, value);
}

#define DECIMAL_LENGTH_MAX 24

/* Writes the digits of an integer below 10^15 and returns their end. */
static char *decimal_write_integer(char *to, uint64_t value) {
    char digits[20];
    int at = sizeof(digits);
    /* Divisions by constants of 32 bits are multiplications. */
    while (value > UINT32_MAX) {
        digits[--at] = '0' + (char)(value % 10);
        value /= 10;
    }
    uint32_t rest = (uint32_t)value;
    do {
        digits[--at] = '0' + (char)(rest % 10);
        rest /= 10;
    } while (rest);
    int length = (int)sizeof(digits) - at;
    for (int i = 0; i < length; i++) to[i] = digits[at + i];
    return to + length;
}

/* The shortest form of a finite number, as Number::toString has it; 0 when it takes more than
   15 digits, or is so small that it may need an exponent. At most DECIMAL_LENGTH_MAX bytes. */
static int decimal_write(char *to, double value) {
    char *start = to;
    double size = fabs(value);
    if (value < 0) *to++ = '-';
    if (!(size < DECIMAL_UNIQUE_MANTISSA)) return 0;
    uint64_t whole = (uint64_t)size;
    if ((double)whole == size) return (int)(decimal_write_integer(to, whole) - start);
    if (size < 1e-3) return 0;
    /* Few places are tried first: there is less to strip off again. */
    static const struct { double below; int places; } tries[] = {{1e9, 6}, {1e3, 12}};
    for (unsigned i = 0; i < sizeof(tries) / sizeof(tries[0]); i++) {
        int places = tries[i].places;
        if (size >= tries[i].below) return 0;
        uint64_t scaled = (uint64_t)(size * decimal_powers[places] + 0.5);
        if (scaled >= (uint64_t)DECIMAL_UNIQUE_MANTISSA ||
            (double)scaled / decimal_powers[places] != size)
            continue;
        uint64_t unit = (uint64_t)decimal_powers[places];
        whole = scaled / unit;
        uint64_t fraction = scaled % unit;
        to = decimal_write_integer(to, whole);
        *to++ = '.';
        for (; fraction % 10 == 0; places--) fraction /= 10;
        for (int at = places - 1; at >= 0; at--) {
            to[at] = '0' + (char)(fraction % 10);
            fraction /= 10;
        }
        return (int)(to + places - start);
    }
    return 0;
}

/* More places, or a smaller number, would not fit into 128 bits. */
#define DECIMAL_FIXED_PLACES_MAX 15
#define DECIMAL_FIXED_SHIFT_MAX 120

/* A finite number with so many places, as Number.prototype.toFixed rounds it: exactly, and halves
   away from zero. 0 when it takes more than 15 digits or is next to nothing. At most
   DECIMAL_LENGTH_MAX bytes. */
static int decimal_write_fixed(char *to, double value, int places) {
    char *start = to;
    uint64_t bits;
    memcpy(&bits, &value, sizeof(bits));
    int shift = 1075 - (int)(bits >> 52 & 0x7ff);
    uint64_t mantissa = (bits & (((uint64_t)1 << 52) - 1)) | (uint64_t)1 << 52;
    if (places > DECIMAL_FIXED_PLACES_MAX || shift < 1 || shift > DECIMAL_FIXED_SHIFT_MAX) return 0;
    uint64_t unit = (uint64_t)decimal_powers[places];
    unsigned __int128 scaled = (unsigned __int128)mantissa * unit;
    scaled = (scaled + ((unsigned __int128)1 << (shift - 1))) >> shift;
    if (scaled >= (uint64_t)DECIMAL_UNIQUE_MANTISSA) return 0;
    if (value < 0) *to++ = '-';
    to = decimal_write_integer(to, (uint64_t)scaled / unit);
    if (places == 0) return (int)(to - start);
    uint64_t fraction = (uint64_t)scaled % unit;
    *to++ = '.';
    for (int at = places - 1; at >= 0; at--) {
        to[at] = '0' + (char)(fraction % 10);
        fraction /= 10;
    }
    return (int)(to + places - start);
}
