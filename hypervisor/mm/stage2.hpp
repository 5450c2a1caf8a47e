// A domain's stage-2 tables: 40-bit IPA, start level 1 in two concatenated tables, blocks of 1 GiB and 2 MiB, and the
// dirty log. Every operation is called with Domain::mm_lock held: harvest and the write fault handler must exclude
// each other, or "bit taken -> write enabled" in between loses a page.
//
// Env gives memory and TLB maintenance (arch/stage2_env.hpp at EL2, a model TLB in tests):
//   std::uint64_t* alloc_tables(unsigned order);  void free_tables(std::uint64_t*, unsigned order);
//   Pa pa(const std::uint64_t*);  std::uint64_t* table(Pa);
//   void store(std::uint64_t* slot, std::uint64_t v);
//   std::uint64_t exchange(std::uint64_t* slot, std::uint64_t v);   // atomic, otherwise as store()
//   void put(slot, v);    // no barrier after it: a flush follows, or the next look under the lock is soon enough
//   std::uint64_t fetch_clear(slot, mask), fetch_set(slot, mask);     // atomic: hardware updates entries too
//   void flush_all(vttbr), flush_page(vttbr, Ipa), flush_page_local(vttbr, Ipa);   // with the barriers around them
#pragma once
#include <cstdint>

#include "hypervisor/mm/descriptor.hpp"
#include "hypervisor/mm/write_around.hpp"

namespace proa::hv {

enum class MapStatus : std::uint8_t { Ok, NoMemory, Overlap, OutOfRange };
enum class WriteFault : std::uint8_t { Resolved, Stale, NotWritable, NoRoom };

template <class Env>
class BasicStage2 {
  public:
    static constexpr unsigned kIpaBits = 40, kRootOrder = 1;
    static constexpr std::uint64_t kIpaSize = 1ull << kIpaBits;

    bool init(Env& env, std::uint64_t vmid) {
        env_ = &env;
        root_ = env.alloc_tables(kRootOrder);
        if (root_ == nullptr) return false;
        tables_ = 2;
        vttbr_ = vmid << 48 | env.pa(root_).v;
        return true;
    }
    void destroy() {
        if (root_ == nullptr) return;
        env_->flush_all(vttbr_);  // no vCPU has these tables loaded any more: nothing walks them after this
        for (unsigned i = 0; i < 1024; ++i)
            if (pte::is_table(root_[i], 1)) free_subtree(table_at(root_[i]), 2);
        env_->free_tables(root_, kRootOrder);
        root_ = nullptr;
        tables_ = 0;
    }

    std::uint64_t vttbr() const { return vttbr_; }
    std::uint64_t table_pages() const { return tables_; }

    // Maps [ipa, ipa + size) to pa on, page aligned, nothing mapped there yet (else Overlap). On NoMemory what was
    // mapped by this call is unmapped again. `attributes` without AF: the first access sets it, by
    // hardware (VTCR_EL2.HA) or by access_fault().
    MapStatus map(Ipa ipa, Pa pa, std::uint64_t size, std::uint64_t attributes) {
        if (ipa.v >= kIpaSize || size > kIpaSize - ipa.v) return MapStatus::OutOfRange;
        std::uint64_t done = 0;
        while (done < size) {
            const Ipa at = ipa + done;
            unsigned level = 1;
            while (level < 3 && (!at.aligned(pte::span(level)) || !(pa + done).aligned(pte::span(level)) ||
                                 size - done < pte::span(level)))
                ++level;
            MapStatus status;
            std::uint64_t* slot = descend(at, level, status);
            // A table that unmap() left behind holds nothing, or the levels below find out.
            while (status == MapStatus::Ok && pte::is_table(*slot, level)) slot = descend(at, ++level, status);
            if (status == MapStatus::Ok && *slot != 0) status = MapStatus::Overlap;
            if (status != MapStatus::Ok) {
                unmap(ipa, done);
                return status;
            }
            env_->store(slot, (pa + done).v | attributes | pte::leaf_bits(level));
            done += pte::span(level);
        }
        return MapStatus::Ok;
    }

