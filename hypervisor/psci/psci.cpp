#include "hypervisor/psci/psci.hpp"

namespace proa::hv {
namespace {

constexpr std::uint32_t kSmc64 = 0x4000'0000;

struct Row {
    std::uint32_t function;  // the SMC32 identifier
    bool has64;
    PsciCall call;
};
constexpr Row kRows[] = {
    {0x8400'0000, false, PsciCall::Version},      {0x8400'0001, true, PsciCall::CpuSuspend},
    {0x8400'0002, false, PsciCall::CpuOff},       {0x8400'0003, true, PsciCall::CpuOn},
    {0x8400'0004, true, PsciCall::AffinityInfo},  {0x8400'0006, false, PsciCall::MigrateInfoType},
    {0x8400'0008, false, PsciCall::SystemOff},    {0x8400'0009, false, PsciCall::SystemReset},
    {0x8400'000a, false, PsciCall::Features},     {0x8400'0012, true, PsciCall::SystemReset2},
    {0x8000'0000, false, PsciCall::SmcccVersion}, {0x8000'0001, false, PsciCall::SmcccFeatures},
};

}  // namespace

PsciRequest decode_psci(std::uint64_t x0, std::uint64_t x1, std::uint64_t x2, std::uint64_t x3) {
    const auto fn = static_cast<std::uint32_t>(x0);
    for (const Row& r : kRows) {
        const bool wide = r.has64 && fn == (r.function | kSmc64);
        if (fn != r.function && !wide) continue;
        const std::uint64_t mask = wide ? ~0ull : 0xffff'ffff;
        return {r.call, {x1 & mask, x2 & mask, x3 & mask}};
    }
    return {};
}

}  // namespace proa::hv
