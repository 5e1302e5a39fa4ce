/* First instructions: 32-bit protected mode without paging, at the physical address, as PVH
 * (https://xenbits.xen.org/docs/unstable/misc/pvh.html) and multiboot 1 leave the processor.
 * Goes to long mode with the first GiB mapped to itself, and calls boot(). */
#include "guest.h"

#define CR0_PE (1 << 0)
#define CR0_ET (1 << 4)
#define CR0_NE (1 << 5)
#define CR0_WP (1 << 16)
#define CR0_PG (1 << 31)
#define CR4_PAE (1 << 5)
#define MSR_EFER 0xc0000080
#define EFER_SCE 1
#define EFER_LME (1 << 8)
#define EFER_NXE (1 << 11)

#if MULTIBOOT
/* Multiboot 1 with address fields (flag 16): QEMU refuses a 64-bit ELF without them. */
#define MULTIBOOT_MAGIC 0x1badb002
#define MULTIBOOT_FLAGS 0x00010000
        .section .multiboot, "a"
        .balign 4
header: .long MULTIBOOT_MAGIC, MULTIBOOT_FLAGS, -(MULTIBOOT_MAGIC + MULTIBOOT_FLAGS)
        .long header, image_start, image_data_end, image_end, start
#else
/* Xen's note PHYS32_ENTRY (18): where PVH enters. QEMU reads eight bytes of a 64-bit ELF. */
        .section .note.Xen, "a", @note
        .balign 4
        .long 4, 8, 18
        .asciz "Xen"
        .quad start
#endif

        .section .boot, "ax"
        .code32
        .globl start
start:  cli
        cld
        movl $boot_stack_top, %esp

        /* One table each of levels 4 and 3, and one of level 2 with 512 pages of 2 MiB. */
        movl $boot_level3 + 3, boot_level4
        movl $boot_level2 + 3, boot_level3
        xorl %ecx, %ecx
1:      movl %ecx, %eax
        shll $21, %eax
        orl $0x83, %eax
        movl %eax, boot_level2(, %ecx, 8)
        incl %ecx
        cmpl $512, %ecx
        jne 1b

        movl $CR4_PAE, %eax
        movl %eax, %cr4
        movl $boot_level4, %eax
        movl %eax, %cr3
        movl $MSR_EFER, %ecx
        rdmsr
        andl $~EFER_NXE, %eax
        orl $((RING3 | HELPER) * EFER_SCE | EFER_LME | NX * EFER_NXE), %eax
        wrmsr
        movl $(CR0_PE | CR0_ET | CR0_NE | WP * CR0_WP | CR0_PG), %eax
        movl %eax, %cr0
        lgdt boot_gdt_pointer
        ljmp $KERNEL_CODE, $long_mode

        .code64
long_mode:
        movl $KERNEL_DATA, %eax
        movl %eax, %ds
        movl %eax, %es
        movl %eax, %ss
        call boot

        .balign 8
boot_gdt:
        .quad 0
        .quad 0x00af9b000000ffff        /* code, 64 bits, ring 0 */
        .quad 0x00cf93000000ffff        /* data, ring 0 */
boot_gdt_pointer:
        .word boot_gdt_pointer - boot_gdt - 1
        .long boot_gdt

        .section .frames, "aw", @nobits
        .globl boot_level4
        .balign PAGE
boot_level4: .skip PAGE
boot_level3: .skip PAGE
boot_level2: .skip PAGE
        .skip PAGE
boot_stack_top:

        .section .note.GNU-stack, "", @progbits
