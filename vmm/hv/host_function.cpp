#include "vmm/hv/host_function.hpp"

#include <cstring>

#include "hypervisor/abi/idregs_names.hpp"

namespace proa::vmm {

Result<std::unique_ptr<HostFunction>> HostFunction::open() {
    auto fd = create_huge_memfd("proad", HugeMemory::kChunk);
    if (!fd) return tl::unexpected(fd.error());
    auto memory = HugeMemory::map(*fd, HugeMemory::kChunk);
    if (!memory) return tl::unexpected(memory.error());
    if (auto r = (*memory)->populate(0, 1); !r) return tl::unexpected(r.error());
    auto h = std::make_unique<HostFunction>();
    h->memory_ = std::move(*memory);
    auto f = ControlFunction::open(0, *reinterpret_cast<abi::ControlArea*>(h->memory_->bytes().data()),
                                   h->memory_->physical(0));
    if (!f) return tl::unexpected(f.error());
    h->function_ = std::move(*f);
    return h;
}

namespace {
template <class T>
T payload(ControlFunction& f, std::size_t index = 0) {
    T t;
    std::memcpy(&t, f.area().payload + index * sizeof(T), sizeof(T));
    return t;
}
}  // namespace

Result<abi::HostInfo> HostFunction::info() {
    auto r = function_->run(abi::Op::HostInfo, "read host facts");
    if (!r) return tl::unexpected(r.error());
    return payload<abi::HostInfo>(*function_);
}

Result<std::string> HostFunction::log(std::uint64_t& sequence) {
    std::string text;
    for (;;) {
        auto r = function_->run(abi::Op::ReadLog, "read the log", {sequence});
        if (!r) return tl::unexpected(r.error());
        const std::uint64_t n = std::min<std::uint64_t>(r->results[0], abi::kPayloadSize);
        sequence = r->results[1];
        if (n == 0) return text;
        text.append(reinterpret_cast<const char*>(function_->area().payload), n);
    }
}

Result<std::vector<abi::PcpuStats>> HostFunction::cpus() {
    auto r = function_->run(abi::Op::CpuStats, "read CPU statistics");
    if (!r) return tl::unexpected(r.error());
    std::vector<abi::PcpuStats> v;
    for (std::size_t i = 0; i < r->results[0] && i < 64; ++i)
        v.push_back(payload<abi::PcpuStats>(*function_, i));
    return v;
}

Result<std::vector<abi::GuestStats>> HostFunction::guests() {
    auto r = function_->run(abi::Op::ListGuests, "list guests");
    if (!r) return tl::unexpected(r.error());
    std::vector<abi::GuestStats> v;
    for (unsigned i = 0; i < abi::kGuestSlots; ++i) v.push_back(payload<abi::GuestStats>(*function_, i));
    return v;
}

Result<void> HostFunction::check(const abi::CpuPolicy& p) {
    std::memcpy(function_->area().payload, &p, sizeof(p));
    auto r = function_->run(abi::Op::CheckPolicy, "check CPU features");
    if (r) return {};
    const abi::Command& c = function_->area().command;
    return fail("this host's CPU can't run the guest: " +
                    abi::feature_name(static_cast<unsigned>(c.results[0]), static_cast<unsigned>(c.results[1]),
                                      c.results[2] != 0) +
                    " differs or is missing here",
                "move it to a host of the same or a newer CPU type");
}

}  // namespace proa::vmm
