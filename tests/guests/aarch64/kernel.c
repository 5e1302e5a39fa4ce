/* The kernel: exceptions, and the calls that the application makes. */
#include "guest.h"

struct layout layout;

__attribute__((noreturn)) void enter_app(u64 sp);

static void say(const char *text) {
    while (*text)
        serial_write(*text++);
}

__attribute__((noreturn)) static void halt(const char *reason, u64 number, u64 level) {
    say(reason);
    serial_write("0123456789abcdef"[number >> 4 & 15]);
    serial_write("0123456789abcdef"[number & 15]);
    say(" in EL");
    serial_write('0' + level);
    serial_write('\n');
    __asm__ volatile("msr daifset, #15");
    for (;;)
        __asm__ volatile("wfi");
}

/* What no one handles: its exception class (ESR_EL1.EC), and where it came from. */
__attribute__((noreturn)) void stop(const struct frame *frame) {
    u64 syndrome;
    __asm__("mrs %0, esr_el1" : "=r"(syndrome));
    halt("exception 0x", syndrome >> 26 & 63, frame->spsr >> 2 & 3);
}

static u64 serve(u64 number, u64 argument, u64 ring) {
    switch (number) {
    case CALL_READ:
        return serial_read();
    case CALL_WRITE:
        serial_write(argument);
        return 0;
    case CALL_SLEEP:
        serial_sleep();
        return 0;
    case CALL_RING:
        return ring;
    }
    return -1;
}

/* From EL1 by a function's call. */
u64 kernel_call(u64 number, u64 argument) {
    u64 level;
    __asm__ volatile("mrs %0, currentel" : "=r"(level));
    return serve(number, argument, level >> 2 & 3 ? 0 : 3);
}

/* From EL0: a call (SVC, class 0x15) and nothing else. */
void exception(struct frame *frame) {
    u64 syndrome;
    __asm__ volatile("mrs %0, esr_el1" : "=r"(syndrome));
    if ((syndrome >> 26 & 63) != 0x15)
        stop(frame);
    frame->x[0] = serve(frame->x[0], frame->x[1], frame->spsr >> 2 & 3 ? 0 : 3);
}

__attribute__((noreturn)) void kernel_main(void) {
    serial_start();
    say("ready\n");
    enter_app(layout.stack + STACK_SIZE);
}
