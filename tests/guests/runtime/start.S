// Entry at EL1, MMU off: from the loader (arm64 Image header, Linux Documentation/arm64/booting.rst) with x0 = device
// tree, and from PSCI CPU_ON with x0 = CPU number. Sets stack, vectors and MMU, then calls C++.
// adr_l reg, symbol: +-4 GiB.
        .macro  adr_l reg, symbol
        adrp    \reg, \symbol
        add     \reg, \reg, :lo12:\symbol
        .endm

        .section .head, "ax"
        b       boot_entry
        .long   0
        .quad   0x80000                 // text_offset
        .quad   image_size
        .quad   (1 << 1)                // little endian, 4 KiB pages
        .quad   0, 0, 0
        .ascii  "ARM\x64"
        .long   0

        .text
boot_entry:
        msr     daifset, #0xf
        mov     x19, x0
        adr_l   x0, bss_start
        adr_l   x1, bss_end
1:      stp     xzr, xzr, [x0], #16
        cmp     x0, x1
        b.lo    1b
        mov     x0, #0
        bl      own_stack
        bl      make_tables             // writes with the MMU off: nothing of it is in a cache
        bl      enable_mmu
        mov     x0, x19
        bl      boot_main
        b       .

        .global secondary_entry
secondary_entry:
        msr     daifset, #0xf
        mov     x19, x0
        bl      own_stack
        bl      enable_mmu
        mov     x0, x19
        bl      secondary_main
        b       .

// SP for CPU x0, VBAR.
own_stack:
        adr_l   x1, stacks
        add     x2, x0, #1
        lsl     x2, x2, #15
        add     x1, x1, x2
        mov     sp, x1
        adr_l   x1, vectors
        msr     vbar_el1, x1
        isb
        ret

        .global enable_mmu
enable_mmu:
        adr_l   x1, mmu_values
        ldp     x2, x3, [x1]
        ldp     x4, x5, [x1, #16]
        msr     mair_el1, x2
        msr     tcr_el1, x3
        msr     ttbr0_el1, x4
        msr     ttbr1_el1, x4
        isb
        tlbi    vmalle1
        dsb     nsh
        isb
        msr     sctlr_el1, x5
        isb
        ret

        .bss
        .balign 4096
        .global stacks
stacks: .skip   8 * 32768
        .section .note.GNU-stack, "", %progbits
