// A hostile guest against virtio: the input is a program that pokes registers, writes descriptors and rings anywhere, and
// notifies, and in between is saved and loaded elsewhere. With PROA_FUZZ_SEEDED (tests/fuzz/smoke) the same input does the same
// each time: no disk, whose thread runs beside us, and no entropy but the same.
#include <spdlog/spdlog.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <mutex>

#include "vmm/virtio/block.hpp"
#include "vmm/virtio/console.hpp"
#include "vmm/virtio/net.hpp"

using namespace proa;
using namespace proa::vmm;

namespace {

class Input {
  public:
    Input(const std::uint8_t* p, std::size_t n) : rest_(p, n) {}
    bool empty() const { return rest_.empty(); }
    template <class T>
    T take() {
        T v{};
        const std::size_t n = std::min(sizeof(T), rest_.size());
        if (n != 0) std::memcpy(&v, rest_.data(), n);
        rest_ = rest_.subspan(n);
        return v;
    }

  private:
    std::span<const std::uint8_t> rest_;
};

// What a network would do: every frame sent comes back.
class Loop final : public NetPort {
  public:
    void send(std::span<const std::uint8_t> f) override { frame_.assign(f.begin(), f.end()); }
    std::size_t receive(std::span<std::uint8_t> to) override {
        const std::size_t n = std::min(to.size(), frame_.size());
        if (n != 0) std::memcpy(to.data(), frame_.data(), n);
        frame_.clear();
        return n;
    }
    void want_input(bool) override {}
    std::uint64_t offloads() const override { return 1 | 1ull << 7 | 1ull << 11; }
    void set_offloads(std::uint64_t) override {}

  private:
    std::vector<std::uint8_t> frame_;
};

// What the block back end's thread wants done on the guest's: done between two steps.
class Strand {
  public:
    Post post() {
        return [this](std::function<void()> f) {
            std::lock_guard lock(mutex_);
            todo_.push_back(std::move(f));
        };
    }
    void run() {
        std::vector<std::function<void()>> now;
        {
            std::lock_guard lock(mutex_);
            now.swap(todo_);
        }
        for (auto& f : now) f();
    }
    void clear() {
        std::lock_guard lock(mutex_);
        todo_.clear();
    }

  private:
    std::mutex mutex_;
    std::vector<std::function<void()>> todo_;
};
Strand strand;

bool seeded() {
    static const bool is = std::getenv("PROA_FUZZ_SEEDED") != nullptr;
    return is;
}

enum Kind : unsigned { Rng, Console, Net, Block };
Kind kind_of(std::uint8_t first) {  // a disk starts a thread: less often
    return first % 8 == 7 && !seeded() ? Block : static_cast<Kind>(first % 3);
}

std::unique_ptr<VirtioBackend> backend(Kind kind) {
    static const std::string disk = [] {
        const int fd = ::memfd_create("disk", 0);
        if (::ftruncate(fd, 64 << 10) != 0) std::abort();
        return "/proc/self/fd/" + std::to_string(fd);
    }();
    switch (kind) {
        case Console: return std::make_unique<ConsoleBackend>([](std::span<const std::uint8_t>) {});
        case Net: return std::make_unique<NetBackend>(std::make_unique<Loop>(), MacAddress{2, 0, 0, 0, 0, 1});
        case Block: {
            auto b = BlockBackend::open(disk, false, strand.post());
            if (!b) std::abort();
            return std::move(*b);
        }
        default: return std::make_unique<RngBackend>();
    }
}

constexpr std::uint64_t kArea =
    0x8000;  // descriptors, rings and buffers start in here, unless the input says otherwise

void start(VirtioMmio& d, unsigned queues) {
    const auto reg = [&](std::uint64_t at, std::uint64_t v) { d.write(at, 4, v); };
    reg(0x70, 3);
    reg(0x24, 1);
    reg(0x20, 1);
    reg(0x70, 11);
    for (unsigned q = 0; q < queues; ++q) {
        reg(0x30, q);
        reg(0x38, 16);
        reg(0x80, abi::kRamBase + q * 0x2000);
        reg(0x90, abi::kRamBase + q * 0x2000 + 0x1000);
        reg(0xa0, abi::kRamBase + q * 0x2000 + 0x1800);
        reg(0x44, 1);
    }
    reg(0x70, 15);
}

}  // namespace

