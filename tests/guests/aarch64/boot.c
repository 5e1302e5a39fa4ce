/* The boot stage: chooses where everything goes, builds the page tables of the running system and
 * switches the MMU on. It runs at its physical address and is not mapped afterwards, nor are the
 * tables. The image and the application's areas are in the lower half, devices in the upper. */
#include "guest.h"

#define VALID 1UL
#define TABLE_OR_PAGE 2UL
#define NORMAL (1UL << 2) /* MAIR_EL1's second attribute; the first is for devices */
#define FOR_EL0 (1UL << 6)
#define READ_ONLY (1UL << 7)
#define ACCESSED (1UL << 10)
#define NO_EL1_EXECUTE (1UL << 53)
#define NO_EL0_EXECUTE (1UL << 54)
#define TABLE_NO_EL1_EXECUTE (1UL << 59)
#define NO_EXECUTE (NO_EL0_EXECUTE | NO_EL1_EXECUTE)
#define ADDRESS (0x0000ffffffffffffUL & ~(u64)(PAGE - 1))

/* Rights of the leaves. */
#define BASE (VALID | TABLE_OR_PAGE | NORMAL | ACCESSED)
#define APP (EL0 ? FOR_EL0 : 0)
#define CODE (BASE | NO_EL0_EXECUTE | (TEXT_WRITABLE ? 0 : READ_ONLY))
#define APP_CODE (EL0 ? BASE | FOR_EL0 | READ_ONLY | (PXN ? NO_EL1_EXECUTE : 0) : CODE)
#define CONSTANTS (BASE | READ_ONLY | (WX_PAGES ? NO_EL0_EXECUTE : NO_EXECUTE))
#define APP_CONSTANTS (EL0 ? BASE | FOR_EL0 | READ_ONLY | NO_EXECUTE : CONSTANTS)
#define DATA (BASE | (WX_PAGES ? NO_EL0_EXECUTE : NO_EXECUTE))
#define DEVICE ((BASE & ~NORMAL) | NO_EXECUTE)
/* The application's areas; with TABLE_PXN the tables above them forbid what the pages do not. */
#define AREA (BASE | APP | (EL0 && WX_PAGES ? 0 : NO_EL0_EXECUTE) | \
              (WX_PAGES || TABLE_PXN ? 0 : NO_EL1_EXECUTE))

/* Each area has a stretch of addresses for itself. */
#define SLOT_SHIFT (BITS - 3 < 39 ? BITS - 3 : 39)
#define SLOT_PAGES (1UL << (SLOT_SHIFT - GRANULE))
#define SLOT_CODE 1
#define SLOT_STACK 2
#define SLOT_HEAP 3
#define SLOT_ALIAS 4
#define SLOT_TABLES 5
#include "../areas.h"

#define STEP (GRANULE - 3)
#define LEVELS ((BITS - GRANULE + STEP - 1) / STEP)
#define TOP_SHIFT (GRANULE + STEP * (LEVELS - 1))
#define ENTRIES (PAGE / 8)

extern u8 image_start[];
extern u8 kernel_text[], kernel_text_end[], app_text[], app_text_end[];
extern u8 kernel_constants[], kernel_constants_end[], app_constants[], app_constants_end[];
extern u8 kernel_data[], kernel_data_end[], app_data[], app_data_end[];
extern u8 first_vectors[], enter_kernel[];

#define FRAMES __attribute__((section(".frames,\"aw\",@nobits//"), aligned(PAGE)))
static u8 stack_frames[JOURNAL_SIZE + GAP_SIZE + STACK_SIZE] FRAMES;
static u8 heap_frames[HEAP_SIZE] FRAMES;
static u64 tables[48][ENTRIES] FRAMES; /* two tops; at most two a level for each of six areas */
static u8 zero_frame[PAGE] FRAMES;
static u64 tables_used FRAMES;

/* 64 random bits: RNDR where there is one (ID_AA64ISAR0_EL1.RNDR), else the counter, mixed
 * (splitmix64). */
static u64 draw(void) {
    u64 features, value;
    __asm__("mrs %0, id_aa64isar0_el1" : "=r"(features));
    if (features >> 60) {
        __asm__ volatile("mrs %0, s3_3_c2_c4_0" : "=r"(value) : : "cc");
        if (value)
            return value;
    }
    __asm__ volatile("mrs %0, cntvct_el0" : "=r"(value));
    return mixed(value);
}

/* Maps one page below a top table. `above`: what the tables between forbid. */
static void map(u64 *table, u64 virtual, u64 physical, u64 rights, u64 above) {
    for (int shift = TOP_SHIFT; shift > GRANULE; shift -= STEP) {
        u64 index = virtual >> shift & (ENTRIES - 1);
        if (shift == TOP_SHIFT)
            index &= (1UL << (BITS - TOP_SHIFT)) - 1;
        if (!table[index])
            table[index] = (u64)tables[++tables_used] | VALID | TABLE_OR_PAGE | above;
        table = (u64 *)(table[index] & ADDRESS);
    }
    table[virtual >> GRANULE & (ENTRIES - 1)] = physical | rights;
}

