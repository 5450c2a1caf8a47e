// A guest without a hypervisor: RAM in this process, one "vCPU" that is a thread which writes to it, a dirty log that
// shares a lock with those writes, a device with state. What the engine is tested with on the build host.
#pragma once
#include <algorithm>
#include <atomic>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <condition_variable>
#include <deque>
#include <functional>
#include <future>
#include <mutex>
#include <random>
#include <string>
#include <thread>

#include "vmm/guest.hpp"

namespace proa::test {

class FakeMachine final : public vmm::Machine, private vmm::Checkpointer {
    using Clock = std::chrono::steady_clock;

  public:
    explicit FakeMachine(vmm::GuestMemory& m, unsigned seed)
        : memory_(m), log_(m.pages()), held_(m.pages()), random_(seed) {
        state_.vcpus.resize(2);
        for (auto& v : state_.vcpus) v.version = abi::kStateVersion;
        state_.vcpus[0].power = abi::PowerState::On;
        state_.gic.vcpu_count = 2;
        state_.gic.spi_count = 64;
        state_.gic.version = state_.time.version = state_.latches.version = state_.policy.version =
            abi::kStateVersion;
        state_.latches.count = abi::kVirtioSlots;
        cpu_ = std::thread([this] { execute(); });
    }
    ~FakeMachine() override {
        {
            std::lock_guard lock(mutex_);
            end_ = true;
            changed_.notify_all();
        }
        cpu_.join();
    }

    vmm::Result<void> run() override {
        if (fail_run) return vmm::fail("injected: cannot run");
        std::lock_guard lock(mutex_);
        if (fence_ != 0 && fence_ <= now()) {
            trip();
            return vmm::fail("the fence has passed");
        }
        running_ = ever_ran_ = true;
        changed_.notify_all();
        return {};
    }
    vmm::Result<void> pause() override {
        std::lock_guard lock(mutex_);  // the vCPU writes under it: when this is taken, it has stopped
        running_ = false;
        return {};
    }
    vmm::Result<void> reset() override { return {}; }
    vmm::Result<vmm::MachineState> save() override {
        std::lock_guard lock(mutex_);
        if (running_) return vmm::fail("not paused");
        state_.vcpus[0].pc = writes_;
        return state_;
    }
    vmm::Result<void> load(const vmm::MachineState& s) override {
        if (fail_load) return vmm::fail("injected: state refused");
        std::lock_guard lock(mutex_);
        state_ = s;
        writes_ = s.vcpus[0].pc;
        return {};
    }
    vmm::Result<abi::CpuPolicy> policy() override { return state_.policy; }
    vmm::Result<void> define_notify(std::uint64_t, unsigned) override { return {}; }
    vmm::Result<void> define_latch(unsigned, std::uint64_t, std::uint32_t) override { return {}; }
    void set_irq(std::uint32_t, bool) override {}
    void set_latch(unsigned, std::uint32_t) override {}
    vmm::Result<void> set_affinity(unsigned, std::uint64_t) override { return {}; }
    vmm::Result<void> set_weight(unsigned) override { return {}; }
    vmm::Result<void> set_throttle(unsigned percent) override {
        throttle = percent;
        most_throttled = std::max(most_throttled.load(), percent);
        return {};
    }
    bool has_hardware_dirty_log() const override { return false; }
    vmm::Result<void> dirty_log(abi::DirtyLogMode m) override {
        std::lock_guard lock(mutex_);
        mode = m;
        return {};
    }
    vmm::Result<std::uint64_t> harvest(dirtylog::Bitmap& into) override {
        std::lock_guard lock(mutex_);
        const std::uint64_t n = log_.count();
        log_.drain_into(into);
        return n;
    }
    vmm::Result<void> accessed(dirtylog::Bitmap& into) override {
        for (std::uint64_t p = 0; p < std::min(used_pages, into.pages()); ++p) into.set(p);
        return {};
    }
    vmm::Checkpointer* checkpoints() override { return this; }
    vmm::Result<abi::GuestStats> stats() override { return abi::GuestStats{}; }
    int event_fd() const override { return -1; }
    void dispatch(vmm::MachineEvents&) override {}

