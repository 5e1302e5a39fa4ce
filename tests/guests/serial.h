/* The serial line COM1: a 16550, polled, with an interrupt only to wake from sleep. */
#ifndef SERIAL_H
#define SERIAL_H

void serial_start(void);
int serial_read(void); /* the next byte, or -1 when there is none */
void serial_write(char byte);
void serial_text(const char *text);
void serial_sleep(void); /* halts until a byte may be there */
void serial_acknowledge(void);

#endif
