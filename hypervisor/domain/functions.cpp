#include "hypervisor/domain/functions.hpp"

#include "hypervisor/domain/commands.hpp"
#include "hypervisor/domain/fence.hpp"
#include "hypervisor/lib/log.hpp"
#include "hypervisor/sched/dispatcher.hpp"

namespace proa::hv {
namespace {

FunctionLayout at_;
Range ram[kMaxBanks], reserved[4];
unsigned ram_count, reserved_count;

constexpr unsigned kFunctions = abi::kGuestSlots + 1;

void update_line(Guest& g) {
    control_domain().set_irq(at_.first_intid + g.slot, g.config.intx());
}

Spinlock signal_lock;  // config.pending and the line move together

Access config_access(std::uint64_t offset, unsigned size, bool write, std::uint64_t& value) {
    // ECAM: bus [27:20], device [19:15], function [14:12], register [11:0].
    const auto device = static_cast<unsigned>(offset >> 15), function = static_cast<unsigned>(offset >> 12 & 7);
    const auto reg = static_cast<unsigned>(offset & 0xfff);
    if (device >= kFunctions || function != 0 || reg >= 256) {
        if (!write) value = reg >= 256 && device < kFunctions && function == 0 ? 0 : ~0ull;
        return Access::Done;
    }
    Guest& g = guest_in(device);
    if (!write) {
        value = g.config.read(reg, size);
        return Access::Done;
    }
    // Losing Bus Master means that proa-vm is gone: the write completes only when its guest has stopped and is freed.
    PciConfig trial = g.config;
    const ConfigEffect effect = trial.write(reg, size, static_cast<std::uint32_t>(value));
    if (effect == ConfigEffect::BusMasterCleared) {
        Guard guard(g.lock);
        if (!abandon_guest(g)) return Access::Retry;
    }
    Guard guard(signal_lock);
    g.config.write(reg, size, static_cast<std::uint32_t>(value));
    update_line(g);
    return Access::Done;
}

// The area stays as it is while there is a guest: its vCPUs post events into it from any pCPU, without g.lock.
void attach_area(Guest& g, std::uint64_t pa) {
    Guard guard(g.lock);
    if (g.domain != nullptr) {
        log("slot {}: control area {x} refused: the guest must be destroyed first", g.slot, pa);
    } else if (pa == 0) {
        g.area = nullptr;
    } else if (Pa(pa).aligned(kChunk) && is_control_ram(Pa(pa), kChunk)) {
        g.area = reinterpret_cast<abi::ControlArea*>(pa);
    } else {
        log("slot {}: control area {x} refused: not 2 MiB of the control domain's RAM", g.slot, pa);
    }
}

void bar_write(Guest& g, std::uint64_t offset, std::uint64_t value) {
    switch (offset) {
        case abi::reg::ControlArea: attach_area(g, value); break;
        case abi::reg::Doorbell: run_command(g); break;
        case abi::reg::Resume: resume_exit(g, value); break;
        case abi::reg::EventAck: signal_function(g, false); break;
        case abi::reg::Fence: set_fence(g, value); break;
        case abi::reg::IrqLine: {
            Guard guard(g.lock);
            if (g.domain != nullptr)
                g.domain->set_irq(static_cast<std::uint32_t>(value), (value >> 32 & 1) != 0);
            break;
        }
        case abi::reg::LatchSet: {
            Guard guard(g.lock);
            if (value >> 32 < abi::kVirtioSlots)
                set_latch(g, static_cast<unsigned>(value >> 32), static_cast<std::uint32_t>(value));
            break;
        }
        default: break;
    }
}

std::uint64_t bar_read(const Guest& g, std::uint64_t offset) {
    switch (offset) {
        case abi::reg::Magic: return abi::kMagic | static_cast<std::uint64_t>(abi::kAbiVersion) << 32;
        case abi::reg::Slot: return g.slot | static_cast<std::uint64_t>(abi::kGuestSlots) << 32;
        case abi::reg::ControlArea: return reinterpret_cast<std::uint64_t>(g.area);
        default: return 0;
    }
}

Access window_access(std::uint64_t pci, unsigned size, bool write, std::uint64_t& value) {
    for (unsigned f = 0; f < kFunctions; ++f) {
        std::uint64_t offset;
        Guest& g = guest_in(f);
        if (!g.config.decodes(pci, offset)) continue;
        if (size != 8) {
            if (!write) value = ~0ull;
        } else if (write) {
            bar_write(g, offset, value);
        } else {
            value = bar_read(g, offset);
        }
        return Access::Done;
    }
    if (!write) value = ~0ull;  // master abort
    return Access::Done;
}

}  // namespace

void functions_init(const FunctionLayout& layout, const BootInfo& info) {
    at_ = layout;
    for (unsigned f = 0; f < kFunctions; ++f) {
        guest_in(f).slot = f;
        guest_in(f).config.init(f == 0 ? abi::kPciHostDevice : abi::kPciSlotDevice);
    }
    for (unsigned i = 0; i < info.ram_banks; ++i) ram[ram_count++] = info.ram[i];
    fences_init();
}

Access function_access(Ipa at, unsigned size, bool write, std::uint64_t& value) {
    if (at.v >= at_.ecam && at.v < at_.ecam + at_.ecam_size)
        return config_access(at.v - at_.ecam, size, write, value);
    if (at.v >= at_.window && at.v < at_.window + at_.window_size)
        return window_access(at.v - at_.window + at_.window_pci, size, write, value);
    return Access::NotOurs;
}

void signal_function(Guest& g, bool pending) {
    Guard guard(signal_lock);
    g.config.set_pending(pending);
    update_line(g);
}

bool is_control_ram(Pa at, std::uint64_t size) {
    bool inside = false;
    for (unsigned i = 0; i < ram_count; ++i) inside = inside || ram[i].contains(at.v, size);
    for (unsigned i = 0; i < reserved_count; ++i) inside = inside && !reserved[i].overlaps({at.v, size});
    return inside;
}

void reserve_from_control(const Range& r) {
    if (reserved_count == sizeof(reserved) / sizeof(reserved[0])) panic("too many reserved ranges");
    reserved[reserved_count++] = r;
}

}  // namespace proa::hv
