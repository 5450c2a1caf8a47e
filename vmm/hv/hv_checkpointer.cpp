#include "vmm/hv/hv_checkpointer.hpp"

#include <algorithm>

#include "dirtylog/shared_words.hpp"

#ifndef __aarch64__
#include <chrono>
#endif

namespace proa::vmm {
namespace {

constexpr std::uint64_t kHoldPages = 1ull << 18;  // 1 GiB a call bounds its time at EL2
constexpr std::uint64_t kMostPool = 64ull << 20, kLeastPool = 2 * HugeMemory::kChunk;
static_assert(kMostPool / HugeMemory::kChunk <= abi::kMaxCopyChunks);

}  // namespace

std::uint64_t HvCheckpointer::pool_bytes(std::uint64_t ram) {
    const std::uint64_t quarter = ram / 4 / HugeMemory::kChunk * HugeMemory::kChunk;
    return std::clamp(quarter, kLeastPool, kMostPool);
}

HvCheckpointer::~HvCheckpointer() {
    memory_.watch(nullptr);
    // Without an answer proa-hv may still write there. The pages go with the memfd then.
    if (pool_ && !log_and_pool_off()) (void)pool_.release();
}

Result<void> HvCheckpointer::simple(abi::Op op, const char* what, std::initializer_list<std::uint64_t> args) {
    auto r = function_.run(op, what, args);
    if (!r) return tl::unexpected(r.error());
    return {};
}

Result<void> HvCheckpointer::give_pool() {
    for (std::uint64_t i = 0; i < pool_->chunks(); ++i) function_.area().map_list[i] = pool_->physical(i);
    return simple(abi::Op::SetCopyPool, "give memory for copies", {pool_->chunks()});
}

// In this order: with the log goes all that is held, and with that the last reason to write into the pool.
Result<void> HvCheckpointer::log_and_pool_off() {
    auto log =
        simple(abi::Op::DirtyLog, "switch dirty log off", {static_cast<std::uint64_t>(abi::DirtyLogMode::Off)});
    auto pool = simple(abi::Op::SetCopyPool, "take back the memory for copies", {0});
    return pool ? log : pool;
}

Result<void> HvCheckpointer::start(abi::DirtyLogMode mode) {
    if (tracker_) return fail("checkpoints of this guest are being taken already");
    if (mode == abi::DirtyLogMode::Off) return fail("checkpoints need a dirty log");
    auto pool = huge_.append(pool_bytes(memory_.size()), "the copy pool of checkpoints");
    if (!pool) return tl::unexpected(pool.error());
    pool_ = std::move(*pool);
    auto r = give_pool();
    if (r) r = simple(abi::Op::DirtyLog, "switch dirty log", {static_cast<std::uint64_t>(mode)});
    if (!r) {
        (void)stop();
        return r;
    }
    std::vector<abi::CopyChunk*> chunks;
    for (std::uint64_t i = 0; i < pool_->chunks(); ++i)
        chunks.push_back(reinterpret_cast<abi::CopyChunk*>(pool_->bytes().data() + i * HugeMemory::kChunk));
    tracker_ = std::make_unique<CopyTracker>(memory_, std::move(chunks));
    memory_.watch(tracker_.get());
    holding_ = false;
    return {};
}

Result<void> HvCheckpointer::stop() {
    fence_at(0);
    if (!pool_) return {};
    if (auto r = log_and_pool_off(); !r) return r;  // what it may still write stays where it is
    memory_.watch(nullptr);
    tracker_.reset();
    pool_.reset();
    return {};
}

// A failure loses nothing: what was taken from the log is in `pages`, what was not is still there.
Result<std::uint64_t> HvCheckpointer::hold(dirtylog::Bitmap& pages) {
    if (!tracker_) return fail("checkpoints of this guest have not been started");
    if (holding_) return fail("the checkpoint before this one has not been released");
    const dirtylog::SharedWords shared(function_.area().bitmap);
    pages.for_each([&](std::uint64_t w, std::uint64_t bits) { shared.publish(w, bits); });
    std::uint64_t count = 0;
    for (std::uint64_t first = 0; first < memory_.pages(); first += kHoldPages) {
        const std::uint64_t n = std::min(kHoldPages, memory_.pages() - first);
        auto r = function_.run(abi::Op::Hold, "hold pages", {first, n});
        if (!r) {
            (void)simple(abi::Op::Release, "release pages");
            return tl::unexpected(r.error());
        }
        count += r->results[0];
        shared.take(first / 64, (first + n) / 64,
                    [&](std::uint64_t w, std::uint64_t bits) { pages.or_word(w, bits); });
    }
    holding_ = true;
    tracker_->begin(pages);
    return count;
}

Result<void> HvCheckpointer::resume() {
    return simple(abi::Op::Run, "resume guest", {1});
}

void HvCheckpointer::take_copies(const Copied& f) {
    if (tracker_) tracker_->take(f);
}

// Here first: a copy that a device's write still gets after this would be one too many, not one too few.
Result<void> HvCheckpointer::release(std::uint64_t first, std::uint64_t pages) {
    if (!tracker_ || pages == 0) return {};
    tracker_->release(first, pages);
    return simple(abi::Op::Release, "release pages", {first, pages});
}

Result<void> HvCheckpointer::release_all() {
    if (!tracker_) return {};
    tracker_->release_all();
    auto r = simple(abi::Op::Release, "release pages");
    if (r) holding_ = false;
    return r;
}

void HvCheckpointer::fence_at(std::uint64_t counter) {
    function_.write(abi::reg::Fence, counter);
}

// The control domain's virtual counter is the physical one (CNTVOFF_EL2 = 0).
std::uint64_t HvCheckpointer::counter() const {
#ifdef __aarch64__
    std::uint64_t v;
    asm volatile("isb\n mrs %0, cntvct_el0" : "=r"(v)::"memory");
    return v;
#else
    return static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count());
#endif
}

std::uint64_t HvCheckpointer::counter_hz() const {
#ifdef __aarch64__
    std::uint64_t v;
    asm volatile("mrs %0, cntfrq_el0" : "=r"(v));
    return v;
#else
    return std::chrono::steady_clock::period::den / std::chrono::steady_clock::period::num;
#endif
}

}  // namespace proa::vmm
