/* Guests that an examination must survive: each enters as PVH and does one bad thing.
 * FLOOD floods the serial line; TRIPLEFAULT resets the processor by three faults in a row;
 * without either it halts at once and for ever. */
        .section .note.Xen, "a", @note
        .balign 4
        .long 4, 8, 18
        .asciz "Xen"
        .quad start

        .text
        .code32
        .globl start
start:  cli
#if FLOOD
        movw $0x3f8, %dx
        movb $'A', %al
1:      outb %al, %dx
        jmp 1b
#elif TRIPLEFAULT
        pushl $0
        pushl $0
        lidt (%esp)             /* a table of one byte: no fault has a gate */
        ud2
#else
1:      hlt
        jmp 1b
#endif
        .section .note.GNU-stack, "", @progbits