    bool runs() {
        std::lock_guard lock(mutex_);
        return running_;
    }
    bool ever_ran() {
        std::lock_guard lock(mutex_);
        return ever_ran_;
    }
    std::uint64_t writes() {
        std::lock_guard lock(mutex_);
        return writes_;
    }
    vmm::MachineState& state() { return state_; }

    // Time passes for this machine: a fence that was set in between stops the guest now, and keeps it from being run until it
    // is moved by a renewal that was sent after this.
    void reach_fence() { pass(std::chrono::hours(1)); }
    void pass(Clock::duration time) {
        std::lock_guard lock(mutex_);
        skipped_ += time;
        if (fence_ != 0 && fence_ <= now()) trip();
    }
    bool has_fence() {
        std::lock_guard lock(mutex_);
        return fence_ != 0;
    }
    std::function<void()> when_fenced;  // from any thread, hear_fence() will say so; set before it runs
    bool hear_fence() {
        std::lock_guard lock(mutex_);
        return std::exchange(fenced_, false);
    }

    std::atomic<unsigned> pages_per_ms{0}, throttle{0}, most_throttled{0};
    std::atomic<bool> fail_run{false}, fail_load{false}, fail_hold{false};
    abi::DirtyLogMode mode = abi::DirtyLogMode::Off;
    std::uint64_t used_pages = ~0ull;  // by the guest, from its first on

