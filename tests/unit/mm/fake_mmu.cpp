#include "fake_mmu.hpp"

#include <cstdio>

namespace proa::hv::test {
namespace {

constexpr std::uint64_t kMemoryAt = 0x1'0000'0000;
constexpr std::uint64_t kHardwareMaySee =
    s2::W | s2::DBM | pte::AF | s2::Writable | s2::Held;  // may change in place

}  // namespace

FakeMmu::FakeMmu(std::uint64_t pages, unsigned seed) : memory_((pages + 2) * kPage + kChunk), random_(seed) {
    auto at = reinterpret_cast<std::uintptr_t>(memory_.data());
    base_ = memory_.data() + ((at + kChunk - 1) / kChunk * kChunk - at);
    pool_.init(base_, Pa(kMemoryAt), pages * kPage);
}
FakeMmu::~FakeMmu() = default;

void FakeMmu::complain(const std::string& what, Ipa at) {
    char text[40];
    std::snprintf(text, sizeof(text), " at IPA 0x%llx", static_cast<unsigned long long>(at.v));
    if (violations.size() < 20) violations.push_back(what + text);
}

std::uint64_t* FakeMmu::alloc_tables(unsigned order) {
    auto* t = static_cast<std::uint64_t*>(pool_.alloc(order));
    if (order == 1 && t != nullptr) {
        root_ = t;
        linked_[t] = {1, Ipa(0)};
        linked_[t + 512] = {1, Ipa(512 * pte::span(1))};
    }
    return t;
}

void FakeMmu::free_tables(std::uint64_t* t, unsigned order) {
    const std::uint64_t at = pa(t).v;
    for (const Cpu& c : cpus_)
        for (const auto& level : c.table)
            for (const auto& [k, d] : level)
                if ((d & pte::kAddress) == at)
                    complain("a table is freed while a walker may still use it", Ipa(k));
    if (t == root_) {
        root_ = nullptr;
        linked_.clear();
    }
    linked_.erase(t);
    pool_.free(t, order);
}

std::optional<FakeMmu::Slot> FakeMmu::slot_of(const std::uint64_t* slot) const {
    const auto offset =
        (static_cast<std::uint64_t>(reinterpret_cast<const std::uint8_t*>(slot) - base_)) % kPage;
    const auto it = linked_.find(slot - offset / 8);
    if (it == linked_.end()) return std::nullopt;
    const Place& p = it->second;
    return Slot{p.level, p.ipa + offset / 8 * pte::span(p.level)};
}

void FakeMmu::link(const Slot& s, std::uint64_t descriptor) {
    const std::uint64_t* t = table(Pa(descriptor & pte::kAddress));
    linked_[t] = {s.level + 1, s.ipa};
    for (unsigned i = 0; i < 512 && s.level + 1 < 3; ++i)
        if (pte::is_table(t[i], s.level + 1)) link({s.level + 1, s.ipa + i * pte::span(s.level + 1)}, t[i]);
}
void FakeMmu::unlink(const Slot& s, std::uint64_t descriptor) {
    const std::uint64_t* t = table(Pa(descriptor & pte::kAddress));
    for (unsigned i = 0; i < 512 && s.level + 1 < 3; ++i)
        if (pte::is_table(t[i], s.level + 1)) unlink({s.level + 1, s.ipa + i * pte::span(s.level + 1)}, t[i]);
    linked_.erase(t);
}

bool FakeMmu::cached_within(const Cpu& c, const Slot& s) const {
    for (unsigned l = 1; l <= 3; ++l) {
        const bool wider = l < s.level;  // one wider entry may cover the slot
        const std::uint64_t first = key(s.ipa, l),
                            last = wider ? first : key(s.ipa + (pte::span(s.level) - 1), l);
        const auto holds = [&](const std::map<std::uint64_t, std::uint64_t>& m) {
            const auto it = m.lower_bound(first);
            return it != m.end() && it->first <= last;
        };
        if (holds(c.leaf[l]) || (l < 3 && l >= s.level && holds(c.table[l]))) return true;
    }
    return false;
}

void FakeMmu::check_change(const std::uint64_t* slot, std::uint64_t before, std::uint64_t after) {
    ++writes;
    const auto s = slot_of(slot);
    if (!s || before == after) return;
    const bool was = (before & pte::Valid) != 0, is = (after & pte::Valid) != 0;
    const bool was_table = pte::is_table(before, s->level), is_table = pte::is_table(after, s->level);
    if (was && is) {
        // In place only: permissions of a leaf, software's bits of a table (IGNORED by the walker).
        const std::uint64_t allowed = was_table ? s2::Touched | s2::Held : kHardwareMaySee;
        if (was_table != is_table || ((before ^ after) & ~allowed) != 0)
            complain("a valid descriptor is replaced without break-before-make", s->ipa);
    } else if (is) {
        for (const Cpu& c : cpus_)
            if (cached_within(c, *s)) {
                complain("a descriptor is made while a TLB still holds what was there before", s->ipa);
                break;
            }
    }
    if (was_table && !is_table) unlink(*s, before);
    if (is_table && !was_table) link(*s, after);
}

void FakeMmu::after_change() {
    if (in_between_) return;
    in_between_ = true;
    if (!speculate.empty())
        for (Cpu& c : cpus_) {
            const Ipa at = speculate[random_() % speculate.size()];
            unsigned level;
            if (!cached_leaf(c, at))
                if (const std::uint64_t* slot = walk(c, at, level)) c.leaf[level][key(at, level)] = *slot;
        }
    if (between) between();
    in_between_ = false;
}

void FakeMmu::store(std::uint64_t* slot, std::uint64_t v) {
    check_change(slot, *slot, v);
    *slot = v;
    after_change();
}
// Between the caller's last look and this, guests go on.
std::uint64_t FakeMmu::exchange(std::uint64_t* slot, std::uint64_t v) {
    after_change();
    const std::uint64_t before = *slot;
    store(slot, v);
    return before;
}
std::uint64_t FakeMmu::fetch_clear(std::uint64_t* slot, std::uint64_t mask) {
    const std::uint64_t before = *slot;
    check_change(slot, before, before & ~mask);
    *slot = before & ~mask;
    after_change();
    return before;
}
std::uint64_t FakeMmu::fetch_set(std::uint64_t* slot, std::uint64_t mask) {
    const std::uint64_t before = *slot;
    check_change(slot, before, before | mask);
    *slot = before | mask;
    after_change();
    return before;
}

void FakeMmu::check_vttbr(std::uint64_t vttbr) {
    ++flushes;
    if (root_ == nullptr || (vttbr & pte::kAddress) != pa(root_).v)
        complain("a TLBI for another VMID", Ipa(vttbr));
}
void FakeMmu::flush_all(std::uint64_t vttbr) {
    check_vttbr(vttbr);
    for (Cpu& c : cpus_) c = Cpu{};
}
// TLBI IPAS2E1 takes what would be used to translate that one address: a block's entry, a page's, and the tables on
// the way. The neighbours' entries stay.
void FakeMmu::drop(Cpu& c, Ipa ipa) {
    for (unsigned l = 1; l <= 3; ++l) c.leaf[l].erase(key(ipa, l));
    for (unsigned l = 1; l < 3; ++l) c.table[l].erase(key(ipa, l));
}
void FakeMmu::flush_page(std::uint64_t vttbr, Ipa ipa) {
    check_vttbr(vttbr);
    for (Cpu& c : cpus_) drop(c, ipa);
}
void FakeMmu::flush_page_local(std::uint64_t vttbr, Ipa ipa) {
    check_vttbr(vttbr);
    drop(cpus_[self], ipa);
}

std::optional<std::pair<unsigned, std::uint64_t>> FakeMmu::cached_leaf(const Cpu& c, Ipa ipa) {
    std::optional<std::pair<unsigned, std::uint64_t>> found;
    for (unsigned l = 1; l <= 3; ++l)
        if (const auto it = c.leaf[l].find(key(ipa, l)); it != c.leaf[l].end()) {
            if (found) complain("TLB conflict: two entries for one address", ipa);
            found = {l, it->second};
        }
    return found;
}

std::uint64_t* FakeMmu::walk(Cpu& c, Ipa ipa, unsigned& level) {
    std::uint64_t* slot = find(c, ipa, level);
    if (slot == nullptr || (*slot & pte::AF) != 0) return slot;
    if (!sets_access_flags) return nullptr;
    *slot |= pte::AF;
    return slot;
}

std::uint64_t* FakeMmu::find(Cpu& c, Ipa ipa, unsigned& level) {
    std::uint64_t* t = root_;
    std::uint64_t index = ipa.v >> pte::shift(1);
    for (level = 1;; ++level) {
        std::uint64_t* slot = &t[index];
        std::uint64_t e = *slot;
        if (level < 3)
            if (const auto it = c.table[level].find(key(ipa, level)); it != c.table[level].end())
                e = it->second;
        if (pte::is_leaf(e, level)) return slot;
        if (!pte::is_table(e, level)) return nullptr;
        c.table[level][key(ipa, level)] = e;
        t = table(Pa(e & pte::kAddress));
        index = (ipa.v >> pte::shift(level + 1)) & 511;
    }
}

Translation FakeMmu::access(unsigned cpu, Ipa ipa, Access kind) {
    Cpu& c = cpus_[cpu];
    for (;;) {
        unsigned level;
        std::uint64_t e;
        if (const auto hit = cached_leaf(c, ipa)) {
            level = hit->first;
            e = hit->second;
        } else {
            const std::uint64_t* slot = walk(c, ipa, level);
            if (slot == nullptr)
                return {find(c, ipa, level) != nullptr ? Outcome::AccessFlagFault : Outcome::TranslationFault};
            e = c.leaf[level][key(ipa, level)] = *slot;
        }
        const Pa out((e & pte::kAddress) + (ipa.v & (pte::span(level) - 1)));
        if (kind == Access::Read ? (e & s2::R) != 0 : (e & s2::W) != 0) return {Outcome::Done, out};
        if (kind == Access::Read || (e & s2::DBM) == 0) return {Outcome::PermissionFault};
        // The update is atomic with a check that the entry in memory is still the cached one; else walk again.
        const unsigned cached_level = level;
        std::uint64_t* slot = walk(c, ipa, level);
        if (slot == nullptr || (*slot & ~s2::W) != (e & ~s2::W)) {
            c.leaf[cached_level].erase(key(ipa, cached_level));
            if (slot == nullptr) return {Outcome::TranslationFault};
            continue;
        }
        *slot |= s2::W;
        ++hw_dirty;
        c.leaf[level][key(ipa, level)] = *slot;
        return {Outcome::Done, out};
    }
}

void FakeMmu::audit() {
    for (const Cpu& c : cpus_)
        for (unsigned l = 1; l <= 3; ++l)
            for (const auto& [k, e] : c.leaf[l]) {
                const Ipa ipa(k << pte::shift(l));
                Cpu fresh;
                unsigned level;
                const std::uint64_t* slot = find(fresh, ipa, level);
                if (slot == nullptr) {
                    complain("a TLB still translates what was unmapped", ipa);
                    continue;
                }
                const std::uint64_t now = (*slot & pte::kAddress) + (ipa.v & (pte::span(level) - 1));
                if (level != l || now != (e & pte::kAddress))
                    complain("a TLB translates otherwise than the tables", ipa);
                if ((*slot & pte::AF) == 0) complain("a TLB holds an entry without its access flag", ipa);
                if ((e & ~*slot & (s2::R | s2::W)) != 0)
                    complain("a TLB grants a permission that was taken away", ipa);
            }
}

void FakeMmu::take_memory(std::uint64_t leave) {
    while (pool_.available() > leave) {
        auto* p = static_cast<std::uint64_t*>(pool_.alloc());
        if (p == nullptr) break;
        held_.push_back(p);
    }
}
void FakeMmu::give_memory_back() {
    for (std::uint64_t* p : held_) pool_.free(p);
    held_.clear();
}

}  // namespace proa::hv::test
