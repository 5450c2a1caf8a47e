// Entry from the boot loader (arm64 Image header, Linux Documentation/arm64/booting.rst) and from PSCI CPU_ON.
// x0 = device tree. MMU off, EL2. Relocates itself (the image may be loaded anywhere, 4 KiB aligned), clears BSS,
// builds the first tables (early_tables) and turns the MMU on before any C++ that could touch memory unaligned.
        .section .head.1, "ax"
        .global image_start
image_start:
        b       entry
        .long   0
        .quad   0                       // text_offset
        // image_size: the linker script puts the quad here
        .section .head.2, "ax"
        .quad   (1 << 3) | (1 << 1)     // little endian, 4 KiB pages, anywhere
        .quad   0, 0, 0
        .ascii  "ARM\x64"
        .long   0

        .text
entry:
        mrs     x1, CurrentEL
        cmp     x1, #(2 << 2)
        b.ne    not_el2
        msr     daifset, #0xf
        mov     x19, x0
        adrp    x1, el2_vectors         // a fault from here on hangs at least in our code
        add     x1, x1, :lo12:el2_vectors
        msr     vbar_el2, x1

        adrp    x0, bss_start
        add     x0, x0, :lo12:bss_start
        adrp    x1, bss_end
        add     x1, x1, :lo12:bss_end
1:      str     xzr, [x0], #8
        cmp     x0, x1
        b.lo    1b

        adrp    x0, image_start         // R_AARCH64_RELATIVE: *(base + offset) = base + addend
        adrp    x1, rela_start
        add     x1, x1, :lo12:rela_start
        adrp    x2, rela_end
        add     x2, x2, :lo12:rela_end
2:      cmp     x1, x2
        b.hs    3f
        ldp     x3, x4, [x1], #16
        ldr     x5, [x1], #8
        cmp     x4, #1027
        b.ne    not_el2
        add     x5, x5, x0
        str     x5, [x0, x3]
        b       2b
3:
        adrp    x0, boot_stack_top
        add     x0, x0, :lo12:boot_stack_top
        mov     sp, x0
        adrp    x0, boot_pcpu
        add     x0, x0, :lo12:boot_pcpu
        msr     tpidr_el2, x0
        mov     x0, x19
        bl      early_tables            // returns TTBR0_EL2
        bl      enable_mmu
        mov     x0, x19
        bl      boot_main
        b       return_to_domain

// x0 = TTBR0_EL2. MAIR, TCR and SCTLR values come from early_mmu_values (C++, typed).
        .global enable_mmu
enable_mmu:
        adrp    x1, early_mmu_values
        add     x1, x1, :lo12:early_mmu_values
        ldp     x2, x3, [x1]
        ldr     x4, [x1, #16]
        msr     mair_el2, x2
        msr     tcr_el2, x3
        msr     ttbr0_el2, x0
        isb
        tlbi    alle2
        ic      iallu
        dsb     sy
        isb
        msr     sctlr_el2, x4
        isb
        ret

// A secondary CPU: x0 = its Pcpu; SecondaryStart in it at fixed offsets (pcpu.hpp): +16 stack top, +24 TTBR0_EL2.
        .global secondary_entry
secondary_entry:
        msr     daifset, #0xf
        msr     tpidr_el2, x0
        mov     x19, x0
        adrp    x1, el2_vectors
        add     x1, x1, :lo12:el2_vectors
        msr     vbar_el2, x1
        ldr     x1, [x19, #16]
        ldr     x0, [x19, #24]
        mov     sp, x1
        bl      enable_mmu
        mov     x0, x19
        bl      secondary_main
        b       return_to_domain

not_el2:
        wfi
        b       not_el2

        .bss
        .balign 4096
boot_stack_guard:
        .skip   4096
        .global boot_stack_guard
        .skip   16384
boot_stack_top:
        .global boot_stack_top
        .section .note.GNU-stack, "", %progbits