    // Page aligned. Blocks that straddle an end are split first; false if that needs memory there isn't.
    bool unmap(Ipa ipa, std::uint64_t size) {
        const Ipa end = ipa + size;
        for (Ipa at = ipa; at < end;) {
            unsigned level;
            std::uint64_t* slot = walk(at, level);
            const Ipa next = at.floor(pte::span(level)) + pte::span(level);
            if (*slot == 0) {
                at = next;
            } else if (level < 3 && (!at.aligned(pte::span(level)) || end < next)) {
                if (!split(slot, level, at)) return env_->flush_all(vttbr_), false;
            } else {
                env_->store(slot, 0);
                at = next;
            }
        }
        env_->flush_all(vttbr_);
        return true;
    }

    // The leaf entry for an IPA, 0 if none; `level` is where it was found.
    std::uint64_t lookup(Ipa ipa, unsigned& level) const {
        if (ipa.v >= kIpaSize) return level = 1, 0;
        const std::uint64_t e = *const_cast<BasicStage2*>(this)->walk(ipa, level);
        return pte::is_leaf(e, level) ? e : 0;
    }

    // Pages with the access flag into sink(word, bits) (word 0 = the first 64 pages from `ipa`, which is chunk aligned), over
    // RAM mapped in 2 MiB chunks; returns how many words that were. A block's flag is that of all its pages. Of memory mapped
    // without AF: what may have been read or written since, whoever set the flag; a write that comes later is in the log, if
    // that is armed. A flag that is set never goes: a TLB that may write through an entry has found it set.
    template <class Sink>
    std::uint64_t accessed(Ipa ipa, std::uint64_t size, Sink&& sink) {
        std::uint64_t words = 0;
        for_each_parent(ipa, size, [&](std::uint64_t* parent, Ipa at) {
            const std::uint64_t e = __atomic_load_n(parent, __ATOMIC_RELAXED);
            for (unsigned w = 0; w < 8; ++w) {
                std::uint64_t bits = 0;
                if (pte::is_leaf(e, 2)) bits = (e & pte::AF) != 0 ? ~0ull : 0;
                if (pte::is_table(e, 2)) bits = accessed_pages(table_at(e) + w * 64);
                if (bits == 0) continue;
                ++words;
                sink((at - ipa) / kPage / 64 + w, bits);
            }
        });
        return words;
    }

    // An access met an entry without the flag. It is to be retried, whatever is there by now: entries without it are in no TLB.
    void access_fault(Ipa ipa) {
        if (ipa.v >= kIpaSize) return;
        unsigned level;
        std::uint64_t* slot = walk(ipa, level);
        if (pte::is_leaf(__atomic_load_n(slot, __ATOMIC_RELAXED), level)) env_->fetch_set(slot, pte::AF);
    }

    // --- dirty log, over RAM mapped in 2 MiB chunks ------------------------------------------------------------
    // Splits the chunks of [ipa, ipa + size) into pages and takes their write permission. False (and unchanged but
    // for chunks already split) if memory for the tables lacks.
    bool arm(Ipa ipa, std::uint64_t size, bool hardware) {
        hardware_ = hardware;
        for (Ipa at = ipa; at < ipa + size; at = at + kChunk) {
            unsigned level;
            std::uint64_t* slot = walk(at, level);
            if (level == 2 && pte::is_leaf(*slot, 2) && !split(slot, 2, at)) return false;
        }
        for_each_table(ipa, size, [&](std::uint64_t* parent, std::uint64_t* table, Ipa) {
            env_->fetch_clear(parent, s2::Touched);
            for (unsigned i = 0; i < 512; ++i) {
                if (!pte::is_leaf(table[i], 3) || (table[i] & s2::Writable) == 0) continue;
                if (hardware) env_->fetch_set(&table[i], s2::DBM);
                env_->fetch_clear(&table[i], s2::W);
            }
        });
        env_->flush_all(vttbr_);
        return true;
    }

