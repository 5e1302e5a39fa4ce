/* The boot stage: chooses where everything goes, builds the page tables of the running system,
 * draws the canaries, and leaves for enter.S. It runs at its physical address and is not mapped
 * afterwards, nor are the page tables. Compiled without canaries: there are none yet. */
#include "guest.h"

#define PRESENT 1UL
#define WRITABLE 2UL
#define USER 4UL
#define NO_EXECUTE (1UL << 63)
#define ADDRESS 0x000ffffffffff000UL

/* Rights of the leaves. The kernel's pages are the supervisor's in every variant. */
#define CODE (PRESENT | (TEXT_WRITABLE ? WRITABLE : 0))
#define CONSTANTS (CODE | (WX_PAGES ? 0 : NO_EXECUTE))
#define DATA (PRESENT | WRITABLE | (WX_PAGES ? 0 : NO_EXECUTE))
#define APP (RING3 ? USER : 0)

/* Each area has an entry of the top table for itself: 512 GiB, 2^27 pages to choose from. */
#define SLOT_PAGES (1UL << 27)
#define SLOT_CODE 1
#define SLOT_STACK 2
#define SLOT_HEAP 3
#define SLOT_ALIAS 4
#define SLOT_TABLES 5
#define SLOT_GDT 6
#include "areas.h"

extern u8 image_start[];
extern u8 kernel_text[], kernel_text_end[], app_text[], app_text_end[];
extern u8 kernel_constants[], kernel_constants_end[], app_constants[], app_constants_end[];
extern u8 kernel_data[], kernel_data_end[], app_data[], app_data_end[];
extern u64 boot_level4[512];
extern u8 enter_kernel[], gdt[];
#if HELPER
extern u8 helper[];
#endif

#define FRAMES __attribute__((section(".frames,\"aw\",@nobits#"), aligned(PAGE)))
static u8 stack_frames[JOURNAL_SIZE + GAP_SIZE + STACK_SIZE] FRAMES;
static u8 heap_frames[HEAP_SIZE] FRAMES;
static u64 tables[32][512] FRAMES; /* at most 28: five for each of three areas, three for
                                     each other slot and for page 0, the top */
static u8 zero_frame[PAGE] FRAMES;
static u64 tables_used FRAMES;

/* 64 random bits: RDRAND where there is one, else the time-stamp counter, mixed (splitmix64). */
static u64 draw(void) {
    int offered = cpuid(1).c >> 30 & 1;
    for (int attempt = 0; attempt < 10 && offered; attempt++) {
        u64 value;
        u8 good;
        __asm__ volatile("rdrand %0; setc %1" : "=r"(value), "=q"(good) : : "cc");
        if (good)
            return value;
    }
    u32 low, high;
    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    return mixed((u64)high << 32 | low);
}

/* Maps one page. Upper levels allow everything, so that the leaf alone decides. */
static void map(u64 virtual, u64 physical, u64 rights) {
    u64 *table = tables[0];
    for (int shift = 39; shift > 12; shift -= 9) {
        u64 *entry = &table[virtual >> shift & 511];
        if (!*entry)
            *entry = (u64)tables[++tables_used] | PRESENT | WRITABLE | USER;
        table = (u64 *)(*entry & ADDRESS);
    }
    table[virtual >> 12 & 511] = physical | rights;
}

static void map_area(u64 virtual, const u8 *from, u64 size, u64 rights) {
    for (u64 at = 0; at < size; at += PAGE)
        map(virtual + at, (u64)from + at, rights);
}

/* The address, in the running system, of something in the image. */
static u64 moved(const void *place) { return layout.code + ((u64)place - (u64)image_start); }

static void map_part(const u8 *from, const u8 *to, u64 rights) {
    map_area(moved(from), from, to - from, rights);
}

static void map_everything(void) {
    map_part(kernel_text, kernel_text_end, CODE);
    map_part(app_text, app_text_end, CODE | APP);
    map_part(kernel_constants, kernel_constants_end, CONSTANTS);
    map_part(app_constants, app_constants_end, CONSTANTS | APP);
    map_part(kernel_data, kernel_data_end, DATA);
    map_part(app_data, app_data_end, DATA | APP);
    map_area(layout.heap, heap_frames, HEAP_SIZE, DATA | APP);
    map_area(layout.journal, stack_frames, JOURNAL_SIZE, DATA | APP);
    if (!GUARD)
        map_area(layout.stack - GAP_SIZE, stack_frames + JOURNAL_SIZE, GAP_SIZE, DATA | APP);
    map_area(layout.stack, stack_frames + JOURNAL_SIZE + GAP_SIZE, STACK_SIZE, DATA | APP);
    if (PAGE_ZERO)
        map(0, (u64)zero_frame, DATA | APP);
    if (ALIAS) /* the application's code, a second time and as data */
        map_area(place(SLOT_ALIAS, app_text_end - app_text), app_text, app_text_end - app_text,
                 DATA | APP);
    if (USER_TABLES)
        map_area(place(SLOT_TABLES, sizeof tables), (u8 *)tables, sizeof tables, DATA | USER);
    if (USER_GDT)
        map_area(place(SLOT_GDT, PAGE), gdt - (u64)gdt % PAGE, PAGE, DATA | USER);
#if HELPER
    map(moved(helper), (u64)helper, CODE | USER);
#endif
}

__attribute__((noreturn)) void boot(void) {
    layout.code = place(SLOT_CODE, app_data_end - image_start);
    layout.journal = place(SLOT_STACK, sizeof stack_frames);
    layout.stack = layout.journal + JOURNAL_SIZE + GAP_SIZE;
    layout.heap = place(SLOT_HEAP, HEAP_SIZE);
    app_layout = layout;
    /* The lowest byte is zero, so that an overrun by a string cannot write it. */
    kernel_thread.canary = draw() & ~0xffUL;
    app_thread.canary = draw() & ~0xffUL;
    map_everything();

    /* The image is entered at its new address through the old top table; enter.S then loads the
     * new one, which knows nothing of the old addresses. */
    boot_level4[SLOT_CODE] = tables[0][SLOT_CODE];
    void (*enter)(u64 *) = (void (*)(u64 *))moved(enter_kernel);
    enter(tables[0]);
    __builtin_unreachable();
}
