// uint64_t garbage_walk(ttbr0, va, high, tcr): continues in the TTBR1 alias at +high, installs TTBR0_EL1 and TCR_EL1, loads
// from va and maintains caches and TLBs for it, puts everything back. The ESR of the fault, or 0. No stack in between.
        .text
        .global garbage_walk
garbage_walk:
        mrs     x9, ttbr0_el1
        mrs     x10, vbar_el1
        mrs     x11, daif
        mrs     x14, tcr_el1
        msr     daifset, #0xf
        mov     x13, #0
        adr     x12, 1f
        add     x12, x12, x2
        br      x12
1:      adr     x12, garbage_vectors    // in the alias, for PC is
        msr     vbar_el1, x12
        isb
        msr     ttbr0_el1, x0
        msr     tcr_el1, x3
        isb
        tlbi    vmalle1
        dsb     sy
        isb
        ldr     x12, [x1]
        at      s1e1w, x1
        isb
        tlbi    vaae1is, x1
        dsb     sy
        ic      ivau, x1
2:      msr     ttbr0_el1, x9
        msr     tcr_el1, x14
        isb
        tlbi    vmalle1
        dsb     sy
        isb
        msr     vbar_el1, x10
        isb
        adr     x12, 3f
        sub     x12, x12, x2
        br      x12
3:      msr     daif, x11
        mov     x0, x13
        ret

        .balign 2048
garbage_vectors:
        .rept   16
        .balign 128
        mrs     x13, esr_el1
        b       2b
        .endr
        .section .note.GNU-stack, "", %progbits
