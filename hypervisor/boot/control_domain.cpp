#include "hypervisor/boot/control_domain.hpp"

#include "hypervisor/domain/domain.hpp"
#include "hypervisor/domain/functions.hpp"
#include "hypervisor/idregs/policy.hpp"
#include "hypervisor/lib/log.hpp"
#include "hypervisor/sched/dispatcher.hpp"
#include "hypervisor/sched/interrupts.hpp"

namespace proa::hv {
namespace {

// The control bridge: high in the 40-bit space, below the 256 GiB line, where boards put neither RAM nor devices; 1 MiB
// of ECAM (one bus) and a window of one BAR per function.
constexpr std::uint64_t kBridge = 0x3f'0000'0000, kEcamSize = 1 << 20, kWindow = kBridge + 0x1000'0000,
                        kWindowPci = 0x1000'0000, kWindowSize = 4 << 20;

// The control domain's SPIs are the board's.
class ControlInterrupts final : public HwOps {
  public:
    void enable(std::uint32_t intid, bool on) override { phys_gic().enable_spi(intid, on); }
    void configure(std::uint32_t intid, bool edge) override { phys_gic().configure_spi(intid, edge); }
    void route(std::uint32_t intid, unsigned vcpu) override {
        phys_gic().route_spi(intid, pcpu(vcpu).mpidr, false);
    }
    void deactivate(std::uint32_t intid) override { phys_gic().deactivate_spi(intid); }
};
constinit ControlInterrupts control_interrupts;

void must(MapStatus s) {
    switch (s) {
        case MapStatus::Ok: return;
        case MapStatus::NoMemory: panic("control domain's stage 2: no memory");
        case MapStatus::Overlap: panic("control domain's stage 2: overlap");
        case MapStatus::OutOfRange: panic("control domain's stage 2: memory above {} bits", Stage2::kIpaBits);
    }
}

void map_ram(Stage2& s, const BootInfo& info) {
    constexpr std::uint64_t rwx = s2::NormalWb | pte::SH_INNER | s2::R | s2::W | s2::Writable | pte::AF;
    for (unsigned i = 0; i < info.ram_banks; ++i)
        must(s.map(Ipa(info.ram[i].base), Pa(info.ram[i].base), info.ram[i].size, rwx));
}

// Everything that is not RAM, GIC or the control bridge is the board's devices, mapped where it is.
void map_devices(Stage2& s, const BootInfo& info) {
    constexpr std::uint64_t device = s2::DeviceNgnre | s2::R | s2::W | s2::Writable | s2::XN | pte::AF;
    Range holes[kMaxBanks + 4];
    unsigned count = 0;
    for (unsigned i = 0; i < info.ram_banks; ++i) holes[count++] = info.ram[i];
    holes[count++] = {info.gic.gicd, info.gic.gicd_size};
    holes[count++] = {info.gic.gicr, info.gic.gicr_size};
    holes[count++] = {kBridge, 0x2000'0000};
    for (std::uint64_t at = 0; at < Stage2::kIpaSize;) {
        std::uint64_t end = Stage2::kIpaSize;
        bool inside = false;
        for (unsigned i = 0; i < count; ++i) {
            if (at >= holes[i].base && at < holes[i].end()) {
                at = holes[i].end();
                inside = true;
                break;
            }
            if (holes[i].base > at && holes[i].base < end) end = holes[i].base;
        }
        if (inside) continue;
        must(s.map(Ipa(at), Pa(at), end - at, device));
        at = end;
    }
}

void hide(Stage2& s, const Range& r) {
    if (!s.unmap(Ipa(r.base), r.size)) panic("no memory to hide proa-hv from the control domain");
    reserve_from_control(r);
}

// Linux Documentation/arm64/booting.rst: a flat Image may run in place if it is 2 MiB aligned.
void check_kernel(const BootInfo& info) {
    struct Header {
        std::uint32_t code[2];
        std::uint64_t text_offset, image_size, flags, reserved[3];
        std::uint32_t magic, pe;
    };
    auto* h = reinterpret_cast<const Header*>(info.kernel.base);
    constexpr std::uint32_t kMagic = 0x644d'5241;  // "ARM\x64"
    if (info.kernel.size < sizeof(Header) || h->magic != kMagic)
        panic("the control domain's kernel at {x} is not an arm64 Image (compressed? unpack it first)",
              info.kernel.base);
    if (info.kernel.base % kChunk != 0)
        panic("the control domain's kernel at {x} is not 2 MiB aligned", info.kernel.base);
}

}  // namespace

void start_control_domain(const BootInfo& info, const MemoryPlan& memory) {
    check_kernel(info);
    std::uint64_t mpidr[kMaxPcpus];
    for (unsigned i = 0; i < pcpu_count(); ++i) mpidr[i] = pcpu(i).mpidr;
    // Virtual SPIs for the control functions come after the board's own.
    const unsigned board = phys_gic().spi_count();
    const unsigned spis = board + 32 <= Vgic::kMaxSpis ? board + 32 : board;
    const std::uint32_t first = 32 + (spis == board ? board - abi::kGuestSlots - 1 : board);
    Domain* d = Domain::create({.control = true,
                                .vcpus = pcpu_count(),
                                .spis = spis,
                                .vmid = 1,
                                .mpidr = mpidr,
                                .gicd = info.gic.gicd,
                                .gicr = info.gic.gicr,
                                .hw = &control_interrupts,
                                .hw_spis = first - 32,
                                .policy = host_policy()});
    if (d == nullptr) panic("no memory for the control domain");
    set_control_domain(*d);
    route_devices_to(d->gic());
    functions_init({kBridge, kEcamSize, kWindow, kWindowSize, kWindowPci, first}, info);

    map_ram(d->stage2(), info);
    map_devices(d->stage2(), info);
    // The image's pages are rounded out to 2 MiB: the control domain's kernel maps memory in such blocks.
    const std::uint64_t image = memory.image.base & ~(kChunk - 1);
    const Range image_chunks{image, ((memory.image.end() + kChunk - 1) & ~(kChunk - 1)) - image};
    hide(d->stage2(), image_chunks);
    hide(d->stage2(), memory.pool);

    const Range reserved[] = {image_chunks, memory.pool};
    const ControlTreePlan plan{&info,      reserved,    kBridge, kEcamSize,           kWindow,
                               kWindowPci, kWindowSize, first,   abi::kGuestSlots + 1};
    write_control_tree(plan, {reinterpret_cast<std::uint8_t*>(memory.tree.base), memory.tree.size});

    Vcpu& boot = d->vcpu(0);
    boot.reset(info.kernel.base, memory.tree.base);
    for (unsigned i = 0; i < d->vcpu_count(); ++i) unblock(d->vcpu(i), Vcpu::Paused);
    unblock(boot, Vcpu::Off);
    log("control domain: {} CPUs, kernel at {x}, {} stage-2 tables", d->vcpu_count(), info.kernel.base,
        d->stage2().table_pages());
}

}  // namespace proa::hv
