// Every store of a device model to guest memory has been announced (GuestMemory::before_write) before it is made: else the
// page of a checkpoint would change with no copy of it. Each device does what it can; memory is compared with what it was.
#include <gtest/gtest.h>

#include <cstring>
#include <deque>
#include <fstream>
#include <future>
#include <map>

#include "tests/support/temporary.hpp"
#include "vmm/boot/boot.hpp"
#include "vmm/virtio/block.hpp"
#include "vmm/virtio/console.hpp"
#include "vmm/virtio/net.hpp"

namespace proa::vmm {
namespace {

constexpr std::uint64_t kQueues = abi::kRamBase + 0x10'0000, kData = abi::kRamBase + 0x2'0000;
constexpr std::uint16_t kWritable = 2, kNext = 1;

struct Witness final : WriteWatch {
    explicit Witness(GuestMemory& memory) : m(memory) { m.watch(this); }
    ~Witness() override { m.watch(nullptr); }
    void before_write(std::uint64_t first, std::uint64_t last) override {
        for (std::uint64_t p = first; p <= last; ++p) seen.emplace(p, bytes(p));  // the first time counts
    }
    std::vector<std::uint8_t> bytes(std::uint64_t p) const {
        const auto s = m.page(p);
        return {s.begin(), s.end()};
    }
    void start() {
        before.assign(m.bytes().begin(), m.bytes().end());
        seen.clear();
    }
    // How many pages changed; each was announced, and at that moment still as at the start.
    unsigned check() const {
        unsigned changed = 0;
        for (std::uint64_t p = 0; p < m.pages(); ++p) {
            const std::vector<std::uint8_t> old(before.begin() + static_cast<long>(p * 4096),
                                                before.begin() + static_cast<long>(p * 4096 + 4096));
            if (bytes(p) == old) continue;
            ++changed;
            const auto at = seen.find(p);
            if (at == seen.end())
                ADD_FAILURE() << "page " << p << " was written without a word";
            else
                EXPECT_EQ(at->second, old) << "page " << p << " was written before it was announced";
        }
        return changed;
    }
    GuestMemory& m;
    std::map<std::uint64_t, std::vector<std::uint8_t>> seen;
    std::vector<std::uint8_t> before;
};

// A device with its queues, each of whose rings has pages of its own.
struct Rig {
    Rig(std::unique_ptr<VirtioBackend> b, unsigned queues, std::uint32_t features)
        : bytes(4u << 20), memory(bytes), device(0, memory, std::move(b), [](std::uint32_t) {}), watch(memory) {
        const auto reg = [this](std::uint64_t at, std::uint64_t v) { device.write(at, 4, v & 0xffff'ffff); };
        reg(0x70, 3);
        reg(0x20, features);
        reg(0x24, 1);
        reg(0x20, 1);
        reg(0x70, 11);
        for (unsigned q = 0; q < queues; ++q) {
            reg(0x30, q);
            reg(0x38, 16);
            reg(0x80, at(q));
            reg(0x90, at(q) + 0x1000);
            reg(0xa0, at(q) + 0x2000);
            reg(0x44, 1);
        }
        reg(0x70, 15);
    }
    static std::uint64_t at(unsigned q) { return kQueues + q * 0x4000; }
    template <class T>
    void poke(std::uint64_t gpa, T v) {
        std::memcpy(memory.slice(gpa, sizeof(T))->data(), &v, sizeof(T));
    }
    void descriptor(unsigned q, unsigned i, std::uint64_t addr, std::uint32_t len, std::uint16_t flags,
                    std::uint16_t next = 0) {
        poke(at(q) + i * 16, addr);
        poke(at(q) + i * 16 + 8, len);
        poke(at(q) + i * 16 + 12, flags);
        poke(at(q) + i * 16 + 14, next);
    }
    void offer(unsigned q, std::uint16_t head) {
        poke(at(q) + 0x1004 + offered[q] % 16 * 2, head);
        poke(at(q) + 0x1002, ++offered[q]);
    }
    void notify(unsigned q) {
        watch.start();
        device.write(0x50, 4, q);
    }
    std::vector<std::uint8_t> bytes;
    GuestMemory memory;
    VirtioMmio device;
    Witness watch;
    std::uint16_t offered[4] = {};
};

constexpr std::uint32_t kEventIdx = 1u << 29;

class DeviceWrites : public ::testing::TestWithParam<std::uint32_t> {};
INSTANTIATE_TEST_SUITE_P(Notifies, DeviceWrites, ::testing::Values(0u, kEventIdx),
                         [](const auto& i) { return i.param != 0 ? "EventIdx" : "Flags"; });

TEST_P(DeviceWrites, OfTheEntropyDeviceAreAnnounced) {
    Rig r(std::make_unique<RngBackend>(), 1, GetParam());
    r.descriptor(0, 0, kData, 256, kWritable | kNext, 1);
    r.descriptor(0, 1, kData + 0x5ff0, 64, kWritable);  // over a page's end
    r.offer(0, 0);
    r.notify(0);
    EXPECT_EQ(r.watch.check(), 4u) << "three of data, the used ring";
}

TEST_P(DeviceWrites, OfTheConsoleAreAnnounced) {
    auto backend = std::make_unique<ConsoleBackend>([](auto) {});
    ConsoleBackend& console = *backend;
    Rig r(std::move(backend), 2, GetParam());
    r.descriptor(0, 0, kData, 4, kWritable | kNext, 1);
    r.descriptor(0, 1, kData + 0x3000, 4, kWritable);
    r.offer(0, 0);
    r.watch.start();
    const std::uint8_t text[] = "hello";
    console.input(text);
    EXPECT_EQ(r.watch.check(), 3u);
    r.poke(kData + 0x6000, 'x');
    r.descriptor(1, 0, kData + 0x6000, 1, 0);
    r.offer(1, 0);
    r.notify(1);
    EXPECT_EQ(r.watch.check(), 1u) << "output: the used ring only";
}

struct Port final : NetPort {
    std::deque<std::vector<std::uint8_t>> waiting;
    void send(std::span<const std::uint8_t>) override {}
    std::size_t receive(std::span<std::uint8_t> to) override {
        if (waiting.empty()) return 0;
        const auto f = waiting.front();
        waiting.pop_front();
        std::copy(f.begin(), f.end(), to.begin());
        return f.size();
    }
    void want_input(bool) override {}
    std::uint64_t offloads() const override { return 0; }
    void set_offloads(std::uint64_t) override {}
};

TEST_P(DeviceWrites, OfTheNetworkAreAnnounced) {
    constexpr std::uint32_t kMergeable = 1u << 15, kControl = 1u << 17, kAnnounce = 1u << 21 | 1u << 16;
    auto port = std::make_unique<Port>();
    Port& wire = *port;
    auto backend = std::make_unique<NetBackend>(std::move(port), MacAddress{2, 0, 0, 0, 0, 1});
    NetBackend& net = *backend;
    Rig r(std::move(backend), 3, GetParam() | kMergeable | kControl | kAnnounce);
    for (std::uint16_t i = 0; i < 4; ++i) {
        r.descriptor(0, i, kData + i * 0x2000, 512, kWritable);
        r.offer(0, i);
    }
    wire.waiting.emplace_back(1200, 0x55);  // three buffers, and their count in the first
    r.watch.start();
    net.input();
    EXPECT_EQ(r.watch.check(), 4u);

    r.descriptor(1, 0, kData + 0x1'0000, 100, 0);
    r.offer(1, 0);
    r.notify(1);
    EXPECT_EQ(r.watch.check(), 1u);

    r.poke(kData + 0x1'2000, std::uint16_t{0xffff});  // a command it refuses
    r.descriptor(2, 0, kData + 0x1'2000, 2, kNext, 1);
    r.descriptor(2, 1, kData + 0x1'4000, 1, kWritable);
    r.offer(2, 0);
    r.notify(2);
    EXPECT_EQ(r.watch.check(), 2u);
}

TEST_P(DeviceWrites, OfTheDiskAreAnnouncedWhenItTakesTheRequest) {
    test::TemporaryDirectory directory;
    const std::string path = directory / "disk";
    std::ofstream(path) << std::string(65536, 'd');
    std::promise<void> served;
    auto backend = BlockBackend::open(path, false, [&](std::function<void()>) { served.set_value(); });
    ASSERT_TRUE(backend);
    Rig r(std::move(*backend), 1, GetParam());
    r.poke(kData, std::uint32_t{0});  // read sector 0
    r.poke(kData + 8, std::uint64_t{0});
    r.descriptor(0, 0, kData, 16, kNext, 1);
    r.descriptor(0, 1, kData + 0x4000, 8192, kWritable | kNext, 2);
    r.poke(kData + 0x8000, std::uint8_t{0xff});
    r.descriptor(0, 2, kData + 0x8000, 1, kWritable);
    r.offer(0, 0);
    r.notify(0);
    ASSERT_EQ(served.get_future().wait_for(std::chrono::minutes(1)), std::future_status::ready);
    r.device.quiesce();  // what follows the worker's part
    EXPECT_EQ(r.watch.check(), 4u) << "two pages, the status, the used ring";
    r.device.resume();
}

TEST(GuestMemory, TellsNobodyWhenNobodyWatches) {
    std::vector<std::uint8_t> bytes(2u << 20);
    GuestMemory m(bytes);
    m.before_write(abi::kRamBase, 4096);
    Witness w(m);
    m.before_write(abi::kRamBase + 4096, 0);
    EXPECT_TRUE(w.seen.empty()) << "nothing to write";
    m.before_write(abi::kRamBase + 4095, 2);
    EXPECT_EQ(w.seen.size(), 2u);
}

TEST(Boot, OfARebootIsAnnouncedToo) {
    std::vector<std::uint8_t> bytes(8u << 20);
    GuestMemory m(bytes);
    test::TemporaryDirectory directory;
    const std::string kernel = directory / "kernel";
    std::ofstream(kernel) << std::string(10'000, 'k');
    Witness w(m);
    w.start();
    BootRequest b;
    b.kernel = kernel;
    b.vcpus = 1;
    ASSERT_TRUE(load_guest(m, b));
    EXPECT_GE(w.check(), 4u);
}

}  // namespace
}  // namespace proa::vmm
