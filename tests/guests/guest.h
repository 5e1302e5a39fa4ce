/* What the parts of the guest agree on. Every property of a variant is a macro that build.py
 * gives: RING3, WP, NX, WX_PAGES, TEXT_WRITABLE, SMEP, SMAP, UMIP, PAGE_ZERO, RANDOM, GUARD,
 * SLEEP, MULTIBOOT, ALIAS, USER_TABLES, USER_GDT, USER_PORTS, LIFTED, HELPER, each 0 or 1, and
 * those of app.h. The stack canary is an option of the compiler. */
#ifndef GUEST_H
#define GUEST_H

#if !NX && !WX_PAGES
#error "without EFER.NXE every page can be executed: a writable one too"
#endif

#include "app.h"

/* Selectors of the descriptor table in enter.S. */
#define KERNEL_CODE 0x08
#define KERNEL_DATA 0x10
#define USER_DATA 0x18
#define USER_CODE 0x20
#define TASK 0x28

/* What a helper in ring 3 spins, at each call of an application in ring 0: a small part of its time. */
#define HELPER_STEPS 4000

/* The vector of the serial line's interrupt (IRQ 4), the last that is used. */
#define VECTOR_SERIAL 0x24
#define VECTORS (VECTOR_SERIAL + 1)

#ifndef __ASSEMBLER__

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

extern struct thread kernel_thread;

#endif
#endif
