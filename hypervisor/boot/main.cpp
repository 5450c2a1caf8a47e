// proa-hv's start: device tree, memory, interrupt controller, all CPUs, then the control domain.
#include "hypervisor/arch/barrier.hpp"
#include "hypervisor/arch/gic.hpp"
#include "hypervisor/arch/pcpu.hpp"
#include "hypervisor/arch/smccc.hpp"
#include "hypervisor/arch/uart.hpp"
#include "hypervisor/boot/control_domain.hpp"
#include "hypervisor/boot/device_tree.hpp"
#include "hypervisor/boot/memory.hpp"
#include "hypervisor/domain/domain.hpp"
#include "hypervisor/domain/host_commands.hpp"
#include "hypervisor/domain/power.hpp"
#include "hypervisor/lib/log.hpp"
#include "hypervisor/mm/pool.hpp"
#include "hypervisor/sched/dispatcher.hpp"

extern "C" {
extern proa::hv::Pcpu boot_pcpu;
extern char boot_stack_top[], image_start[], image_end[], secondary_entry[];
proa::hv::Pcpu boot_pcpu;
}

namespace proa::hv {
namespace {

PhysGic gic;
Pcpu* cpus[kMaxPcpus];
unsigned cpu_count;
std::uint32_t go;  // secondaries wait for the control domain to exist

constexpr unsigned kEmergencyOrder = 1;

void prepare(Pcpu& p, unsigned id, std::uint64_t mpidr) {
    p.id = id;
    p.mpidr = mpidr;
    p.ttbr0 = el2_ttbr0();
    auto* stack = static_cast<std::uint8_t*>(pool().alloc(kEmergencyOrder));
    if (stack == nullptr) panic("no memory for CPU {}'s emergency stack", id);
    p.emergency_stack = reinterpret_cast<std::uint64_t>(stack) + (kPage << kEmergencyOrder);
}

void init_this_cpu(Pcpu& p) {
    if (!gic.init_cpu(p.mpidr)) panic("CPU {x} has no GIC redistributor", p.mpidr);
    p.redistributor = gic.redistributor_of(p.mpidr);
    dispatcher_init_cpu(p);
    p.last_switch = CntpctEl0::read();
    __atomic_store_n(&p.online, true, __ATOMIC_RELEASE);
}

// CPUs the firmware won't start are left out; the control domain sees only those that came.
void start_secondaries(const BootInfo& info) {
    for (unsigned i = 0; i < info.cpus; ++i) {
        if (info.cpu_mpidr[i] == boot_pcpu.mpidr) continue;
        Pcpu* p = pool_new<Pcpu>();
        if (p == nullptr) panic("no memory for CPU {}", i);
        prepare(*p, cpu_count, info.cpu_mpidr[i]);
        p->stack_top = alloc_stack_top();
        dsb_sy();
        const std::int64_t e =
            firmware_call(info.psci_hvc, psci_fn::CpuOn64, p->mpidr,
                          reinterpret_cast<std::uint64_t>(secondary_entry), reinterpret_cast<std::uint64_t>(p));
        const std::uint64_t deadline = CntpctEl0::read() + CntfrqEl0::read();
        while (e == 0 && !__atomic_load_n(&p->online, __ATOMIC_ACQUIRE) && CntpctEl0::read() < deadline) {
        }
        if (e != 0 || !p->online) {
            log("CPU {x} did not start (PSCI {x})", p->mpidr, static_cast<std::uint64_t>(e));
            continue;
        }
        cpus[cpu_count++] = p;
    }
}

void main_on_boot_cpu(std::uint64_t tree) {
    const std::uint64_t started = CntpctEl0::read();
    const BootInfo info = read_device_tree(tree);
    uart_init(info.uart);
    const MemoryPlan memory = plan_memory(info);
    init_pool(memory);
    build_el2_map(info, memory);
    log_set_clock([] { return LogTime{CntpctEl0::read(), CntfrqEl0::read()}; });
    log_set_sink(uart_write);
    log("proa-hv " PROA_VERSION ": image {} KiB at {x}, pool {} MiB at {x}", memory.image.size >> 10,
        memory.image.base, memory.pool.size >> 20, memory.pool.base);
    set_firmware_conduit(info.psci_hvc);
    set_image_bytes(memory.image.size, started);

    gic.init(info.gic);
    prepare(boot_pcpu, 0, MpidrEl1::read() & kMpidrAffinity);
    boot_pcpu.stack_top = reinterpret_cast<std::uint64_t>(boot_stack_top);
    cpus[cpu_count++] = &boot_pcpu;
    init_this_cpu(boot_pcpu);
    start_secondaries(info);
    dispatcher_init(cpus, cpu_count, gic);
    log("{} CPUs, {} SPIs, {} list registers, dirty log by {}", cpu_count, gic.spi_count(),
        field(IchVtrEl2::read(), 0, 5) + 1, host_has_hardware_dirty() ? "hardware or faults" : "faults");
    start_control_domain(info, memory);
    log_set_sink(nullptr);  // the UART is the control domain's from here
    __atomic_store_n(&go, 1u, __ATOMIC_RELEASE);
    sev();
    leave_hypervisor();
}

}  // namespace
}  // namespace proa::hv

extern "C" void boot_main(std::uint64_t tree) {
    proa::hv::main_on_boot_cpu(tree);
}

extern "C" void secondary_main(proa::hv::Pcpu* self) {
    using namespace proa::hv;
    init_this_cpu(*self);
    while (__atomic_load_n(&go, __ATOMIC_ACQUIRE) == 0) wfe();
    leave_hypervisor();
}
