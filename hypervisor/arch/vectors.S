// EL2 exception vectors. From a lower EL: save the trap frame of the current vCPU (Pcpu::frame, offset 0 of what
// TPIDR_EL2 points to), call C++, restore whichever vCPU is current then. From EL2 itself: a bug, panic.
        .text
        .macro  lower kind
        .balign 128
        stp     x0, x1, [sp, #-16]!
        mrs     x0, tpidr_el2
        ldr     x0, [x0]
        stp     x2, x3, [x0, #16]
        mov     x2, #\kind
        b       save_and_trap
        .endm
        .macro  fatal kind
        .balign 128
        msr     sp_el0, x0              // a stack that ran into its guard page can't be used to say so:
        mrs     x0, tpidr_el2           // Pcpu::emergency_stack, offset 8
        ldr     x0, [x0, #8]
        sub     x0, x0, #272
        str     x1, [x0, #8]
        mov     x1, sp
        str     x1, [x0, #264]
        mov     sp, x0
        mrs     x1, sp_el0
        str     x1, [sp]
        mov     x0, #\kind
        b       fatal_exception
        .endm

        .balign 2048
        .global el2_vectors
el2_vectors:
        fatal   0               // current EL, SP_EL0
        fatal   1
        fatal   2
        fatal   3
        fatal   4               // current EL, SP_EL2: sync, irq, fiq, serror
        fatal   5
        fatal   6
        fatal   7
        lower   0               // lower EL, AArch64: sync, irq, fiq, serror
        lower   1
        lower   2
        lower   3
        fatal   12              // lower EL, AArch32: no domain runs it
        fatal   13
        fatal   14
        fatal   15

save_and_trap:
        stp     x4, x5, [x0, #32]
        stp     x6, x7, [x0, #48]
        stp     x8, x9, [x0, #64]
        stp     x10, x11, [x0, #80]
        stp     x12, x13, [x0, #96]
        stp     x14, x15, [x0, #112]
        stp     x16, x17, [x0, #128]
        stp     x18, x19, [x0, #144]
        stp     x20, x21, [x0, #160]
        stp     x22, x23, [x0, #176]
        stp     x24, x25, [x0, #192]
        stp     x26, x27, [x0, #208]
        stp     x28, x29, [x0, #224]
        ldp     x4, x5, [sp], #16
        stp     x4, x5, [x0, #0]
        mrs     x4, elr_el2
        mrs     x5, spsr_el2
        stp     x30, x4, [x0, #240]
        str     x5, [x0, #256]
        mov     w0, w2
        mov     x29, #0
        mov     x30, #0
        bl      trap_entry
        .global return_to_domain
return_to_domain:
        mrs     x0, tpidr_el2
        ldr     x0, [x0]
        ldp     x30, x4, [x0, #240]
        ldr     x5, [x0, #256]
        msr     elr_el2, x4
        msr     spsr_el2, x5
        ldp     x2, x3, [x0, #16]
        ldp     x4, x5, [x0, #32]
        ldp     x6, x7, [x0, #48]
        ldp     x8, x9, [x0, #64]
        ldp     x10, x11, [x0, #80]
        ldp     x12, x13, [x0, #96]
        ldp     x14, x15, [x0, #112]
        ldp     x16, x17, [x0, #128]
        ldp     x18, x19, [x0, #144]
        ldp     x20, x21, [x0, #160]
        ldp     x22, x23, [x0, #176]
        ldp     x24, x25, [x0, #192]
        ldp     x26, x27, [x0, #208]
        ldp     x28, x29, [x0, #224]
        ldp     x0, x1, [x0, #0]
        eret
        dsb     nsh             // no straight-line speculation past ERET
        isb

fatal_exception:
        stp     x2, x3, [sp, #16]
        stp     x4, x5, [sp, #32]
        stp     x6, x7, [sp, #48]
        stp     x8, x9, [sp, #64]
        stp     x10, x11, [sp, #80]
        stp     x12, x13, [sp, #96]
        stp     x14, x15, [sp, #112]
        stp     x16, x17, [sp, #128]
        stp     x18, x19, [sp, #144]
        stp     x20, x21, [sp, #160]
        stp     x22, x23, [sp, #176]
        stp     x24, x25, [sp, #192]
        stp     x26, x27, [sp, #208]
        stp     x28, x29, [sp, #224]
        mrs     x4, elr_el2
        mrs     x5, spsr_el2
        stp     x30, x4, [sp, #240]
        str     x5, [sp, #256]
        mov     x1, sp
        bl      el2_fault
        b       .
        .section .note.GNU-stack, "", %progbits
