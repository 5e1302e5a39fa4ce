/* What the parts of the guest agree on. Every property of a variant is a macro that build.py
 * gives: RING3, WP, NX, WX_PAGES, TEXT_WRITABLE, SMEP, SMAP, UMIP, PAGE_ZERO, RANDOM, GUARD,
 * SLEEP, MULTIBOOT. Each is 0 or 1. The stack canary is an option of the compiler. */
#ifndef GUEST_H
#define GUEST_H

#if !NX && !WX_PAGES
#error "without EFER.NXE every page can be executed: a writable one too"
#endif

#define PAGE 4096

/* Selectors of the descriptor table in enter.S. */
#define KERNEL_CODE 0x08
#define KERNEL_DATA 0x10
#define USER_DATA 0x18
#define USER_CODE 0x20
#define TASK 0x28

/* The vector of the serial line's interrupt (IRQ 4), the last that is used. */
#define VECTOR_SERIAL 0x24
#define VECTORS (VECTOR_SERIAL + 1)

/* What the application may ask of the kernel: kernel_call(number, argument), or by SYSCALL the
 * same in RDI and RSI, with the result in RAX. */
#define CALL_READ 0    /* the next byte of the serial line, or -1 */
#define CALL_WRITE 1   /* one byte to the serial line */
#define CALL_SLEEP 2   /* halts until a byte arrives */
#define CALL_SMASHED 3 /* the application's canary has changed: does not return */

/* The application's memory. The journal lies below its stack, with one page between the two:
 * mapped in most variants, so that an overflow runs on into the journal; unmapped with GUARD. */
#define STACK_SIZE (4 * PAGE)
#define GAP_SIZE PAGE
#define JOURNAL_SIZE (64 * PAGE)
#define HEAP_SIZE (16 * PAGE)

#ifndef __ASSEMBLER__

/* All symbols are addressed relative to RIP, never through a table of absolute addresses: the
 * image runs at whatever address it is mapped. guest.ld asserts that no such table came about. */
#pragma GCC visibility push(hidden)

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;

struct cpuid {
    u32 a, b, c, d;
};

/* One leaf of CPUID, sub-leaf 0; zeros where the processor has no such leaf. */
static inline struct cpuid cpuid(u32 leaf) {
    struct cpuid most = {0}, seen = {leaf, 0, 0, 0};
    __asm__ volatile("cpuid" : "+a"(most.a), "=b"(most.b), "+c"(most.c), "=d"(most.d));
    if (leaf > most.a)
        return (struct cpuid){0};
    __asm__ volatile("cpuid" : "+a"(seen.a), "=b"(seen.b), "+c"(seen.c), "=d"(seen.d));
    return seen;
}

/* Where a thread finds its canary: GCC reads it at offset 0x28 of FS (application), GS (kernel). */
struct thread {
    u64 unused[5];
    u64 canary;
};

/* Virtual addresses that the boot stage has chosen: each the lowest of its area. */
struct layout {
    u64 code, journal, stack, heap;
};

/* One of each in the kernel's memory and in the application's: neither reads the other's. */
extern struct layout layout, app_layout;
extern struct thread kernel_thread, app_thread;

u64 kernel_call(u64 number, u64 argument);

#endif
#endif