  private:
    vmm::Result<void> start(abi::DirtyLogMode m) override { return dirty_log(m); }
    bool started() const override { return mode != abi::DirtyLogMode::Off; }
    vmm::Result<void> stop() override {
        (void)release_all();
        return dirty_log(abi::DirtyLogMode::Off);
    }
    vmm::Result<std::uint64_t> hold(dirtylog::Bitmap& pages) override {
        std::lock_guard lock(mutex_);
        if (running_) return vmm::fail("not paused");
        if (fail_hold) return vmm::fail("injected: cannot hold");
        log_.drain_into(pages);
        for (std::uint64_t p = 0; p < pages.pages(); ++p)
            if (pages.test(p)) held_.set(p);
        return pages.count();
    }
    vmm::Result<void> resume() override { return run(); }
    void take_copies(const Copied& f) override {
        std::lock_guard lock(mutex_);
        for (; taken_ < copies_.size(); ++taken_) f(copies_[taken_].first, copies_[taken_].second);
    }
    vmm::Result<void> release(std::uint64_t first, std::uint64_t pages) override {
        std::lock_guard lock(mutex_);
        for (std::uint64_t w = first / 64; w < (first + pages) / 64; ++w) (void)held_.take_word(w);
        return {};
    }
    vmm::Result<void> release_all() override {
        std::lock_guard lock(mutex_);
        held_.drain([](auto, auto) {});
        copies_.clear();
        taken_ = 0;
        return {};
    }
    void fence_at(std::uint64_t counter) override {
        std::lock_guard lock(mutex_);
        fence_ = counter;
        if (fence_ != 0 && fence_ <= now()) trip();
    }
    std::uint64_t counter() const override {
        std::lock_guard lock(mutex_);
        return now();
    }
    std::uint64_t counter_hz() const override { return 1'000'000'000; }
    std::uint64_t now() const {  // under the lock
        return static_cast<std::uint64_t>((Clock::now().time_since_epoch() + skipped_) /
                                          std::chrono::nanoseconds(1));
    }
    void trip() {  // under the lock
        running_ = false;
        fenced_ = true;
        if (when_fenced) when_fenced();
    }
    void before_write(std::uint64_t page) {  // under the lock
        if (!held_.test(page)) return;
        const auto b = memory_.page(page);
        copies_.emplace_back(page, std::vector<std::uint8_t>(b.begin(), b.end()));
        held_words_without(page);
    }
    void held_words_without(std::uint64_t page) {
        const std::uint64_t rest = held_.take_word(page / 64) & ~(1ull << page % 64);
        held_.or_word(page / 64, rest);
    }
    void execute() {
        for (std::unique_lock lock(mutex_);;) {
            changed_.wait(lock, [this] { return end_ || running_; });
            if (end_) return;
            for (unsigned i = pages_per_ms * (100 - throttle) / 100; i > 0; --i) {
                const std::uint64_t page = random_() % memory_.pages();
                before_write(page);
                memory_.page(page)[random_() % 4096] = static_cast<std::uint8_t>(random_());
                if (mode != abi::DirtyLogMode::Off) log_.set(page);
                ++writes_;
            }
            changed_.wait_for(lock, std::chrono::milliseconds(1), [this] { return end_ || !running_; });
        }
    }
    vmm::GuestMemory& memory_;
    dirtylog::Bitmap log_, held_;
    std::deque<std::pair<std::uint64_t, std::vector<std::uint8_t>>> copies_;  // addresses stay
    std::size_t taken_ = 0;
    std::uint64_t fence_ = 0;
    Clock::duration skipped_{};
    std::mt19937_64 random_;
    vmm::MachineState state_;
    std::uint64_t writes_ = 0;
    bool running_ = false, ever_ran_ = false, end_ = false, fenced_ = false;
    mutable std::mutex mutex_;
    std::condition_variable changed_;
    std::thread cpu_;
};

class FakeDevice final : public vmm::Device {
  public:
    explicit FakeDevice(std::string name) : name_(std::move(name)) {}
    std::string name() const override { return name_; }
    std::uint64_t read(std::uint64_t, unsigned) override { return 0; }
    void write(std::uint64_t, unsigned, std::uint64_t) override {}
    void reset() override {}
    void quiesce() override { quiet = true; }
    void resume() override { quiet = false; }
    std::vector<std::uint8_t> save() const override { return state; }
    vmm::Result<void> load(std::span<const std::uint8_t> s) override {
        state.assign(s.begin(), s.end());
        return {};
    }
    std::vector<std::vector<std::uint8_t>> take_input(std::size_t most) override {
        std::vector<std::vector<std::uint8_t>> taken;
        while (quiet && taken.size() < most && !outside.empty()) {
            taken.push_back(std::move(outside.front()));
            outside.erase(outside.begin());
        }
        return taken;
    }
    void give_input(std::span<const std::uint8_t> b) override { given.emplace_back(b.begin(), b.end()); }
    std::vector<std::uint8_t> state;
    std::vector<std::vector<std::uint8_t>> outside,
        given;  // the guest's thread, or before and after everything
    std::atomic<bool> quiet{false};

  private:
    std::string name_;
};

// Frames are numbers.
class FakeOutput final : public vmm::Output {
  public:
    void send(std::uint64_t frame) {
        std::lock_guard lock(mutex_);
        if (shut_) return;
        if (holding_)
            held_.emplace_back(epoch_, frame);
        else
            left_.push_back(frame);
    }
    std::vector<std::uint64_t> left() {
        std::lock_guard lock(mutex_);
        return left_;
    }
    bool holds() {
        std::lock_guard lock(mutex_);
        return holding_;
    }
    void hold(std::uint64_t epoch) override {
        std::lock_guard lock(mutex_);
        holding_ = true;
        epoch_ = epoch;
    }
    void seal(std::uint64_t epoch) override {
        std::lock_guard lock(mutex_);
        epoch_ = epoch;
    }
    void release(std::uint64_t epoch) override {
        std::lock_guard lock(mutex_);
        for (; !held_.empty() && held_.front().first <= epoch; held_.pop_front())
            left_.push_back(held_.front().second);
    }
    void open() override {
        release(~0ull);
        std::lock_guard lock(mutex_);
        holding_ = false;
    }
    void shut() override {
        std::lock_guard lock(mutex_);
        held_.clear();
        shut_ = true;
    }
    vmm::OutputHeld held() const override {
        std::lock_guard lock(mutex_);
        return {held_.size(), held_.size() * 64, 0};
    }