// Instead of libc's, for RngBackend: what it writes into guest memory the device may later read as a descriptor.
extern "C" ssize_t getrandom(void* to, size_t n, unsigned flags) {
    if (!seeded()) return ::syscall(SYS_getrandom, to, n, flags);
    std::memset(to, 0x5a, n);
    return static_cast<ssize_t>(n);
}

extern "C" int LLVMFuzzerInitialize(int*, char***) {
    spdlog::set_level(spdlog::level::off);
    return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    Input in(data, size);
    const auto first = in.take<std::uint8_t>();
    const Kind kind = kind_of(first);
    static std::vector<std::uint8_t> ram(2u << 20);
    std::memset(ram.data(), 0, 0x1'0000);
    GuestMemory memory(ram);
    const auto make = [&] {
        return std::make_unique<VirtioMmio>(0, memory, backend(kind), [](std::uint32_t) {});
    };
    auto device = make();
    const unsigned queues = kind == Rng || kind == Block ? 1 : 2;
    if ((first & 0x80) != 0) start(*device, queues);
    for (unsigned steps = 0; !in.empty() && steps < 512; ++steps) {
        strand.run();
        switch (in.take<std::uint8_t>() % 7) {
            case 0:
                device->write(in.take<std::uint16_t>() % 0x200, 1u << in.take<std::uint8_t>() % 4,
                              in.take<std::uint64_t>());
                break;
            case 1:
                (void)device->read(in.take<std::uint16_t>() % 0x200, 1u << in.take<std::uint8_t>() % 4);
                break;
            case 2: {  // anything anywhere in the first pages
                const auto at = in.take<std::uint16_t>() % kArea;
                const auto v = in.take<std::uint64_t>();
                std::memcpy(ram.data() + at, &v, sizeof(v));
                break;
            }
            case 3: {  // a descriptor that makes some sense, and its place in the available ring
                const unsigned q = in.take<std::uint8_t>() % 2, i = in.take<std::uint8_t>() % 16;
                struct {
                    std::uint64_t addr;
                    std::uint32_t len;
                    std::uint16_t flags, next;
                } d{abi::kRamBase + in.take<std::uint16_t>(), in.take<std::uint16_t>(),
                    static_cast<std::uint16_t>(in.take<std::uint8_t>() % 8),
                    static_cast<std::uint16_t>(in.take<std::uint8_t>() % 18)};
                std::memcpy(ram.data() + q * 0x2000 + i * 16, &d, 16);
                std::uint16_t idx;
                std::uint8_t* avail = ram.data() + q * 0x2000 + 0x1000;
                std::memcpy(&idx, avail + 2, 2);
                const auto head = static_cast<std::uint16_t>(i);
                std::memcpy(avail + 4 + idx % 16 * 2, &head, 2);
                ++idx;
                std::memcpy(avail + 2, &idx, 2);
                break;
            }
            case 4: device->write(0x50, 4, in.take<std::uint8_t>()); break;
            case 5: {
                device->quiesce();
                auto state = device->save();
                if (const auto at = in.take<std::uint8_t>(); at < state.size())
                    state[at] ^= in.take<std::uint8_t>();
                auto other = make();
                if (other->load(state)) device = std::move(other);
                device->resume();
                break;
            }
            case 6:
                if (kind == Net) static_cast<NetBackend&>(device->backend()).input();
                break;
        }
    }
    device.reset();
    strand.clear();
    return 0;
}
