/* Guests that an examination must survive: each enters as PVH and does one bad thing.
 * FLOOD floods the serial line; TRIPLEFAULT resets the processor by three faults in a row;
 * CYCLIC has a page table that is its own next level, 511 times at each of three levels: 4 KiB
 * that a walk takes for 2^36 pages. Without any of them it halts at once and for ever. */
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
        movl $0x20, %eax        /* CR4.PAE */
        movl %eax, %cr4
        movl $level4, %eax
        movl %eax, %cr3
        movl $0xc0000080, %ecx
        rdmsr
        orl $0x100, %eax        /* EFER.LME */
        wrmsr
        movl %cr0, %eax
        orl $0x80000000, %eax   /* CR0.PG: long mode is active, though the code is of 32 bits */
        movl %eax, %cr0
1:      jmp 1b

        .bss
        .balign 4096
level4: .skip 4096
level3: .skip 4096
level2: .skip 4096
#else
1:      hlt
        jmp 1b
#endif
        .section .note.GNU-stack, "", @progbits
