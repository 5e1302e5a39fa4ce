/* First instructions: EL1, MMU off, at the physical address 2 MiB above the start of memory, as
 * QEMU leaves the processor to an ELF file and to an Image (Documentation/arch/arm64/booting.rst). */
#include "guest.h"

        .section .boot, "ax"
        .globl start
start:  b 1f
        .long 0
        .quad 0                         /* text_offset: from a multiple of 2 MiB */
        .quad image_size
        .quad (GRANULE - 10) / 2 << 1   /* little-endian; pages of 4, 16, 64 KiB are 1, 2, 3 */
        .quad 0, 0, 0
        .ascii "ARM\x64"
        .long 0

1:      msr daifset, #15
        msr spsel, #1
        adrp x0, boot_stack_top
        add x0, x0, :lo12:boot_stack_top
        mov sp, x0
        bl boot

        .section .frames, "aw", @nobits
        .balign 16
        .skip 4096
boot_stack_top:
        .section .note.GNU-stack, "", @progbits
