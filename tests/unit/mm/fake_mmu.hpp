// BasicStage2's Env on the build host: table memory from a real BuddyPool, and CPUs with the worst TLB the architecture
// allows. It never forgets an entry by itself, prefers a cached entry to memory, caches tables as well as leaves,
// walks speculatively after every store to a table, and sets access flags and dirty bits as FEAT_HAFDBS does. So a missing TLBI shows
// as a stale permission or a table freed while a walker still knows it, and a change without break-before-make
// (D8.14.1) shows at the store that makes it. `violations` says what was seen.
#pragma once
#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "hypervisor/mm/page_pool.hpp"
#include "hypervisor/mm/stage2.hpp"

namespace proa::hv::test {

struct NoLock {
    void lock() {}
    void unlock() {}
};

enum class Access : std::uint8_t { Read, Write };
enum class Outcome : std::uint8_t { Done, TranslationFault, AccessFlagFault, PermissionFault };
struct Translation {
    Outcome outcome;
    Pa pa{};
};

class FakeMmu {
  public:
    static constexpr unsigned kCpus = 3;

    explicit FakeMmu(std::uint64_t pages, unsigned seed = 1);
    ~FakeMmu();

    // --- Env ------------------------------------------------------------------------------------------------------
    std::uint64_t* alloc_tables(unsigned order);
    void free_tables(std::uint64_t* t, unsigned order);
    Pa pa(const std::uint64_t* t) const { return pool_.pa(t); }
    std::uint64_t* table(Pa p) const { return static_cast<std::uint64_t*>(pool_.ptr(p)); }
    void store(std::uint64_t* slot, std::uint64_t v);
    std::uint64_t exchange(std::uint64_t* slot, std::uint64_t v);
    void put(std::uint64_t* slot, std::uint64_t v) { store(slot, v); }
    std::uint64_t fetch_clear(std::uint64_t* slot, std::uint64_t mask);
    std::uint64_t fetch_set(std::uint64_t* slot, std::uint64_t mask);
    void flush_all(std::uint64_t vttbr);
    void flush_page(std::uint64_t vttbr, Ipa ipa);
    void flush_page_local(std::uint64_t vttbr, Ipa ipa);

    // --- the guest's side -----------------------------------------------------------------------------------------
    Translation access(unsigned cpu, Ipa ipa, Access kind);

    // --- the test's side ------------------------------------------------------------------------------------------
    std::vector<std::string> violations;
    bool sets_access_flags = true;                   // VTCR_EL2.HA
    unsigned self = 0;                               // the CPU the hypervisor runs on
    std::vector<Ipa> speculate;                      // addresses that CPUs walk on their own accord
    std::function<void()> between;                   // runs after each change of a table: other CPUs' guests
    unsigned writes = 0, flushes = 0, hw_dirty = 0;  // counted
    std::uint64_t free_pages() const { return pool_.available(); }
    void take_memory(std::uint64_t leave);  // exhausts the pool but for so many pages
    void give_memory_back();
    // Every cached entry grants at most what the tables grant now: to hold whenever a Stage2 call has returned.
    void audit();

  private:
    struct Place {
        unsigned level;
        Ipa ipa;  // that entry 0 covers
    };
    struct Cpu {
        std::map<std::uint64_t, std::uint64_t> leaf[4];   // [level]: ipa >> shift(level) -> descriptor
        std::map<std::uint64_t, std::uint64_t> table[3];  // the walk cache, the same way
    };
    struct Slot {
        unsigned level;
        Ipa ipa;
    };
    static std::uint64_t key(Ipa ipa, unsigned level) { return ipa.v >> pte::shift(level); }
    std::optional<Slot> slot_of(const std::uint64_t* slot) const;
    void check_change(const std::uint64_t* slot, std::uint64_t before, std::uint64_t after);
    bool cached_within(const Cpu& c, const Slot& s) const;
    void link(const Slot& s, std::uint64_t descriptor);
    void unlink(const Slot& s, std::uint64_t descriptor);
    void after_change();
    void check_vttbr(std::uint64_t vttbr);
    std::optional<std::pair<unsigned, std::uint64_t>> cached_leaf(const Cpu& c, Ipa ipa);
    // The slot of the leaf for `ipa` as this CPU would find it, through what it has cached; null: translation fault.
    std::uint64_t* find(Cpu& c, Ipa ipa, unsigned& level);
    // As a walk for an access does: the flag is set before anything is cached. Null if there is no leaf, or one
    // without the flag that software is to set.
    std::uint64_t* walk(Cpu& c, Ipa ipa, unsigned& level);
    void drop(Cpu& c, Ipa ipa);
    void complain(const std::string& what, Ipa at);

    std::vector<std::uint8_t> memory_;
    std::uint8_t* base_ = nullptr;
    BuddyPool<NoLock> pool_;
    std::uint64_t* root_ = nullptr;
    std::map<const std::uint64_t*, Place> linked_;  // tables reachable from the root
    std::array<Cpu, kCpus> cpus_;
    std::vector<std::uint64_t*> held_;
    std::mt19937 random_;
    bool in_between_ = false;
};

}  // namespace proa::hv::test
