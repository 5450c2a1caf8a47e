// What one core does to a dirty page of a checkpoint: copies it (as the engine does, from live memory), and encodes it by what
// has happened to it since the last one. Bytes are guest bytes.
#include <benchmark/benchmark.h>

#include <cstring>
#include <random>
#include <vector>

#include "remus/pages.hpp"

namespace {

using namespace proa;
using remus::kPageBytes;
constexpr std::size_t kPages = 4096, kBytes = kPages * kPageBytes;  // 16 MiB an epoch

enum class Change { None, Zero, Words8, Words64, All };

std::vector<std::uint8_t> noise(std::uint64_t seed) {
    std::vector<std::uint8_t> m(kBytes);
    std::mt19937_64 random(seed);
    for (std::size_t i = 0; i < kBytes; i += 8) {
        const std::uint64_t v = random();
        std::memcpy(m.data() + i, &v, 8);
    }
    return m;
}

// Memory as it is in even and in odd epochs: whatever the change is, it happens in each.
struct Guest {
    explicit Guest(Change c) : even(noise(1)), odd(even) {
        std::mt19937_64 random(2);
        const std::size_t words = c == Change::Words8 ? 8 : c == Change::Words64 ? 64 : 0;
        for (std::size_t p = 0; p < kPages; ++p)
            for (std::size_t w = 0; w < words; ++w) odd[p * kPageBytes + random() % kPageBytes] ^= 0xff;
        if (c == Change::All) odd = noise(3);
        if (c == Change::Zero) std::fill(odd.begin(), odd.end(), 0);
    }
    std::vector<std::uint8_t> even, odd;
};

void encode(benchmark::State& state, Change change, std::uint64_t cache_bytes) {
    const Guest guest(change);
    remus::PageEncoder encoder(kPages, cache_bytes);
    alignas(64) std::uint8_t copy[kPageBytes];
    const auto epoch = [&](const std::vector<std::uint8_t>& memory) {
        for (std::size_t p = 0; p < kPages; ++p) {
            std::memcpy(copy, memory.data() + p * kPageBytes, kPageBytes);
            encoder.add(p, copy);
            if (encoder.full()) benchmark::DoNotOptimize(encoder.take().data());
        }
        if (!encoder.empty()) benchmark::DoNotOptimize(encoder.take().data());
        encoder.commit();
    };
    epoch(guest.even);
    bool odd = true;
    const remus::PageCounts before = encoder.counts();
    for (auto _ : state) {
        if (change == Change::Zero) {  // the backup forgets, so that each epoch's zero pages are news
            state.PauseTiming();
            encoder.reset();
            state.ResumeTiming();
        }
        epoch(odd ? guest.odd : guest.even);
        odd = !odd || change == Change::Zero;
    }
    const auto epochs = static_cast<double>(state.iterations());
    const auto wire = static_cast<double>(encoder.counts().bytes - before.bytes);
    state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations()) * static_cast<std::int64_t>(kBytes));
    state.counters["record_share"] = wire / epochs / static_cast<double>(kBytes);
}

BENCHMARK_CAPTURE(encode, unchanged, Change::None, kBytes);
BENCHMARK_CAPTURE(encode, zero, Change::Zero, kBytes);
BENCHMARK_CAPTURE(encode, delta_8_words, Change::Words8, kBytes);
BENCHMARK_CAPTURE(encode, delta_64_words, Change::Words64, kBytes);
BENCHMARK_CAPTURE(encode, plain, Change::All, kBytes);
BENCHMARK_CAPTURE(encode, plain_without_cache, Change::Words8, 0);

// The backup's side of an epoch: decode everything, then write it into memory.
void commit(benchmark::State& state, Change change) {
    const Guest guest(change);
    remus::PageEncoder encoder(kPages, kBytes);
    std::vector<std::vector<std::uint8_t>> records;
    const auto epoch = [&](const std::vector<std::uint8_t>& memory) {
        records.clear();
        for (std::size_t p = 0; p < kPages; ++p) {
            encoder.add(p, std::span(memory).subspan(p * kPageBytes, kPageBytes));
            if (!encoder.full() && p != kPages - 1) continue;
            const auto r = encoder.take();
            records.emplace_back(r.begin(), r.end());
        }
    };
    epoch(guest.even);
    epoch(guest.odd);
    std::vector<std::uint8_t> ram = guest.even;
    std::vector<remus::PageUpdates> updates;
    for (auto _ : state) {
        for (const auto& r : records) {
            auto u = remus::decode_pages(r, ram, kBytes * 2);
            if (!u) return state.SkipWithError("pages refused");
            updates.push_back(std::move(*u));
        }
        for (const auto& u : updates)
            for (const auto& p : u.pages)
                std::memcpy(ram.data() + p.number * kPageBytes, p.bytes.data(), p.bytes.size());
        state.PauseTiming();
        updates.clear();
        ram = guest.even;
        state.ResumeTiming();
    }
    state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations()) * static_cast<std::int64_t>(kBytes));
}
BENCHMARK_CAPTURE(commit, delta_8_words, Change::Words8);
BENCHMARK_CAPTURE(commit, plain, Change::All);

}  // namespace
