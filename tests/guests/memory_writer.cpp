// memory-writer MIB RATE: dirties a working set of MIB at RATE MiB/s and checks it all the time. Every page holds its own
// number and the sequence of its last write at both ends; a page that lost or mixed up a write is a MISMATCH. Each
// second one line: WRITER ok checks=N writes=N gap_ms=M (the longest pause it saw itself).
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

namespace {

constexpr std::uint64_t kWords = 512;

std::uint64_t now() {
    timespec t{};
    ::clock_gettime(CLOCK_MONOTONIC, &t);
    return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000u + static_cast<std::uint64_t>(t.tv_nsec);
}

}  // namespace

int main(int argc, char** argv) {
    const std::uint64_t pages = (argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 16) * 256;
    const std::uint64_t rate = (argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 5) * 256;  // pages a second
    auto* memory = static_cast<std::uint64_t*>(
        ::mmap(nullptr, pages * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (memory == MAP_FAILED) return 1;
    std::vector<std::uint64_t> expected(pages);
    std::uint64_t random = 88172645463325252ull;
    const auto write = [&](std::uint64_t page, std::uint64_t sequence) {
        std::uint64_t* p = memory + page * kWords;
        p[0] = page;
        p[1] = sequence;
        p[kWords - 1] = sequence ^ page;
        expected[page] = sequence;
    };
    for (std::uint64_t p = 0; p < pages; ++p) {
        for (std::uint64_t w = 2; w < kWords / 2; ++w) {
            random ^= random << 13, random ^= random >> 7, random ^= random << 17;
            memory[p * kWords + w] = random;  // half of a page doesn't compress
        }
        write(p, 0);
    }
    std::printf("WRITER start pages=%llu rate=%llu\n", static_cast<unsigned long long>(pages),
                static_cast<unsigned long long>(rate));
    std::fflush(stdout);
    std::uint64_t last = now(), report = last, due = 0, at = 0, check = 0, sequence = 0, checks = 0, gap = 0;
    for (;;) {
        const std::uint64_t t = now();
        gap = t - last > gap ? t - last : gap;
        due += rate * (t - last > 200'000'000 ? 200'000'000 : t - last);
        last = t;
        for (; due >= 1'000'000'000; due -= 1'000'000'000) write(at++ % pages, ++sequence);
        for (unsigned i = 0; i < 64; ++i, ++check, ++checks) {
            const std::uint64_t page = check % pages, *p = memory + page * kWords;
            if (p[0] == page && p[1] == expected[page] && p[kWords - 1] == (p[1] ^ page)) continue;
            std::printf("WRITER MISMATCH page=%llu has=%llu wants=%llu\n",
                        static_cast<unsigned long long>(page), static_cast<unsigned long long>(p[1]),
                        static_cast<unsigned long long>(expected[page]));
            std::fflush(stdout);
            return 1;
        }
        if (t - report >= 1'000'000'000) {
            std::printf("WRITER ok checks=%llu writes=%llu gap_ms=%llu\n",
                        static_cast<unsigned long long>(checks), static_cast<unsigned long long>(sequence),
                        static_cast<unsigned long long>(gap / 1'000'000));
            std::fflush(stdout);
            report = t;
            gap = 0;
        }
        const timespec pause{0, 10'000'000};
        ::nanosleep(&pause, nullptr);
    }
}
