// What the compiler and the runtime call of <string.h>.
#include <string.h>

extern "C" {
void* memcpy(void* to, const void* from, size_t n) {
    auto* t = static_cast<unsigned char*>(to);
    auto* f = static_cast<const unsigned char*>(from);
    while (n-- != 0) *t++ = *f++;
    return to;
}
void* memset(void* to, int c, size_t n) {
    auto* t = static_cast<unsigned char*>(to);
    while (n-- != 0) *t++ = static_cast<unsigned char>(c);
    return to;
}
size_t strlen(const char* s) {
    size_t n = 0;
    while (s[n] != 0) ++n;
    return n;
}
int strncmp(const char* a, const char* b, size_t n) {
    for (; n != 0; --n, ++a, ++b) {
        if (*a != *b) return static_cast<unsigned char>(*a) - static_cast<unsigned char>(*b);
        if (*a == 0) return 0;
    }
    return 0;
}
int strcmp(const char* a, const char* b) {
    return strncmp(a, b, ~size_t{0});
}
}
