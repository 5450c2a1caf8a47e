#include "tests/guests/storm/storm.hpp"

namespace guest::storm {
namespace {

// One CPU's periodic use of a timer. An expiry that comes so late that the next is due too is one interrupt: periods are
// skipped, the count of interrupts per compare value stays exactly one.
template <class Timer, std::uint32_t kIntid>
class Ticker {
  public:
    void start(std::uint64_t period) {
        period_ = period;
        due_ = Timer::now() + period;
        Timer::compare(due_);
        Timer::control(kTimerEnable);
        enable_irq(kIntid);
    }
    void irq() {
        const std::uint64_t control = Timer::control(), compare = Timer::compare(), now = Timer::now();
        if (compare != due_)
            bad("STORM BAD timer {} on CPU {} compares with {}, {} was set", kIntid, cpu_index(), compare,
                due_);
        if ((control & kTimerMet) == 0 || now < due_)
            return bad(
                "STORM BAD timer {} on CPU {} fired too early or twice: control {}, {} ticks before its time",
                kIntid, cpu_index(), control, due_ - now);
        const std::uint64_t late = now - due_;
        if (late > late_) late_ = late;
        ++count_;
        due_ += (late / period_ + 1) * period_;
        Timer::compare(due_);
    }
    void check() const {
        const std::uint64_t now = Timer::now(), due = __atomic_load_n(&due_, __ATOMIC_RELAXED);
        if (now > due && now - due > settings.patience)
            bad("STORM BAD timer {} on CPU {} is lost: {} ticks overdue, control {}, pending {}, active {}",
                kIntid, cpu_index(), now - due, Timer::control(), gic_bit(gicd::kSetPending, kIntid),
                gic_bit(gicd::kSetActive, kIntid));
    }
    std::uint64_t count() const { return __atomic_load_n(&count_, __ATOMIC_RELAXED); }
    std::uint64_t take_lateness() { return __atomic_exchange_n(&late_, 0, __ATOMIC_RELAXED); }

  private:
    std::uint64_t period_ = 0, due_ = 0, count_ = 0, late_ = 0;
};

struct alignas(64) PerCpu {
    Ticker<VirtualTimer, kVirtualTimer> virtual_timer;
    Ticker<PhysicalTimer, kPhysicalTimer> physical_timer;
};
PerCpu per_cpu[kMaxCpus];

}  // namespace

void start_ticks() {
    PerCpu& self = per_cpu[cpu_index()];
    self.virtual_timer.start(settings.period);
    self.physical_timer.start(settings.physical_period);
}

bool tick_irq(std::uint32_t intid) {
    PerCpu& self = per_cpu[cpu_index()];
    if (intid == kPhysicalTimer) return self.physical_timer.irq(), true;
    if (intid != kVirtualTimer) return false;
    self.virtual_timer.irq();
    forward_parked_tokens();
    return true;
}

void check_ticks() {
    per_cpu[cpu_index()].virtual_timer.check();
    per_cpu[cpu_index()].physical_timer.check();
}

std::uint64_t total_ticks() {
    std::uint64_t n = 0;
    for (const PerCpu& p : per_cpu) n += p.virtual_timer.count() + p.physical_timer.count();
    return n;
}

std::uint64_t worst_lateness() {
    std::uint64_t worst = 0;
    for (PerCpu& p : per_cpu) {
        const std::uint64_t a = p.virtual_timer.take_lateness(), b = p.physical_timer.take_lateness();
        worst = a > worst ? a : worst;
        worst = b > worst ? b : worst;
    }
    return worst;
}

}  // namespace guest::storm
