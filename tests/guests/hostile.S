/* Guests that an examination must survive: each enters as PVH and does one bad thing.
 * FLOOD floods the serial line; TRIPLEFAULT resets the processor by three faults in a row;
 * CYCLIC has a page table that is its own next level, 511 times at each of three levels: 4 KiB
 * that a walk takes for 2^36 pages. EVERYWHERE maps all 2^36 pages to the one that holds this code.
 * TOGGLING maps memory read-only, and turns paging off for nearly all of its time. Without any of
 * them it halts at once and for ever. */

/* Long mode is active then, though the code is of 32 bits. */
        .macro enter_paging
        movl $0x20, %eax        /* CR4.PAE */
        movl %eax, %cr4
        movl $level4, %eax
        movl %eax, %cr3
        movl $0xc0000080, %ecx
        rdmsr
        orl $0x100, %eax        /* EFER.LME */
        wrmsr
        movl %cr0, %eax
        orl $0x80010000, %eax   /* CR0.PG, CR0.WP */
        movl %eax, %cr0
        .endm

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
#elif CYCLIC
        movl $511, %ecx
1:      movl $level4 + 7, level4(, %ecx, 8)
        loop 1b
        movl $level3 + 7, level4
        movl $level2 + 7, level3
        movl $0x87, level2      /* the first 2 MiB, where this code is */
        enter_paging
1:      jmp 1b
#elif EVERYWHERE
        movl $start + 3, %ebx
        andl $-4096 + 3, %ebx
        movl $512, %ecx
1:      movl $level3 + 3, level4 - 8(, %ecx, 8)
        movl $level2 + 3, level3 - 8(, %ecx, 8)
        movl $level1 + 3, level2 - 8(, %ecx, 8)
        movl %ebx, level1 - 8(, %ecx, 8)
        loop 1b
        enter_paging
1:      jmp 1b
#elif TOGGLING
        movl $level3 + 3, level4
        movl $level2 + 3, level3
        movl $0x81, level2
        enter_paging
        movl %eax, %edx
        andl $0x7fffffff, %eax
1:      movl %edx, %cr0
        movl $20000, %ecx
2:      loop 2b
        movl %eax, %cr0
        movl $2000000, %ecx
2:      loop 2b
        jmp 1b
#else
1:      hlt
        jmp 1b
#endif

        .bss
        .balign 4096
level4: .skip 4096
level3: .skip 4096
level2: .skip 4096
level1: .skip 4096
        .section .note.GNU-stack, "", @progbits
