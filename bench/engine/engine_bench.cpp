// What one core does to a page on its way out: classify, batch, compress, checksum. Bytes are guest bytes.
#include <benchmark/benchmark.h>

#include <cstring>
#include <random>
#include <vector>

#include "dirtylog/bitmap.hpp"
#include "migrate/page_batch.hpp"
#include "transport/frame.hpp"

namespace {

using namespace proa;
constexpr std::size_t kPages = 4096, kBytes = kPages * migrate::kPageBytes;

enum class Content { Zero, Text, Mixed, Random };

// Text: words out of a small set. Mixed: as measured in a freshly booted Debian guest, about a third of the pages are zero,
// half compress well, the rest hardly at all.
std::vector<std::uint8_t> memory_of(Content c) {
    std::vector<std::uint8_t> m(kBytes);
    std::mt19937_64 random(7);
    static const char* const words[] = {"struct ",  "return ", "0x0000ffff", "page ",
                                        "\0\0\0\0", "kernel ", "00000000"};
    for (std::size_t p = 0; p < kPages; ++p) {
        Content kind = c;
        if (c == Content::Mixed) kind = p % 6 < 2 ? Content::Zero : p % 6 < 5 ? Content::Text : Content::Random;
        std::uint8_t* at = m.data() + p * migrate::kPageBytes;
        if (kind == Content::Random)
            for (std::size_t i = 0; i < migrate::kPageBytes; i += 8) {
                const std::uint64_t v = random();
                std::memcpy(at + i, &v, 8);
            }
        else if (kind == Content::Text)
            for (std::size_t i = 0; i + 12 < migrate::kPageBytes; i += 8)
                std::memcpy(at + i, words[random() % 7], 8 - i % 3);
    }
    return m;
}

void send_path(benchmark::State& state, Content content, int level) {
    const auto memory = memory_of(content);
    transport::Compressor compressor(level);
    migrate::BatchEncoder batch;
    std::uint64_t wire = 0, sequence = 0;
    for (auto _ : state) {
        for (std::size_t p = 0; p < kPages; ++p) {
            batch.add(p, {memory.data() + p * migrate::kPageBytes, migrate::kPageBytes});
            if (!batch.full()) continue;
            const auto raw = batch.bytes();
            const auto small = compressor.compress(raw);
            const auto payload = small.empty() ? raw : small;
            benchmark::DoNotOptimize(transport::seal_frame(
                0x8003, small.empty() ? 0 : 1, static_cast<std::uint32_t>(raw.size()), sequence++, payload));
            wire += payload.size();
            batch.clear();
        }
    }
    state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations()) * static_cast<std::int64_t>(kBytes));
    state.counters["wire_share"] =
        static_cast<double>(wire) / static_cast<double>(state.iterations()) / static_cast<double>(kBytes);
}

BENCHMARK_CAPTURE(send_path, zero_pages, Content::Zero, transport::Compressor::kOff);
BENCHMARK_CAPTURE(send_path, plain, Content::Random, transport::Compressor::kOff);
BENCHMARK_CAPTURE(send_path, mixed_plain, Content::Mixed, transport::Compressor::kOff);
BENCHMARK_CAPTURE(send_path, mixed_zstd_1, Content::Mixed, 1);
BENCHMARK_CAPTURE(send_path, mixed_auto, Content::Mixed, transport::Compressor::kAuto);

// `fresh`: as a migration's first round meets it, memory that nothing was written to.
void receive_path(benchmark::State& state, Content content, bool fresh) {
    const auto memory = memory_of(content);
    std::vector<std::uint8_t> ram(kBytes);
    dirtylog::Bitmap written(kPages);
    std::vector<std::vector<std::uint8_t>> records;
    migrate::BatchEncoder batch;
    for (std::size_t p = 0; p < kPages; ++p) {
        batch.add(p, {memory.data() + p * migrate::kPageBytes, migrate::kPageBytes});
        if (!batch.full()) continue;
        const auto raw = batch.bytes();
        records.emplace_back(raw.begin(), raw.end());
        batch.clear();
    }
    for (auto _ : state)
        for (const auto& r : records)
            if (!migrate::apply_batch(r, ram, fresh ? &written : nullptr)) state.SkipWithError("batch refused");
    state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations()) * static_cast<std::int64_t>(kBytes));
}
BENCHMARK_CAPTURE(receive_path, mixed, Content::Mixed, false);
BENCHMARK_CAPTURE(receive_path, zero_pages, Content::Zero, false);
BENCHMARK_CAPTURE(receive_path, zero_pages_fresh, Content::Zero, true);

}  // namespace
