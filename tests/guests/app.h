/* What the application and its kernel agree on, whatever the architecture. */
#ifndef APP_H
#define APP_H

#ifndef PAGE
#define PAGE 4096
#endif

/* What the application may ask of the kernel: kernel_call(number, argument), or from ring 3
 * by SYSCALL in RDI and RSI with the result in RAX, or by SVC in X0 and X1 with it in X0. */
#define CALL_READ 0    /* the next byte of the serial line, or -1 */
#define CALL_WRITE 1   /* one byte to the serial line */
#define CALL_SLEEP 2   /* halts until a byte arrives */
#define CALL_SMASHED 3 /* the application's canary has changed: does not return */
#define CALL_RING 4    /* aarch64: the ring of whoever calls */

/* The application's memory. The journal lies below its stack, with one page between the two:
 * mapped in most variants, so that an overflow runs on into the journal; unmapped with GUARD.
 * STACK_PAGES and JOURNAL_PAGES are given by build.py. */
#define STACK_SIZE (STACK_PAGES * PAGE)
#define GAP_SIZE PAGE
#define JOURNAL_SIZE (JOURNAL_PAGES * PAGE)
#define HEAP_SIZE (16 * PAGE)
#define WORK_SIZE 65536 /* of the heap: what work() goes over */

#ifndef __ASSEMBLER__

/* All symbols are addressed relative to where code runs, never through a table of absolute addresses: the
 * image runs at whatever address it is mapped. guest.ld asserts that no such table came about. */
#pragma GCC visibility push(hidden)

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;

#ifdef __x86_64__
/* Where a thread finds its canary: GCC reads it at offset 0x28 of FS (application), GS (kernel). */
struct thread {
    u64 unused[5];
    u64 canary;
};

extern struct thread app_thread;
#endif

/* Virtual addresses that the boot stage has chosen: each the lowest of its area. */
struct layout {
    u64 code, journal, stack, heap;
};

/* One of each in the kernel's memory and in the application's: neither reads the other's. */
extern struct layout layout, app_layout;

u64 kernel_call(u64 number, u64 argument);

#endif
#endif
