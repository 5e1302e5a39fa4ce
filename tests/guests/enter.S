/* Ways into the kernel and out of it: the first entry, traps and calls, the way to the
 * application. Runs at the address that the boot stage has chosen. */
#include "guest.h"

#define MSR_FS_BASE 0xc0000100
#define MSR_GS_BASE 0xc0000101

.macro base msr, symbol
        leaq \symbol(%rip), %rax
        movq %rax, %rdx
        shrq $32, %rdx
        movl $\msr, %ecx
        wrmsr
.endm

        .text
/* enter_kernel(top table): from the boot stage, by address. */
        .globl enter_kernel
enter_kernel:
        movq %rdi, %cr3
        leaq kernel_stack_top(%rip), %rsp
        leaq gdt(%rip), %rax
        subq $16, %rsp
        movw $(gdt_end - gdt - 1), (%rsp)
        movq %rax, 2(%rsp)
        lgdt (%rsp)
        movl $KERNEL_DATA, %eax
        movl %eax, %ds
        movl %eax, %es
        movl %eax, %ss
        xorl %eax, %eax
        movl %eax, %fs
        movl %eax, %gs
        lldt %ax
        leaq 1f(%rip), %rax
        pushq $KERNEL_CODE
        pushq %rax
        lretq
1:      base MSR_FS_BASE, app_thread
        base MSR_GS_BASE, kernel_thread
        leaq kernel_stack_top(%rip), %rsp
        call kernel_main

/* enter_app(stack pointer): the same way into ring 0 and ring 3. Interrupts stay off in the
 * application; it waits by CALL_SLEEP. */
        .globl enter_app
enter_app:
#if RING3
        pushq $(USER_DATA | 3)
        pushq %rdi
        pushq $(2 | USER_PORTS * 0x3000) /* EFLAGS.IOPL */
        pushq $(USER_CODE | 3)
#else
        pushq $KERNEL_DATA
        pushq %rdi
        pushq $2
        pushq $KERNEL_CODE
#endif
        leaq app_main(%rip), %rax
        pushq %rax
        iretq

/* SYSCALL from ring 3: RCX is where it came from, R11 its flags; the stack is still its own. Back
 * by IRETQ, which unlike SYSRET is safe for any RCX. What the kernel left in registers is wiped. */
        .globl call_entry
call_entry:
#if HELPER
        movq app_rsp(%rip), %rsp
        .irp register, r15, r14, r13, r12, rbp, rbx
        popq %\register
        .endr
        ret

/* help(): from ring 0, for a while in ring 3, where a page of its own spins and comes back by
 * SYSCALL. It has no stack. */
        .globl help
help:
        .irp register, rbx, rbp, r12, r13, r14, r15
        pushq %\register
        .endr
        movq %rsp, app_rsp(%rip)
        pushq $(USER_DATA | 3)
        pushq $0
        pushq $2
        pushq $(USER_CODE | 3)
        leaq helper(%rip), %rax
        pushq %rax
        iretq

        .balign PAGE
        .globl helper
helper: movl $HELPER_STEPS, %ecx
1:      loop 1b
        syscall
        .balign PAGE
#else
#if LIFTED
        stac                            /* and never CLAC */
#endif
        movq %rsp, app_rsp(%rip)
        leaq kernel_stack_top(%rip), %rsp
        pushq $(USER_DATA | 3)
        pushq app_rsp(%rip)
        pushq %r11
        pushq $(USER_CODE | 3)
        pushq %rcx
        subq $8, %rsp
        call kernel_call
        addq $8, %rsp
        .irp register, ecx, edx, esi, edi, r8d, r9d, r10d, r11d
        xorl %\register, %\register
        .endr
        iretq
#endif

/* One stub of 16 bytes for each vector; those for which the processor pushes no error code push
 * a zero, so that all frames are alike. */
        .balign 16
        .globl vectors
vectors:
        .set number, 0
        .rept VECTORS
        .balign 16
        .if (number != 8) && (number < 10 || number > 14) && (number != 17) && (number != 21) \
            && (number != 29) && (number != 30)
        pushq $0
        .endif
        pushq $number
        jmp common
        .set number, number + 1
        .endr

common:
        .irp register, rax, rbx, rcx, rdx, rsi, rdi, rbp, r8, r9, r10, r11, r12, r13, r14, r15
        pushq %\register
        .endr
        cld
        movq %rsp, %rdi
        call trap
        .irp register, r15, r14, r13, r12, r11, r10, r9, r8, rbp, rdi, rsi, rdx, rcx, rbx, rax
        popq %\register
        .endr
        addq $16, %rsp
        iretq

        .data
        .balign 16
        .globl gdt
gdt:    .quad 0
        .quad 0x00af9b000000ffff        /* KERNEL_CODE */
        .quad 0x00cf93000000ffff        /* KERNEL_DATA */
        .quad 0x00cff3000000ffff        /* USER_DATA */
        .quad 0x00affb000000ffff        /* USER_CODE */
        .quad 0, 0                      /* TASK: kernel.c fills it */
gdt_end:

        .bss
app_rsp: .skip 8
        .balign 16
        .skip 2 * PAGE
        .globl kernel_stack_top
kernel_stack_top:
        .skip PAGE
        .globl fault_stack_top
fault_stack_top:

        .section .note.GNU-stack, "", @progbits
