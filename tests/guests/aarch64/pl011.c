/* The serial line: a PL011 (Arm DDI 0183), polled, with an interrupt only to wake from sleep. The
 * interrupt is never taken: WFI ends when one is pending, masked or not. */
#include "guest.h"

#define DATA (UART + 0x00)
#define FLAGS (UART + 0x18)
#define CONTROL (UART + 0x30)
#define MASK (UART + 0x38)
#define EMPTY (1 << 4)
#define FULL (1 << 5)
#define RECEIVED (1 << 4)
#define UART_ENABLED 0x301

/* The interrupt controller, GICv2 (Arm IHI 0048): the line's interrupt is 33. */
#define DISTRIBUTOR 0x00000000UL
#define INTERFACE 0x00010000UL
#define SET_ENABLE (DISTRIBUTOR + 0x104)
#define PRIORITY (INTERFACE + 4)
#define INTERRUPT (33 - 32)

void serial_start(void) {
    *device(CONTROL) = UART_ENABLED;
    *device(MASK) = RECEIVED;
    *device(SET_ENABLE) = 1 << INTERRUPT;
    *device(PRIORITY) = 0xff;
    *device(DISTRIBUTOR) = 1;
    *device(INTERFACE) = 1;
}

int serial_read(void) { return *device(FLAGS) & EMPTY ? -1 : (int)(*device(DATA) & 0xff); }

void serial_write(char byte) {
    while (*device(FLAGS) & FULL)
        ;
    *device(DATA) = byte;
}

void serial_sleep(void) {
    if (*device(FLAGS) & EMPTY)
        __asm__ volatile("dsb sy; wfi" : : : "memory");
}
