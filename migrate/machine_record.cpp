// The Machine record: a MachineState as named registers, so that either end may be the newer one and the other may be
// another kind of machine.
#include <algorithm>
#include <cstring>

#include "migrate/registers.hpp"
#include "migrate/stream.hpp"
#include "migrate/wire.hpp"

namespace proa::migrate {
namespace {

using wire::refuse;

constexpr std::size_t kVectorBytes = sizeof(abi::VcpuState::v);

std::string name_of_id(std::uint32_t id) {
    const auto part = [id](unsigned shift, unsigned mask) { return "_" + std::to_string(id >> shift & mask); };
    return "S" + std::to_string(id >> 14) + part(11, 7) + part(7, 15) + part(3, 15) + part(0, 7);
}

template <class T>
void put(wire::Registers& to, std::span<const RegisterRow> rows, const T& from) {
    for (const auto& row : rows) {
        std::uint64_t v;
        std::memcpy(&v, reinterpret_cast<const std::uint8_t*>(&from) + row.offset, 8);
        to.add_id(row.id);
        to.add_value(v);
    }
}

// Every row exactly once, and nothing else.
template <class T>
transport::Result<void> take(const wire::Registers& from, std::span<const RegisterRow> rows, T& to) {
    if (from.id_size() != from.value_size()) return refuse("register names and values differ in number");
    if (!wire::skippable(from.unknown_fields())) return refuse("unknown kind of register list");
    std::vector<bool> seen(rows.size());
    for (int i = 0; i < from.id_size(); ++i) {
        const auto row =
            std::find_if(rows.begin(), rows.end(), [&](const RegisterRow& r) { return r.id == from.id(i); });
        if (row == rows.end())
            return refuse("the guest has register " + name_of_id(from.id(i)) + ", this host doesn't know it");
        if (seen[static_cast<std::size_t>(row - rows.begin())])
            return refuse(std::string(row->name) + " comes twice");
        seen[static_cast<std::size_t>(row - rows.begin())] = true;
        const std::uint64_t v = from.value(i);
        std::memcpy(reinterpret_cast<std::uint8_t*>(&to) + row->offset, &v, 8);
    }
    const auto missing = std::find(seen.begin(), seen.end(), false);
    if (missing != seen.end())
        return refuse(std::string(rows[static_cast<std::size_t>(missing - seen.begin())].name) + " is missing");
    return {};
}

std::uint32_t pack(const abi::IrqState& s) {
    return s.flags | static_cast<std::uint32_t>(s.priority) << 8 | static_cast<std::uint32_t>(s.target) << 16;
}
abi::IrqState unpack(std::uint32_t v) {
    return {static_cast<std::uint8_t>(v), static_cast<std::uint8_t>(v >> 8),
            static_cast<std::uint16_t>(v >> 16)};
}

transport::Result<void> decode_gic(const wire::Gic& from, std::uint32_t vcpus, abi::GicState& g) {
    if (!wire::skippable(from.unknown_fields())) return refuse("unknown interrupt controller state");
    if (from.waker_size() != static_cast<int>(vcpus) || from.privates_size() != static_cast<int>(32 * vcpus) ||
        from.spis_size() > static_cast<int>(abi::kMaxSpis))
        return refuse("interrupt controller state of a wrong size");
    g.version = abi::kStateVersion;
    g.vcpu_count = vcpus;
    g.spi_count = static_cast<std::uint32_t>(from.spis_size());
    g.gicd_ctlr = from.gicd_ctlr();
    std::copy(from.waker().begin(), from.waker().end(), g.gicr_waker);
    for (int i = 0; i < from.privates_size(); ++i) g.privates[i / 32][i % 32] = unpack(from.privates(i));
    for (int i = 0; i < from.spis_size(); ++i) g.spis[i] = unpack(from.spis(i));
    return {};
}

transport::Result<abi::VcpuState> decode_vcpu(const wire::Vcpu& from) {
    abi::VcpuState v{};
    v.version = abi::kStateVersion;
    if (!wire::skippable(from.unknown_fields())) return refuse("unknown vCPU state");
    if (from.power() > static_cast<std::uint32_t>(abi::PowerState::Suspended) || from.x_size() != 31 ||
        from.v().size() != kVectorBytes)
        return refuse("malformed vCPU state");
    v.power = static_cast<abi::PowerState>(from.power());
    std::copy(from.x().begin(), from.x().end(), v.x);
    v.pc = from.pc();
    v.pstate = from.pstate();
    std::memcpy(v.v, from.v().data(), kVectorBytes);
    if (auto r = take(from.system(), kVcpuRegisters, v); !r) return tl::unexpected(r.error());
    return v;
}

transport::Result<abi::CpuPolicy> decode(const wire::Registers& from) {
    abi::CpuPolicy p{};
    p.version = abi::kStateVersion;
    if (auto r = take(from, kPolicyRegisters, p); !r) return tl::unexpected(r.error());
    return p;
}

}  // namespace

std::vector<std::uint8_t> encode_policy(const abi::CpuPolicy& p) {
    wire::Registers r;
    put(r, kPolicyRegisters, p);
    return wire::bytes_of(r);
}

transport::Result<abi::CpuPolicy> decode_policy(std::span<const std::uint8_t> b) {
    auto r = wire::parse<wire::Registers>(b, "CPU policy");
    if (!r) return tl::unexpected(r.error());
    return decode(*r);
}

std::vector<std::uint8_t> encode_machine(const vmm::MachineState& s) {
    wire::Machine m;
    for (const auto& v : s.vcpus) {
        wire::Vcpu& to = *m.add_vcpus();
        to.set_power(static_cast<std::uint32_t>(v.power));
        to.mutable_x()->Add(std::begin(v.x), std::end(v.x));
        to.set_pc(v.pc);
        to.set_pstate(v.pstate);
        to.set_v(v.v, kVectorBytes);
        put(*to.mutable_system(), kVcpuRegisters, v);
    }
    wire::Gic& g = *m.mutable_gic();
    g.set_gicd_ctlr(s.gic.gicd_ctlr);
    for (std::uint32_t v = 0; v < s.vcpus.size(); ++v) {
        g.add_waker(s.gic.gicr_waker[v]);
        for (const auto& irq : s.gic.privates[v]) g.add_privates(pack(irq));
    }
    for (std::uint32_t i = 0; i < std::min<std::uint32_t>(s.gic.spi_count, abi::kMaxSpis); ++i)
        g.add_spis(pack(s.gic.spis[i]));
    m.mutable_time()->set_virtual_counter(s.time.virtual_counter);
    m.mutable_time()->set_cntfrq(s.time.cntfrq);
    for (std::uint32_t i = 0; i < std::min<std::uint32_t>(s.latches.count, abi::kVirtioSlots); ++i)
        m.add_latches(s.latches.status[i]);
    put(*m.mutable_policy(), kPolicyRegisters, s.policy);
    return wire::bytes_of(m);
}

transport::Result<vmm::MachineState> decode_machine(std::span<const std::uint8_t> b) {
    auto m = wire::parse<wire::Machine>(b, "machine state");
    if (!m) return tl::unexpected(m.error());
    if (m->vcpus_size() == 0 || m->vcpus_size() > static_cast<int>(abi::kMaxVcpus))
        return refuse("vCPU count out of range");
    vmm::MachineState s;
    for (const auto& from : m->vcpus()) {
        auto v = decode_vcpu(from);
        if (!v) return tl::unexpected(v.error());
        s.vcpus.push_back(*v);
    }
    if (auto r = decode_gic(m->gic(), static_cast<std::uint32_t>(s.vcpus.size()), s.gic); !r)
        return tl::unexpected(r.error());
    if (!wire::skippable(m->time().unknown_fields())) return refuse("unknown time state");
    s.time.version = abi::kStateVersion;
    s.time.virtual_counter = m->time().virtual_counter();
    s.time.cntfrq = m->time().cntfrq();
    if (m->latches_size() > static_cast<int>(abi::kVirtioSlots)) return refuse("too many interrupt latches");
    s.latches.version = abi::kStateVersion;
    s.latches.count = abi::kVirtioSlots;  // the rest stays 0: not raised
    std::copy(m->latches().begin(), m->latches().end(), s.latches.status);
    auto policy = decode(m->policy());
    if (!policy) return tl::unexpected(policy.error());
    s.policy = *policy;
    return s;
}

}  // namespace proa::migrate
