// The physical GICv3 (IHI 0069), as much of it as proa-hv drives itself: every interrupt is taken at EL2, priority
// dropped there (EOImode 1), and deactivated by the domain's EOI through an HW list register, or by deactivate().
#pragma once
#include <cstdint>

namespace proa::hv {

inline constexpr std::uint32_t kSgiKick = 0;  // "look at your run queue"
inline constexpr std::uint32_t kPpiMaintenance = 25, kPpiHypTimer = 26, kPpiVirtTimer = 27;

struct GicLayout {
    std::uint64_t gicd, gicd_size;
    std::uint64_t gicr, gicr_size;  // one region; frames are found by their affinity
};

class PhysGic {
  public:
    void init(const GicLayout& layout);  // boot CPU: distributor
    bool init_cpu(std::uint64_t mpidr);  // each CPU: redistributor and CPU interface; false: no frame for it
    unsigned spi_count() const { return spi_count_; }

    void enable_spi(std::uint32_t intid, bool on);
    void configure_spi(std::uint32_t intid, bool edge);
    void route_spi(std::uint32_t intid, std::uint64_t mpidr, bool any);
    void set_private(std::uint64_t redistributor, std::uint32_t intid, bool on);  // enable or disable a PPI/SGI
    void set_private_active(std::uint64_t redistributor, std::uint32_t intid, bool active);
    void deactivate_spi(std::uint32_t intid);

    static std::uint32_t acknowledge();
    static void drop_priority(std::uint32_t intid);
    static void deactivate(std::uint32_t intid);
    static void send_sgi(std::uint32_t intid, std::uint64_t mpidr);

    std::uint64_t redistributor_of(std::uint64_t mpidr) const;  // RD_base or 0

  private:
    void wait_distributor() const;
    GicLayout at_{};
    unsigned spi_count_ = 0;
};

}  // namespace proa::hv
