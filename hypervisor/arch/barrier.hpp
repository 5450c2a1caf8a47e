// Barriers and hints, one line each. The names are the instructions'.
#pragma once

namespace proa::hv {

inline void isb() {
    asm volatile("isb" ::: "memory");
}
inline void dsb_ish() {
    asm volatile("dsb ish" ::: "memory");
}
inline void dsb_ishst() {
    asm volatile("dsb ishst" ::: "memory");
}
inline void dsb_sy() {
    asm volatile("dsb sy" ::: "memory");
}
inline void wfi() {
    asm volatile("dsb sy\n wfi" ::: "memory");
}
inline void wfe() {
    asm volatile("wfe" ::: "memory");
}
inline void sev() {
    asm volatile("sev" ::: "memory");
}

}  // namespace proa::hv
