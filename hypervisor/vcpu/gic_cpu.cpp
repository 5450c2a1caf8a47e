// The virtual CPU interface's registers: ICH_VMCR_EL2 (12.4.8), ICH_AP<x>R<n>_EL2 and their ICC_* views.
#include "hypervisor/arch/sysreg.hpp"
#include "hypervisor/vcpu/vcpu.hpp"

namespace proa::hv {
namespace {

PROA_SYSREG(IchAp0r0, "S3_4_C12_C8_0");
PROA_SYSREG(IchAp0r1, "S3_4_C12_C8_1");
PROA_SYSREG(IchAp0r2, "S3_4_C12_C8_2");
PROA_SYSREG(IchAp0r3, "S3_4_C12_C8_3");
PROA_SYSREG(IchAp1r0, "S3_4_C12_C9_0");
PROA_SYSREG(IchAp1r1, "S3_4_C12_C9_1");
PROA_SYSREG(IchAp1r2, "S3_4_C12_C9_2");
PROA_SYSREG(IchAp1r3, "S3_4_C12_C9_3");

// One register of each group per 32 preemption levels: ICH_VTR_EL2.PREbits is their number of bits, less one.
unsigned priority_registers() {
    const auto bits = static_cast<unsigned>(field(IchVtrEl2::read(), 26, 3)) + 1;
    return bits <= 5 ? 1 : 1u << (bits - 5);
}

}  // namespace

void GicCpuState::save() {
    const unsigned n = priority_registers();
    vmcr = IchVmcrEl2::read();
    ap0r[0] = IchAp0r0::read();
    ap1r[0] = IchAp1r0::read();
    if (n > 1) ap0r[1] = IchAp0r1::read(), ap1r[1] = IchAp1r1::read();
    if (n > 2) {
        ap0r[2] = IchAp0r2::read(), ap1r[2] = IchAp1r2::read();
        ap0r[3] = IchAp0r3::read(), ap1r[3] = IchAp1r3::read();
    }
}

void GicCpuState::load() const {
    const unsigned n = priority_registers();
    IchVmcrEl2::write(vmcr);
    IchAp0r0::write(ap0r[0]);
    IchAp1r0::write(ap1r[0]);
    if (n > 1) IchAp0r1::write(ap0r[1]), IchAp1r1::write(ap1r[1]);
    if (n > 2) {
        IchAp0r2::write(ap0r[2]), IchAp1r2::write(ap1r[2]);
        IchAp0r3::write(ap0r[3]), IchAp1r3::write(ap1r[3]);
    }
}

void GicCpuState::export_to(abi::VcpuState& s) const {
    s.icc_igrpen0 = field(vmcr, 0, 1);
    s.icc_igrpen1 = field(vmcr, 1, 1);
    s.icc_ctlr = field(vmcr, 4, 1) | field(vmcr, 9, 1) << 1;  // CBPR, EOImode
    s.icc_bpr1 = field(vmcr, 18, 3);
    s.icc_bpr0 = field(vmcr, 21, 3);
    s.icc_pmr = field(vmcr, 24, 8);
    for (unsigned i = 0; i < 4; ++i) s.icc_ap0r[i] = ap0r[i], s.icc_ap1r[i] = ap1r[i];
}

void GicCpuState::import_from(const abi::VcpuState& s) {
    vmcr = (s.icc_igrpen0 & 1) | (s.icc_igrpen1 & 1) << 1 | (s.icc_ctlr & 1) << 4 | (s.icc_ctlr >> 1 & 1) << 9 |
           (s.icc_bpr1 & 7) << 18 | (s.icc_bpr0 & 7) << 21 | (s.icc_pmr & 0xff) << 24;
    for (unsigned i = 0; i < 4; ++i) {
        ap0r[i] = static_cast<std::uint32_t>(s.icc_ap0r[i]);
        ap1r[i] = static_cast<std::uint32_t>(s.icc_ap1r[i]);
    }
}

}  // namespace proa::hv
