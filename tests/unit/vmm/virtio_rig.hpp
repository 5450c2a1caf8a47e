// What the tests of virtio devices share: a guest's RAM with one device in it, driven as a driver would, and what stands behind
// the device.
#pragma once
#include <gtest/gtest.h>

#include <condition_variable>
#include <cstring>
#include <deque>

#include "vmm/virtio/block.hpp"
#include "vmm/virtio/net.hpp"

namespace proa::vmm {

inline constexpr std::uint64_t kDesc = abi::kRamBase + 0x1000, kAvail = abi::kRamBase + 0x2000,
                               kUsed = abi::kRamBase + 0x3000, kData = abi::kRamBase + 0x1'0000;

// A guest's RAM and one device, driven through its registers as a driver would.
struct Rig {
    explicit Rig(std::unique_ptr<VirtioBackend> b)
        : bytes(2u << 20),
          memory(bytes),
          device(0, memory, std::move(b), [this](std::uint32_t bits) { raised |= bits; }) {}
    void reg(std::uint64_t at, std::uint32_t v) { device.write(at, 4, v); }
    void start(unsigned queues, std::uint32_t features = 0) {
        reg(0x70, 1 | 2);
        reg(0x24, 0);
        reg(0x20, features);
        reg(0x24, 1);
        reg(0x20, 1);  // VERSION_1
        reg(0x70, 1 | 2 | 8);
        for (unsigned q = 0; q < queues; ++q) {
            reg(0x30, q);
            reg(0x38, 16);
            reg(0x80, static_cast<std::uint32_t>(kDesc + q * 0x4000));
            reg(0x90, static_cast<std::uint32_t>(kAvail + q * 0x4000));
            reg(0xa0, static_cast<std::uint32_t>(kUsed + q * 0x4000));
            reg(0x44, 1);
        }
        reg(0x70, 1 | 2 | 8 | 4);
    }
    template <class T>
    void poke(std::uint64_t gpa, T v) {
        std::memcpy(memory.slice(gpa, sizeof(T))->data(), &v, sizeof(T));
    }
    template <class T>
    T peek(std::uint64_t gpa) {
        T v;
        std::memcpy(&v, memory.slice(gpa, sizeof(T))->data(), sizeof(T));
        return v;
    }
    void descriptor(unsigned q, unsigned i, std::uint64_t addr, std::uint32_t len, std::uint16_t flags,
                    std::uint16_t next = 0) {
        const std::uint64_t at = kDesc + q * 0x4000 + i * 16;
        poke(at, addr);
        poke(at + 8, len);
        poke(at + 12, flags);
        poke(at + 14, next);
    }
    void offer(unsigned q, std::uint16_t head) {
        const std::uint64_t at = kAvail + q * 0x4000;
        const auto idx = peek<std::uint16_t>(at + 2);
        poke(at + 4 + idx % 16 * 2, head);
        poke<std::uint16_t>(at + 2, static_cast<std::uint16_t>(idx + 1));
    }
    std::uint16_t used(unsigned q) { return peek<std::uint16_t>(kUsed + q * 0x4000 + 2); }
    bool needs_reset() { return (device.read(0x70, 4) & 64) != 0; }

    std::vector<std::uint8_t> bytes;
    GuestMemory memory;
    std::uint32_t raised = 0;
    VirtioMmio device;
};

struct Loop {  // runs what the worker posts
    std::mutex mutex;
    std::condition_variable more;
    std::deque<std::function<void()>> tasks;
    Post post() {
        return [this](std::function<void()> f) {
            std::lock_guard lock(mutex);
            tasks.push_back(std::move(f));
            more.notify_one();
        };
    }
    void run_one() {
        std::unique_lock lock(mutex);
        more.wait(lock, [&] { return !tasks.empty(); });
        auto f = std::move(tasks.front());
        tasks.pop_front();
        lock.unlock();
        f();
    }
    template <class Done>
    void run_until(Done done) {
        while (!done()) run_one();
    }
};

struct FakePort final : NetPort {
    std::vector<std::vector<std::uint8_t>> sent;
    std::deque<std::vector<std::uint8_t>> waiting;
    bool wanted = true;
    void send(std::span<const std::uint8_t> f) override { sent.emplace_back(f.begin(), f.end()); }
    std::size_t receive(std::span<std::uint8_t> to) override {
        if (waiting.empty()) return 0;
        const auto f = waiting.front();
        waiting.pop_front();
        std::copy(f.begin(), f.end(), to.begin());
        return f.size();
    }
    void want_input(bool on) override { wanted = on; }
    std::uint64_t offloads() const override { return 0; }
    void set_offloads(std::uint64_t) override {}
};

}  // namespace proa::vmm