    // Gives write permission back and joins chunks to blocks again. What was written and not harvested is forgotten, and
    // nothing is held any more.
    // Break-before-make once for all chunks: an invalidation by address would leave the other 511 pages' entries in
    // the TLBs beside the new block.
    void disarm(Ipa ipa, std::uint64_t size) {
        for_each_table(ipa, size, [&](std::uint64_t* parent, std::uint64_t* table, Ipa) {
            for (unsigned i = 0; i < 512; ++i) {
                if (!pte::is_leaf(table[i], 3) || (table[i] & s2::Writable) == 0) continue;
                env_->fetch_set(&table[i], s2::W);
                env_->fetch_clear(&table[i], s2::DBM | s2::Held);
            }
            env_->fetch_clear(parent, s2::Held);
            if (can_join(table)) env_->store(parent, *parent & ~pte::Valid);
        });
        env_->flush_all(vttbr_);
        for_each_parent(ipa, size, [&](std::uint64_t* parent, Ipa) {
            if (*parent != 0 && (*parent & pte::Valid) == 0) join(parent);
        });
    }

    // Moves the pages written since the last arm or harvest into sink(word, bits) (word 0 = the first 64 pages from
    // `ipa`, which is chunk aligned) and re-arms them; the TLBs no longer hold write permission when it returns.
    // `all`: look at every page (hardware leaves no hint); else only below tables the fault handler touched.
    template <class Sink>
    std::uint64_t harvest(Ipa ipa, std::uint64_t size, bool all, Sink&& sink) {
        std::uint64_t count = 0;
        for_each_table(ipa, size, [&](std::uint64_t* parent, std::uint64_t* table, Ipa at) {
            if ((env_->fetch_clear(parent, s2::Touched) & s2::Touched) == 0 && !all) return;
            for (unsigned w = 0; w < 8; ++w) {
                std::uint64_t bits = 0;
                for (unsigned i = 0; i < 64; ++i) {
                    std::uint64_t* slot = &table[w * 64 + i];
                    const std::uint64_t e = __atomic_load_n(slot, __ATOMIC_RELAXED);
                    if ((e & (s2::W | s2::Writable | pte::Valid)) != (s2::W | s2::Writable | pte::Valid))
                        continue;
                    env_->fetch_clear(slot, s2::W);
                    bits |= 1ull << i;
                    ++count;
                }
                if (bits == 0) continue;
                sink((at - ipa) / kPage / 64 + w, bits);
            }
        });
        if (count != 0) env_->flush_all(vttbr_);
        return count;
    }

    // --- copy-on-write checkpoints, while the log is armed -------------------------------------------------------
    // Holds the pages written since the last arm, harvest or hold, and those of marked(word); sink(word, bits) gets both.
    // No vCPU runs: nobody else changes an entry. Neither W nor DBM stays, so that with either log the next write faults.
    template <class Marked, class Sink>
    std::uint64_t hold(Ipa ipa, std::uint64_t size, Marked&& marked, Sink&& sink) {
        std::uint64_t count = 0;
        for_each_table(ipa, size, [&](std::uint64_t* parent, std::uint64_t* table, Ipa at) {
            const bool look = (env_->fetch_clear(parent, s2::Touched) & s2::Touched) != 0 || hardware_;
            std::uint64_t any = 0;
            for (unsigned w = 0; w < 8; ++w) {
                const std::uint64_t word = (at - ipa) / kPage / 64 + w, asked = marked(word);
                if (asked == 0 && !look) continue;
                std::uint64_t bits = 0;
                for (unsigned i = 0; i < 64; ++i) {
                    std::uint64_t* slot = &table[w * 64 + i];
                    const std::uint64_t e = __atomic_load_n(slot, __ATOMIC_RELAXED);
                    if ((e & s2::W) == 0 && (asked >> i & 1) == 0) continue;
                    if ((e & (s2::Writable | pte::Valid)) != (s2::Writable | pte::Valid)) continue;
                    // With AF, so that hardware has nothing to set in a held entry.
                    env_->put(slot, (e & ~(s2::W | s2::DBM)) | s2::Held | pte::AF);
                    bits |= 1ull << i;
                    ++count;
                }
                any |= bits;
                if (bits != 0) sink(word, bits);
            }
            if (any != 0) env_->fetch_set(parent, s2::Held);
        });
        if (count != 0) env_->flush_all(vttbr_);
        return count;
    }