  private:
    mutable std::mutex mutex_;
    std::deque<std::pair<std::uint64_t, std::uint64_t>> held_;
    std::vector<std::uint64_t> left_;
    std::uint64_t epoch_ = 0;
    bool holding_ = false, shut_ = false;
};

class FakeGuest final : public vmm::Guest {
  public:
    FakeGuest(std::uint64_t bytes, unsigned seed, vmm::GuestState state)
        : ram_(bytes), memory_(ram_), machine_(memory_, seed), state_(state) {
        machine_.when_fenced = [this] { boost::asio::post(io_, [this] { hear_events(); }); };
        for (const char* n : {"uart", "virtio0:block"}) {
            owned_.push_back(std::make_unique<FakeDevice>(n));
            devices_.push_back(owned_.back().get());
        }
        thread_ = std::thread([this] { io_.run(); });
    }
    ~FakeGuest() override {
        work_.reset();
        io_.stop();
        thread_.join();
    }
    boost::asio::io_context& io() override { return io_; }
    const std::string& name() const override { return name_; }
    FakeMachine& machine() override { return machine_; }
    vmm::GuestMemory& memory() override { return memory_; }
    const std::vector<vmm::Device*>& devices() const override { return devices_; }
    FakeDevice& device(std::size_t i) { return *owned_[i]; }
    vmm::GuestState state() const override { return state_; }
    void set_state(vmm::GuestState s) override { state_ = s; }
    vmm::Result<void> freeze() override {
        if (auto r = machine_.pause(); !r) return r;
        state_ = vmm::GuestState::Switching;
        for (auto* d : devices_) d->quiesce();
        return {};
    }
    vmm::Result<void> thaw() override {
        for (auto* d : devices_) d->resume();
        auto r = machine_.run();
        if (r) state_ = vmm::GuestState::Running;
        return r;
    }
    vmm::Result<void> start_incoming() override {
        for (auto* d : devices_) d->arrive();
        if (auto r = machine_.run(); !r) return r;
        for (auto* d : devices_) d->resume();
        state_ = vmm::GuestState::Running;
        return {};
    }

    vmm::Result<bool> has_memory(std::chrono::milliseconds) override {
        return memory_comes ? memory_comes() : vmm::Result<bool>(true);
    }
    // On whatever thread waits for it, who asks again after a false; set before somebody may.
    std::function<vmm::Result<bool>()> memory_comes;

    void hear_events() override {
        if (machine_.hear_fence() && fenced) fenced();
    }
    std::function<void()> fenced;  // on the guest's thread; set before it runs

    FakeOutput* output() override { return &output_; }
    vmm::Result<void> pause_briefly() override {
        if (auto r = machine_.pause(); !r) return r;
        for (auto* d : devices_) d->quiesce();
        return {};
    }
    vmm::Result<void> go_on() override {
        for (auto* d : devices_) d->resume();
        return machine_.run();
    }

  private:
    std::string name_ = "fake";
    FakeOutput output_;
    std::vector<std::uint8_t> ram_;
    vmm::GuestMemory memory_;
    FakeMachine machine_;
    std::vector<std::unique_ptr<FakeDevice>> owned_;
    std::vector<vmm::Device*> devices_;
    std::atomic<vmm::GuestState> state_;
    boost::asio::io_context io_;
    boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_ = make_work_guard(io_);
    std::thread thread_;
};

// Of each 2 MiB: '=' where `there` is as `here`, '0' where it is all zero, '?' otherwise.
inline std::string chunks_there(vmm::GuestMemory& there, vmm::GuestMemory& here) {
    constexpr std::size_t kChunk = 2u << 20;
    std::string s;
    for (std::size_t at = 0; at < there.size(); at += kChunk) {
        const auto a = there.bytes().subspan(at, kChunk), b = here.bytes().subspan(at, kChunk);
        const bool zero = std::all_of(a.begin(), a.end(), [](auto x) { return x == 0; });
        s += zero ? '0' : std::equal(a.begin(), a.end(), b.begin()) ? '=' : '?';
    }
    return s;
}

}  // namespace proa::test
