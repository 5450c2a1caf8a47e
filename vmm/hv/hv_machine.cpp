#include "vmm/hv/hv_machine.hpp"

#include <bit>
#include <cstring>

#include "dirtylog/shared_words.hpp"

namespace proa::vmm {
namespace {

constexpr unsigned kSpis = 64;                       // INTIDs 32..95: the UART, the RTC and 32 virtio slots
constexpr std::uint64_t kHarvestPages = 1ull << 18;  // 1 GiB a call bounds its time at EL2

}  // namespace

Result<std::unique_ptr<HvMachine>> HvMachine::create(unsigned slot, HugeMemory& huge,
                                                     const MachineConfig& config) {
    const std::uint64_t ram = config.memory->size();
    auto& area = *reinterpret_cast<abi::ControlArea*>(huge.bytes().data() + ram);
    auto f = ControlFunction::open(slot, area, huge.physical(ram / HugeMemory::kChunk));
    if (!f) return tl::unexpected(f.error());
    std::unique_ptr<HvMachine> m(new HvMachine(std::move(*f), huge, config));
    abi::CreateArgs a{};
    a.abi_version = abi::kAbiVersion;
    a.vcpus = config.vcpus;
    a.weight = config.weight;
    a.spis = kSpis;
    a.ram_bytes = ram;
    std::strncpy(a.name, config.name.c_str(), sizeof(a.name) - 1);
    a.policy = config.policy;
    if (auto r = m->put(abi::Op::Create, "create guest", a); !r) return tl::unexpected(r.error());
    m->created_ = true;
    // Asking for a log and taking it back costs nothing yet: no RAM is mapped.
    m->hardware_dirty_ = m->simple(abi::Op::DirtyLog, "probe dirty log", {2}).has_value();
    (void)m->simple(abi::Op::DirtyLog, "probe dirty log", {0});
    return m;
}

HvMachine::~HvMachine() {
    if (!created_) return;
    (void)checkpointer_.stop();
    (void)simple(abi::Op::Destroy, "destroy guest");
}

Result<void> HvMachine::map_ram() {
    const std::uint64_t chunks = config_.memory->size() / HugeMemory::kChunk;
    for (std::uint64_t done = 0; done < chunks;) {
        const std::uint64_t n = std::min(chunks - done, abi::kMaxMapChunks);
        for (std::uint64_t i = 0; i < n; ++i) function_->area().map_list[i] = huge_.physical(done + i);
        auto r = simple(abi::Op::MapRam, "map guest memory", {abi::kRamBase + done * HugeMemory::kChunk, n});
        if (!r) return r;
        done += n;
    }
    return {};
}

Result<void> HvMachine::simple(abi::Op op, const char* what, std::initializer_list<std::uint64_t> args) {
    auto r = function_->run(op, what, args);
    if (!r) return tl::unexpected(r.error());
    return {};
}

template <class T>
Result<T> HvMachine::get(abi::Op op, const char* what, std::uint64_t index) {
    auto r = function_->run(op, what, {index});
    if (!r) return tl::unexpected(r.error());
    T t;
    std::memcpy(&t, function_->area().payload, sizeof(t));
    return t;
}

template <class T>
Result<void> HvMachine::put(abi::Op op, const char* what, const T& t, std::uint64_t index) {
    std::memcpy(function_->area().payload, &t, sizeof(t));
    return simple(op, what, {index});
}

Result<void> HvMachine::run() {
    return simple(abi::Op::Run, "run guest");
}
Result<void> HvMachine::pause() {
    return simple(abi::Op::Pause, "pause guest");
}
Result<void> HvMachine::reset() {
    return simple(abi::Op::Reset, "reset guest");
}

Result<MachineState> HvMachine::save() {
    MachineState s;
    for (unsigned i = 0; i < config_.vcpus; ++i) {
        auto v = get<abi::VcpuState>(abi::Op::GetVcpu, "read vCPU state", i);
        if (!v) return tl::unexpected(v.error());
        s.vcpus.push_back(*v);
    }
    auto gic = get<abi::GicState>(abi::Op::GetGic, "read GIC state");
    auto time = get<abi::TimeState>(abi::Op::GetTime, "read time");
    auto latches = get<abi::LatchState>(abi::Op::GetLatches, "read latches");
    auto shown = policy();
    if (!gic) return tl::unexpected(gic.error());
    if (!time) return tl::unexpected(time.error());
    if (!latches) return tl::unexpected(latches.error());
    if (!shown) return tl::unexpected(shown.error());
    s.gic = *gic;
    s.time = *time;
    s.latches = *latches;
    s.policy = *shown;
    return s;
}

Result<void> HvMachine::load(const MachineState& s) {
    if (s.vcpus.size() != config_.vcpus)
        return fail("machine state has " + std::to_string(s.vcpus.size()) + " vCPUs, the machine " +
                    std::to_string(config_.vcpus));
    for (unsigned i = 0; i < config_.vcpus; ++i)
        if (auto r = put(abi::Op::SetVcpu, "load vCPU state", s.vcpus[i], i); !r) return r;
    if (auto r = put(abi::Op::SetGic, "load GIC state", s.gic); !r) return r;
    if (auto r = put(abi::Op::SetTime, "load time", s.time); !r) return r;
    return put(abi::Op::SetLatches, "load latches", s.latches);
}

Result<abi::CpuPolicy> HvMachine::policy() {
    return get<abi::CpuPolicy>(abi::Op::GetPolicy, "read CPU policy");
}

Result<void> HvMachine::define_notify(std::uint64_t gpa, unsigned device) {
    return simple(abi::Op::DefineNotify, "define notify register", {gpa, device});
}
Result<void> HvMachine::define_latch(unsigned latch, std::uint64_t gpa, std::uint32_t intid) {
    return simple(abi::Op::DefineLatch, "define status latch", {latch, gpa, intid});
}
void HvMachine::set_irq(std::uint32_t intid, bool level) {
    function_->write(abi::reg::IrqLine, abi::irq_line_word(intid, level));
}
void HvMachine::set_latch(unsigned latch, std::uint32_t bits) {
    function_->write(abi::reg::LatchSet, static_cast<std::uint64_t>(latch) << 32 | bits);
}
Result<void> HvMachine::set_affinity(unsigned vcpu, std::uint64_t pcpus) {
    return simple(abi::Op::SetAffinity, "pin vCPU", {vcpu, pcpus});
}
Result<void> HvMachine::set_weight(unsigned weight) {
    return simple(abi::Op::SetWeight, "set weight", {weight});
}
Result<void> HvMachine::set_throttle(unsigned percent) {
    return simple(abi::Op::SetThrottle, "throttle", {percent});
}

Result<void> HvMachine::dirty_log(abi::DirtyLogMode mode) {
    return simple(abi::Op::DirtyLog, "switch dirty log", {static_cast<std::uint64_t>(mode)});
}

// What `op` says of all pages, into `into`; the sum of its results.
Result<std::uint64_t> HvMachine::collect(abi::Op op, const char* what, dirtylog::Bitmap& into) {
    const std::uint64_t pages = config_.memory->pages();
    std::uint64_t count = 0;
    for (std::uint64_t first = 0; first < pages; first += kHarvestPages) {
        const std::uint64_t n = std::min(kHarvestPages, pages - first);
        auto r = function_->run(op, what, {first, n});
        if (!r) return tl::unexpected(r.error());
        if (r->results[0] == 0) continue;
        count += r->results[0];
        dirtylog::SharedWords(function_->area().bitmap)
            .take(first / 64, (first + n) / 64,
                  [&](std::uint64_t w, std::uint64_t bits) { into.or_word(w, bits); });
    }
    return count;
}
Result<std::uint64_t> HvMachine::harvest(dirtylog::Bitmap& into) {
    return collect(abi::Op::Harvest, "harvest dirty log", into);
}
Result<void> HvMachine::accessed(dirtylog::Bitmap& into) {
    if (auto r = collect(abi::Op::Accessed, "read access flags", into); !r) return tl::unexpected(r.error());
    return {};
}

Result<abi::GuestStats> HvMachine::stats() {
    return get<abi::GuestStats>(abi::Op::GuestStats, "read statistics");
}

void HvMachine::answer_exit(unsigned vcpu, MachineEvents& to) {
    abi::VcpuExit& e = function_->area().exits[vcpu];
    switch (__atomic_load_n(&e.kind, __ATOMIC_ACQUIRE)) {
        case abi::VcpuExit::MmioRead: e.value = to.mmio_read(e.gpa, e.size); break;
        case abi::VcpuExit::MmioWrite: to.mmio_write(e.gpa, e.size, e.value); break;
        default: return;
    }
    function_->write(abi::reg::Resume, vcpu);
}

void HvMachine::dispatch(MachineEvents& to) {
    function_->acknowledge();
    abi::Events& ev = function_->area().events;
    const auto take = [](std::uint64_t& word) {
        return __atomic_load_n(&word, __ATOMIC_RELAXED) == 0 ? 0
                                                             : __atomic_exchange_n(&word, 0, __ATOMIC_ACQ_REL);
    };
    for (std::uint64_t bits = take(ev.exits); bits != 0; bits &= bits - 1)
        answer_exit(static_cast<unsigned>(std::countr_zero(bits)), to);
    for (unsigned d = 0; d < abi::kVirtioSlots; ++d)
        if (const std::uint64_t queues = take(ev.notify[d])) to.notified(d, queues);
    const std::uint64_t life = take(ev.lifecycle);
    if ((life & abi::life::PowerOff) != 0) to.powered_off();
    if ((life & abi::life::Reset) != 0) to.reset_requested();
    if ((life & abi::life::Fenced) != 0) to.fenced();
    if ((life & abi::life::Crash) != 0) to.crashed("a vCPU did what cannot be resumed (proa dmesg tells)");
}

}  // namespace proa::vmm
