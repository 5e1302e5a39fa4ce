/* The kernel: tables of the processor, traps, and the calls that the application makes. */
#include "guest.h"
#include "serial.h"

#define MSR_STAR 0xc0000081
#define MSR_LSTAR 0xc0000082
#define MSR_SFMASK 0xc0000084
#define CR4_UMIP (1UL << 11)
#define CR4_SMEP (1UL << 20)
#define CR4_SMAP (1UL << 21)

/* What enter.S leaves on the stack (Intel SDM volume 3, 6.14.2). */
struct frame {
    u64 r15, r14, r13, r12, r11, r10, r9, r8, rbp, rdi, rsi, rdx, rcx, rbx, rax;
    u64 vector, error, rip, cs, rflags, rsp, ss;
};

/* Task state segment, 64 bits (SDM volume 3, 8.7): the stacks for entries from ring 3 and for
 * faults. Its I/O map lies beyond its limit: ring 3 may use no port. */
static struct __attribute__((packed)) {
    u32 reserved0;
    u64 rsp[3];
    u64 reserved1;
    u64 ist[7];
    u64 reserved2;
    u16 reserved3, io_map;
} task;

static struct gate {
    u16 offset0, selector;
    u8 ist, type;
    u16 offset1;
    u32 offset2, reserved;
} idt[VECTORS];

struct layout layout;
struct thread kernel_thread;

extern u64 gdt[];
extern u8 vectors[], call_entry[], kernel_stack_top[], fault_stack_top[];
__attribute__((noreturn)) void enter_app(u64 rsp);

__attribute__((noreturn)) static void halt(void) {
    for (;;)
        __asm__ volatile("cli; hlt");
}

__attribute__((noreturn)) static void stop(const char *reason, u64 number, u64 cs) {
    serial_text(reason);
    if (number) {
        serial_write('0' + number / 10);
        serial_write('0' + number % 10);
    }
    serial_text(" in ring ");
    serial_write('0' + (cs & 3));
    serial_write('\n');
    halt();
}

#ifdef __SSP_ALL__
/* GCC's canaries in the kernel's own functions end here. */
__attribute__((noreturn)) void __stack_chk_fail(void) { stop("stack smashed", 0, 0); }
#endif

#if HELPER
void help(void);
#endif

u64 kernel_call(u64 number, u64 argument) {
#if HELPER
    if (number == CALL_READ)
        help();
#endif
    switch (number) {
    case CALL_READ:
        return serial_read();
    case CALL_WRITE:
        serial_write(argument);
        return 0;
    case CALL_SLEEP:
        serial_sleep();
        return 0;
    case CALL_SMASHED:
        stop("stack smashed", 0, RING3 ? 3 : 0);
    }
    return -1;
}

void trap(const struct frame *frame) {
    if (frame->vector == VECTOR_SERIAL)
        serial_acknowledge();
    else
        stop("trap ", frame->vector, frame->cs);
}

static void load_task(void) {
    u64 base = (u64)&task;
    task.rsp[0] = (u64)kernel_stack_top;
    task.ist[0] = (u64)fault_stack_top;
    task.io_map = sizeof task;
    /* Present, type 9: an available 64-bit task (SDM volume 3, 8.2.3). */
    gdt[TASK / 8] = (sizeof task - 1) | (base & 0xffffff) << 16 | 0x89UL << 40 |
                    (base >> 24 & 0xff) << 56;
    gdt[TASK / 8 + 1] = base >> 32;
    __asm__ volatile("ltr %w0" : : "r"(TASK));
}

static void write_msr(u32 number, u64 value) {
    __asm__ volatile("wrmsr" : : "c"(number), "a"((u32)value), "d"((u32)(value >> 32)));
}

/* SYSCALL enters at call_entry with all flags that matter off: interrupts, single step, direction,
 * and AC, by which ring 3 could otherwise switch SMAP off (SDM volume 3, 5.8.8). */
static void open_calls(void) {
    write_msr(MSR_STAR, (u64)KERNEL_CODE << 32);
    write_msr(MSR_LSTAR, (u64)call_entry);
    write_msr(MSR_SFMASK, 0x47700);
}

static void load_idt(void) {
    struct __attribute__((packed)) {
        u16 limit;
        u64 base;
    } pointer = {sizeof idt - 1, (u64)idt};
    for (u64 vector = 0; vector < VECTORS; vector++) {
        u64 at = (u64)vectors + 16 * vector;
        /* Faults get a stack of their own, for the application's may be what is broken. No gate
         * may be used by an instruction of ring 3 (0x8e: an interrupt gate, DPL 0). */
        idt[vector] = (struct gate){at, KERNEL_CODE, vector < 32, 0x8e, at >> 16, at >> 32, 0};
    }
    __asm__ volatile("lidt %0" : : "m"(pointer));
}

/* SMEP, SMAP, UMIP: those of the variant that the processor offers (CPUID leaf 7). */
static void protect(void) {
    struct cpuid offered = cpuid(7);
    u64 cr4;
    __asm__ volatile("mov %%cr4, %0" : "=r"(cr4));
    if (SMEP && offered.b >> 7 & 1)
        cr4 |= CR4_SMEP;
    if (SMAP && offered.b >> 20 & 1)
        cr4 |= CR4_SMAP;
    if (UMIP && offered.c >> 2 & 1)
        cr4 |= CR4_UMIP;
    __asm__ volatile("mov %0, %%cr4" : : "r"(cr4));
}

__attribute__((noreturn)) void kernel_main(void) {
    load_task();
    load_idt();
    if (RING3 || HELPER)
        open_calls();
    protect();
    serial_start();
    serial_text("ready\n");
    /* As after a call: the stack pointer is 8 below a multiple of 16. */
    enter_app(layout.stack + STACK_SIZE - 8);
}
