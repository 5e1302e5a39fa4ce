/* Ways into the kernel and out of it: the first entry, exceptions and calls, the way to the
 * application. Runs at the address that the boot stage has chosen. */
#include "guest.h"

.macro address register, symbol
        adrp \register, \symbol
        add \register, \register, :lo12:\symbol
.endm

.macro each instruction
        .set number, 0
        .irp register, x0, x1, x2, x3, x4, x5, x6, x7, x8, x9, x10, x11, x12, x13, x14, x15, \
            x16, x17, x18, x19, x20, x21, x22, x23, x24, x25, x26, x27, x28, x29, x30
        \instruction \register, [sp, #8 * number]
        .set number, number + 1
        .endr
.endm

.macro save
        sub sp, sp, #FRAME_SIZE
        each str
        mrs x0, elr_el1
        mrs x1, spsr_el1
        stp x0, x1, [sp, #8 * 31]
.endm

        .text
/* From the boot stage. With the MMU, the fetch after the one that switched it on finds nothing at
 * the old address: the fault comes here, by the vectors for EL1 with its own stack pointer. */
        .balign 2048
        .globl first_vectors
first_vectors:
        .skip 0x200
        .globl enter_kernel
enter_kernel:
        address x0, vectors
        msr vbar_el1, x0
        isb
        address x0, kernel_stack_top
        mov sp, x0
        bl kernel_main

/* enter_app(stack pointer): the same way into EL1 and EL0; both use SP_EL0, so that a fault finds
 * the kernel's own stack. Interrupts stay masked. */
        .globl enter_app
enter_app:
        msr sp_el0, x0
        address x0, app_main
        msr elr_el1, x0
#if EL0
        mov x0, #0x3c0
#else
        mov x0, #0x3c4
#endif
        msr spsr_el1, x0
        address x0, kernel_stack_top
        mov sp, x0
        eret

/* Sixteen of 128 bytes; calls come by the ninth, synchronous from EL0 in 64 bits. */
        .balign 2048
vectors:
        .rept 8
        .balign 128
        b fault
        .endr
        .balign 128
        b call
        .rept 7
        .balign 128
        b fault
        .endr

fault:  save
        mov x0, sp
        bl stop
call:
#if LIFTED
        .inst 0xd500409f                /* msr pan, #0 */
#endif
        save
        mov x0, sp
        bl exception
        ldp x0, x1, [sp, #8 * 31]
        msr elr_el1, x0
        msr spsr_el1, x1
        each ldr
        add sp, sp, #FRAME_SIZE
        eret

        .bss
        .balign 16
        .skip 8192
kernel_stack_top:
        .section .note.GNU-stack, "", @progbits
