// Exception vectors at EL1: everything goes to on_exception(kind, frame), which may change the frame. Kind is the vector's
// number: 4 sync, 5 IRQ, 6 FIQ, 7 SError at EL1; 8.. from EL0.
        .text
        .macro  vector kind
        .balign 128
        sub     sp, sp, #272
        stp     x0, x1, [sp, #0]
        mov     x0, #\kind
        b       save_and_handle
        .endm

        .balign 2048
        .global vectors
vectors:
        .irp    kind, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
        vector  \kind
        .endr

save_and_handle:
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
        mrs     x1, elr_el1
        mrs     x2, spsr_el1
        stp     x30, x1, [sp, #240]
        str     x2, [sp, #256]
        mov     x1, sp
        bl      on_exception
        ldp     x30, x1, [sp, #240]
        ldr     x2, [sp, #256]
        msr     elr_el1, x1
        msr     spsr_el1, x2
        ldp     x2, x3, [sp, #16]
        ldp     x4, x5, [sp, #32]
        ldp     x6, x7, [sp, #48]
        ldp     x8, x9, [sp, #64]
        ldp     x10, x11, [sp, #80]
        ldp     x12, x13, [sp, #96]
        ldp     x14, x15, [sp, #112]
        ldp     x16, x17, [sp, #128]
        ldp     x18, x19, [sp, #144]
        ldp     x20, x21, [sp, #160]
        ldp     x22, x23, [sp, #176]
        ldp     x24, x25, [sp, #192]
        ldp     x26, x27, [sp, #208]
        ldp     x28, x29, [sp, #224]
        ldp     x0, x1, [sp, #0]
        add     sp, sp, #272
        eret

// bool guarded(Escape* e, void (*f)(void*), void* argument): runs f; true if a synchronous exception ended it (the handler
// sets the frame's ELR to `escape` and x0 to e). Only callee-saved registers have to survive.
        .global guarded, escape
guarded:
        stp     x29, x30, [sp, #-96]!
        stp     x19, x20, [sp, #16]
        stp     x21, x22, [sp, #32]
        stp     x23, x24, [sp, #48]
        stp     x25, x26, [sp, #64]
        stp     x27, x28, [sp, #80]
        mov     x9, sp
        str     x9, [x0]                // Escape::sp; non-zero: armed
        mov     x19, x0
        mov     x0, x2
        blr     x1
        str     xzr, [x19]
        mov     x0, #0
        b       1f
escape:
        ldr     x9, [x0]
        mov     sp, x9
        str     xzr, [x0]
        mov     x0, #1
1:      ldp     x19, x20, [sp, #16]
        ldp     x21, x22, [sp, #32]
        ldp     x23, x24, [sp, #48]
        ldp     x25, x26, [sp, #64]
        ldp     x27, x28, [sp, #80]
        ldp     x29, x30, [sp], #96
        ret
        .section .note.GNU-stack, "", %progbits
