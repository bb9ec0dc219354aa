/* What QuickJS-ng calls of the C library and the library would ask WASI for. Nothing here reaches
   outside except the clock. */

#include "libc.h"

#include <stdio.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>

#include "engine.h"

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    (void)zone;
    long long microseconds = (long long)(wall_clock_ms() * 1000);
    now->tv_sec = microseconds / 1000000;
    now->tv_usec = microseconds % 1000000;
    return 0;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    (void)clock;
    long long microseconds = (long long)(wall_clock_ms() * 1000);
    now->tv_sec = microseconds / 1000000;
    now->tv_nsec = microseconds % 1000000 * 1000;
    return 0;
}

/* Local time is UTC; the engine reads only the offset. */
struct tm *localtime_r(const time_t *restrict time, struct tm *restrict parts) {
    (void)time;
    memset(parts, 0, sizeof(*parts));
    return parts;
}

int printf(const char *restrict format, ...) {
    (void)format;
    return 0;
}

int fprintf(FILE *restrict file, const char *restrict format, ...) {
    (void)file, (void)format;
    return 0;
}


int puts(const char *text) {
    (void)text;
    return 0;
}

int putchar(int character) {
    return character;
}

int fputs(const char *restrict text, FILE *restrict file) {
    (void)text, (void)file;
    return 0;
}

int fputc(int character, FILE *file) {
    (void)file;
    return character;
}

size_t fwrite(const void *restrict data, size_t size, size_t count, FILE *restrict file) {
    (void)data, (void)size, (void)file;
    return count;
}