    // Nothing in [ipa, ipa + size) is held any more. Permissions only grow, by what the hardware may do: a TLB that doesn't
    // know costs a fault. vCPUs may run: a held entry is one that hardware doesn't change.
    void release(Ipa ipa, std::uint64_t size) {
        for_each_table(ipa, size, [&](std::uint64_t* parent, std::uint64_t* table, Ipa) {
            if ((env_->fetch_clear(parent, s2::Held) & s2::Held) == 0) return;
            for (unsigned i = 0; i < 512; ++i) {
                const std::uint64_t e = __atomic_load_n(&table[i], __ATOMIC_RELAXED);
                if ((e & s2::Held) != 0) env_->put(&table[i], (e & ~s2::Held) | dirty_modifier());
            }
        });
    }

    // A write met a page without write permission. Resolved: permission given. Stale: it was there already, this
    // pCPU's TLB held the old entry, which is dropped now. Either way the access is to be retried. NoRoom: the page is held
    // and copy(page's IPA, its PA) has no room for a copy; retry when there is some. `around`: of the vCPU, if the pages
    // behind may be given too.
    template <class Copy>
    WriteFault write_fault(Ipa ipa, Copy&& copy, WriteAround* around = nullptr) {
        if (ipa.v >= kIpaSize) return WriteFault::NotWritable;
        unsigned level;
        std::uint64_t* slot = walk(ipa, level);
        const std::uint64_t e = __atomic_load_n(slot, __ATOMIC_RELAXED);
        if (!pte::is_leaf(e, level)) return e == 0 ? WriteFault::NotWritable : WriteFault::Stale;
        if ((e & s2::Writable) == 0) return WriteFault::NotWritable;
        if ((e & s2::Held) != 0) {
            if (!copy(ipa.floor(kPage), Pa(e & pte::kAddress))) return WriteFault::NoRoom;
            // The entry after the copy, the guest's store after both: store() orders what is before it, and its
            // barrier what comes after.
            env_->store(slot, (e & ~s2::Held) | s2::W | dirty_modifier());
            env_->fetch_set(parent_of(ipa), s2::Touched);
            return WriteFault::Resolved;
        }
        if ((env_->fetch_set(slot, s2::W) & s2::W) != 0) {
            env_->flush_page_local(vttbr_, ipa);
            return WriteFault::Stale;
        }
        if (level == 3) {
            env_->fetch_set(parent_of(ipa), s2::Touched);
            if (around != nullptr) give_more(slot, ipa, *around);
        }
        return WriteFault::Resolved;
    }
    WriteFault write_fault(Ipa ipa) {
        return write_fault(ipa, [](Ipa, Pa) { return false; });
    }

  private:
    std::uint64_t* table_at(std::uint64_t entry) { return env_->table(Pa(entry & pte::kAddress)); }
    static unsigned index(Ipa ipa, unsigned level) {
        return static_cast<unsigned>(ipa.v >> pte::shift(level)) & (level == 1 ? 1023 : 511);
    }

    std::uint64_t dirty_modifier() const { return hardware_ ? s2::DBM : 0; }

    // Pages behind one that was given, in the same table. They count as written from now on (WriteAround says why that
    // is safe); a page that must not be written without more ado ends the run.
    void give_more(std::uint64_t* slot, Ipa ipa, WriteAround& around) {
        const std::uint64_t page = ipa.v / kPage, most = around.more(page), room = 511 - index(ipa, 3);
        std::uint64_t given = 0;
        for (; given < most && given < room; ++given) {
            std::uint64_t* next = slot + given + 1;
            const std::uint64_t e = __atomic_load_n(next, __ATOMIC_RELAXED);
            if (!pte::is_leaf(e, 3) || (e & s2::Writable) == 0 || (e & s2::Held) != 0) break;
            if ((e & s2::W) == 0) env_->fetch_set(next, s2::W);
        }
        around.gave(page, given);
    }

    // The deepest entry that exists for an IPA: a leaf or an empty slot.
    std::uint64_t* walk(Ipa ipa, unsigned& level) {
        std::uint64_t* slot = &root_[index(ipa, 1)];
        for (level = 1; pte::is_table(*slot, level);) slot = &table_at(*slot)[index(ipa, ++level)];
        return slot;
    }
    std::uint64_t* parent_of(Ipa ipa) { return &table_at(root_[index(ipa, 1)])[index(ipa, 2)]; }