static void map_area(u64 virtual, const u8 *from, u64 size, u64 rights, u64 above) {
    for (u64 at = 0; at < size; at += PAGE)
        map(tables[0], virtual + at, (u64)from + at, rights, above);
}

/* The address, in the running system, of something in the image. */
static u64 moved(const void *place) { return layout.code + ((u64)place - (u64)image_start); }

static void map_part(const u8 *from, const u8 *to, u64 rights) {
    map_area(moved(from), from, to - from, rights, 0);
}

static void map_everything(void) {
    const u8 *stack = stack_frames + JOURNAL_SIZE + GAP_SIZE;
    u64 above = TABLE_PXN ? TABLE_NO_EL1_EXECUTE : 0;
    map_part(kernel_text, kernel_text_end, CODE);
    map_part(app_text, app_text_end, APP_CODE);
    map_part(kernel_constants, kernel_constants_end, CONSTANTS);
    map_part(app_constants, app_constants_end, APP_CONSTANTS);
    map_part(kernel_data, kernel_data_end, DATA);
    map_part(app_data, app_data_end, DATA | APP);
    map_area(layout.heap, heap_frames, HEAP_SIZE, AREA, above);
    map_area(layout.journal, stack_frames, JOURNAL_SIZE, AREA, above);
    if (!GUARD)
        map_area(layout.stack - GAP_SIZE, stack - GAP_SIZE, GAP_SIZE, AREA, above);
    map_area(layout.stack, stack, STACK_SIZE, AREA, above);
    if (PAGE_ZERO)
        map(tables[0], 0, (u64)zero_frame, DATA | APP, 0);
    if (ALIAS) /* the application's code, a second time and as data */
        map_area(place(SLOT_ALIAS, app_text_end - app_text), app_text, app_text_end - app_text,
                 DATA | APP, 0);
    if (USER_TABLES)
        map_area(place(SLOT_TABLES, sizeof tables), (u8 *)tables, sizeof tables, DATA | FOR_EL0, 0);
    tables_used++; /* the upper half's top */
    u64 *upper = tables[tables_used];
    for (u64 at = 0; at < CONTROLLER_SIZE; at += PAGE)
        map(upper, UPPER + at, DEVICES + at, DEVICE, 0);
    map(upper, UPPER + UART, DEVICES + UART, DEVICE, 0);
    __asm__ volatile("msr ttbr0_el1, %0; msr ttbr1_el1, %1" : : "r"(tables[0]), "r"(upper));
}

/* Both halves alike. Sizes of memory in physical addresses: 48 bits (TCR_EL1.IPS is 5), with
 * addresses of more than 48 bits 52 (6) and TCR_EL1.DS. */
static void switch_on(void) {
    u64 half = 64 - BITS, wide = BITS > 48 && GRANULE < 16;
    u64 tcr = half | half << 16 | (GRANULE == 12 ? 0UL : GRANULE == 14 ? 2UL : 1UL) << 14 |
              (GRANULE == 12 ? 2UL : GRANULE == 14 ? 1UL : 3UL) << 30 | (BITS > 48 ? 6UL : 5UL) << 32 |
              (u64)HPD << 41 | wide << 59;
    u64 control;
    __asm__ volatile("msr mair_el1, %0; msr tcr_el1, %1; msr vbar_el1, %2; isb; tlbi vmalle1;"
                     "dsb sy; isb"
                     : : "r"(0xff00UL), "r"(tcr), "r"(moved(first_vectors)) : "memory");
    __asm__ volatile("mrs %0, sctlr_el1" : "=r"(control));
    control &= ~(1UL << 19 | 1UL << 23);
    control |= 1 | 1 << 2 | 1 << 12 | (u64)WXN << 19 | (u64)!PAN << 23;
    __asm__ volatile("msr sctlr_el1, %0; isb; b ." : : "r"(control) : "memory");
}

__attribute__((noreturn)) void boot(void) {
    layout.code = MMU ? place(SLOT_CODE, app_data_end - image_start) : (u64)image_start;
    layout.journal = MMU ? place(SLOT_STACK, sizeof stack_frames) : (u64)stack_frames;
    layout.stack = layout.journal + JOURNAL_SIZE + GAP_SIZE;
    layout.heap = MMU ? place(SLOT_HEAP, HEAP_SIZE) : (u64)heap_frames;
    app_layout = layout;
    if (MMU) {
        map_everything();
        switch_on();
    }
    void (*enter)(void) = (void (*)(void))enter_kernel;
    enter();
    __builtin_unreachable();
}
