#include "serial.h"

#include "guest.h"

/* Registers of the 16550 (National Semiconductor PC16550D, table II). */
#define COM1 0x3f8
#define DATA COM1
#define INTERRUPTS (COM1 + 1)
#define FIFO (COM1 + 2)
#define LINE (COM1 + 3)
#define MODEM (COM1 + 4)
#define STATUS (COM1 + 5)
#define RECEIVED 0x01
#define CAN_SEND 0x20

/* The two interrupt controllers (Intel 8259A). */
#define MASTER 0x20
#define SLAVE 0xa0
#define END_OF_INTERRUPT 0x20

static void out(u16 port, u8 value) { __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port)); }

static u8 in(u16 port) {
    u8 value;
    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

void serial_start(void) {
    /* Vectors 0x20 to 0x2f instead of the processor's own; IRQ 4 alone let through. */
    out(MASTER, 0x11), out(MASTER + 1, VECTOR_SERIAL & ~7), out(MASTER + 1, 4), out(MASTER + 1, 1);
    out(SLAVE, 0x11), out(SLAVE + 1, (VECTOR_SERIAL & ~7) + 8), out(SLAVE + 1, 2), out(SLAVE + 1, 1);
    out(MASTER + 1, (u8) ~(1 << (VECTOR_SERIAL & 7)));
    out(SLAVE + 1, 0xff);

    out(LINE, 0x83); /* the divisor: 115200 baud */
    out(DATA, 1);
    out(INTERRUPTS, 0);
    out(LINE, 0x03); /* 8 bits, no parity */
    out(FIFO, 0x07);
    out(MODEM, 0x0b);
    out(INTERRUPTS, RECEIVED);
}

int serial_read(void) { return in(STATUS) & RECEIVED ? in(DATA) : -1; }

void serial_write(char byte) {
    while (!(in(STATUS) & CAN_SEND))
        ;
    out(DATA, byte);
}

void serial_text(const char *text) {
    while (*text)
        serial_write(*text++);
}

/* STI takes effect after the next instruction, so that no interrupt is lost before HLT. */
void serial_sleep(void) {
    if (!(in(STATUS) & RECEIVED))
        __asm__ volatile("sti; hlt; cli");
}

void serial_acknowledge(void) { out(MASTER, END_OF_INTERRUPT); }