    // The slot for an IPA at `level`, making tables on the way; a block in the way is an Overlap.
    std::uint64_t* descend(Ipa ipa, unsigned level, MapStatus& status) {
        std::uint64_t* slot = &root_[index(ipa, 1)];
        status = MapStatus::Ok;
        for (unsigned l = 1; l < level; ++l) {
            if (pte::is_leaf(*slot, l)) return status = MapStatus::Overlap, nullptr;
            if (*slot == 0) {
                std::uint64_t* t = new_table();
                if (t == nullptr) return status = MapStatus::NoMemory, nullptr;
                env_->store(slot, env_->pa(t).v | pte::Valid | pte::Table);
            }
            slot = &table_at(*slot)[index(ipa, l + 1)];
        }
        return slot;
    }

    // Replaces a block by a table of the next level with the same attributes. Break-before-make (D8.14.1): the old
    // entry goes and is flushed before the new one comes; a vCPU that meets the gap faults and retries under the lock.
    bool split(std::uint64_t* slot, unsigned level, Ipa at) {
        std::uint64_t* t = new_table();
        if (t == nullptr) return false;
        const std::uint64_t step = pte::span(level + 1);
        const std::uint64_t e =
            env_->exchange(slot, 0);        // with the flag that hardware may have set a moment ago
        for (unsigned i = 0; i < 512; ++i)  // nothing walks it yet: no store() with its barrier
            t[i] = ((e & pte::kAddress) + i * step) | (e & s2::kAttributes) | pte::leaf_bits(level + 1);
        env_->flush_page(vttbr_, at);
        env_->store(slot, env_->pa(t).v | pte::Valid | pte::Table);
        return true;
    }

    static std::uint64_t accessed_pages(const std::uint64_t* entries) {
        std::uint64_t bits = 0;
        for (unsigned i = 0; i < 64; ++i) {
            const std::uint64_t e = __atomic_load_n(&entries[i], __ATOMIC_RELAXED);
            if (pte::is_leaf(e, 3) && (e & pte::AF) != 0) bits |= 1ull << i;
        }
        return bits;
    }

    // Whether a table of pages says what one block could say, but for the access flags: hardware sets them meanwhile.
    static bool can_join(const std::uint64_t* table) {
        const std::uint64_t first = table[0] | pte::AF;
        if (!pte::is_leaf(first, 3) || ((first & pte::kAddress) & (kChunk - 1)) != 0) return false;
        for (unsigned i = 1; i < 512; ++i)
            if ((__atomic_load_n(&table[i], __ATOMIC_RELAXED) | pte::AF) != first + i * kPage) return false;
        return true;
    }
    // `parent` held the table and is invalid, and flushed, by now: the table doesn't change any more.
    void join(std::uint64_t* parent) {
        std::uint64_t* table = table_at(*parent);
        std::uint64_t flags = 0;
        for (unsigned i = 0; i < 512; ++i) flags |= table[i] & pte::AF;
        env_->store(parent,
                    (table[0] & pte::kAddress) | (table[0] & s2::kAttributes) | flags | pte::leaf_bits(2));
        env_->free_tables(table, 0);
        --tables_;
    }

    template <class F>
    void for_each_parent(Ipa ipa, std::uint64_t size, F&& f) {
        for (Ipa at = ipa; at < ipa + size; at = at + kChunk) {
            const std::uint64_t top = root_[index(at, 1)];
            if (pte::is_table(top, 1)) f(&table_at(top)[index(at, 2)], at);
        }
    }
    template <class F>
    void for_each_table(Ipa ipa, std::uint64_t size, F&& f) {
        for_each_parent(ipa, size, [&](std::uint64_t* parent, Ipa at) {
            if (pte::is_table(*parent, 2)) f(parent, table_at(*parent), at);
        });
    }

    std::uint64_t* new_table() {
        std::uint64_t* t = env_->alloc_tables(0);
        if (t != nullptr) ++tables_;
        return t;
    }
    void free_subtree(std::uint64_t* table, unsigned level) {
        for (unsigned i = 0; i < 512 && level < 3; ++i)
            if (pte::is_table(table[i], level)) free_subtree(table_at(table[i]), level + 1);
        env_->free_tables(table, 0);
    }

    Env* env_ = nullptr;
    std::uint64_t* root_ = nullptr;
    std::uint64_t vttbr_ = 0, tables_ = 0;
    bool hardware_ = false;  // how the log was armed last
};

}  // namespace proa::hv
