/* What the parts of the aarch64 guest agree on. Every property of a variant is a macro that
 * build.py gives: EL0, MMU, WX_PAGES, TEXT_WRITABLE, WXN, TABLE_PXN, HPD, PXN, PAN, LIFTED,
 * ALIAS, USER_TABLES, PAGE_ZERO, RANDOM, GUARD, SLEEP (0 or 1), GRANULE (12, 14 or 16: bits of an address inside a page), BITS
 * (of an address in each half). Registers and tables: Arm Architecture Reference Manual, DDI
 * 0487, D8 and D19. */
#ifndef GUEST_H
#define GUEST_H

#define PAGE (1 << GRANULE)
#include "../app.h"

/* Exceptions push all general registers and two more. */
#define FRAME_SIZE (33 * 8 + 8)

#ifndef __ASSEMBLER__

/* An exception: what came from SPSR_EL1 tells the level that it came from. */
struct frame {
    u64 x[31], elr, spsr;
};

/* Device memory of QEMU's board `virt` (hw/arm/virt.c): mapped in the upper half, which TTBR1_EL1
 * translates; without an MMU at its own address. */
#define DEVICES 0x08000000UL
#define CONTROLLER_SIZE 0x20000UL /* of interrupts: at the start */
#define UART 0x01000000UL
#define UPPER (~0UL << BITS)

static inline volatile u32 *device(u64 offset) {
    return (volatile u32 *)((MMU ? UPPER : DEVICES) + offset);
}

void serial_start(void);
int serial_read(void); /* the next byte, or -1 when there is none */
void serial_write(char byte);
void serial_sleep(void); /* halts until a byte may be there */

#endif
#endif
