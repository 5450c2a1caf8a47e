// PSCI 1.1 (DEN 0022F) and the SMCCC calls (DEN 0028) a domain may make: which call it is, and whether it is offered.
// Pure decoding; domain/power.cpp acts on it.
#pragma once
#include <cstdint>

namespace proa::hv {

enum class PsciCall : std::uint8_t {
    Version,
    CpuSuspend,
    CpuOff,
    CpuOn,
    AffinityInfo,
    MigrateInfoType,
    SystemOff,
    SystemReset,
    SystemReset2,
    Features,
    SmcccVersion,
    SmcccFeatures,
    NotSupported
};

namespace psci_result {
inline constexpr std::int64_t Success = 0, NotSupported = -1, InvalidParameters = -2, Denied = -3,
                              AlreadyOn = -4, InvalidAddress = -9;
inline constexpr std::int64_t Version = 0x1'0001, SmcccVersion = 0x1'0001;
inline constexpr std::int64_t TosNotPresent = 2;  // MIGRATE_INFO_TYPE: no trusted OS that would need migrating
}  // namespace psci_result

struct PsciRequest {
    PsciCall call = PsciCall::NotSupported;
    std::uint64_t args[3] = {};  // truncated to 32 bits for SMC32/HVC32 calls
};
PsciRequest decode_psci(std::uint64_t x0, std::uint64_t x1, std::uint64_t x2, std::uint64_t x3);

}  // namespace proa::hv
