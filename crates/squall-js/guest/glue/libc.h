/* Names that keep the C library's own versions, and the WASI imports they need, out of the module.
   Included before QuickJS-ng; libc.c says what takes their place. */
#ifndef SQUALL_LIBC_H
#define SQUALL_LIBC_H

#define gettimeofday squall_gettimeofday
#define clock_gettime squall_clock_gettime
#define localtime_r squall_localtime_r
#define printf squall_printf
#define fprintf squall_fprintf
#define puts squall_puts
#define putchar squall_putchar
#define fputs squall_fputs
#define fputc squall_fputc
#define fwrite squall_fwrite

#endif
