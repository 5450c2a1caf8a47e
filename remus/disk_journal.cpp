#include "remus/disk_journal.hpp"

#include <xxhash.h>

#include <algorithm>
#include <cstddef>
#include <cstring>

namespace proa::remus {
namespace {

constexpr std::uint64_t kSector = 512;
constexpr std::uint64_t kPiece = 1u << 20;  // read at once

struct TableEntry {
    std::uint64_t offset, length, zero;
};
static_assert(sizeof(TableEntry) == 24);

constexpr std::uint64_t whole_sectors(std::uint64_t bytes) {
    return (bytes + kSector - 1) / kSector * kSector;
}

class Hasher {
  public:
    Hasher() : state_(XXH3_createState(), &XXH3_freeState) { XXH3_128bits_reset(state_.get()); }
    void add(std::span<const std::uint8_t> b) { XXH3_128bits_update(state_.get(), b.data(), b.size()); }
    XXH128_canonical_t digest() const {
        XXH128_canonical_t c;
        XXH128_canonicalFromHash(&c, XXH3_128bits_digest(state_.get()));
        return c;
    }

  private:
    std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> state_;
};

std::uint64_t check_of(const JournalHeader& h) {
    return XXH3_64bits(&h, offsetof(JournalHeader, check));
}

std::uint64_t writes_in(const std::vector<DiskWritesRecord>& records) {
    std::uint64_t n = 0;
    for (const auto& r : records) n += r.writes.size();
    return n;
}

}  // namespace

struct DiskJournal::Entry {
    JournalHeader header;
    std::vector<TableEntry> table;
    std::uint64_t data_at = 0, end = 0;
};

std::uint64_t DiskJournal::bytes_for(const std::vector<DiskWritesRecord>& records) {
    std::uint64_t n = kSector + whole_sectors(writes_in(records) * sizeof(TableEntry));
    for (const auto& r : records) n += r.data.size();
    return n;
}

vmm::Result<void> DiskJournal::append(Epoch e, const std::vector<DiskWritesRecord>& records) {
    const std::uint64_t writes = writes_in(records);
    const std::size_t table = whole_sectors(writes * sizeof(TableEntry));
    std::vector<std::uint8_t> front(kSector + table);
    std::uint8_t* to = front.data() + kSector;
    JournalHeader h;
    for (const auto& r : records) {
        for (const auto& w : r.writes) {
            const TableEntry t{w.offset, w.length, w.zero ? 1u : 0u};
            std::memcpy(to, &t, sizeof(t));
            to += sizeof(t);
        }
        h.data += r.data.size();
    }
    Hasher hash;
    hash.add(std::span(front).subspan(kSector));
    for (const auto& r : records) hash.add(r.data);
    h.writes = static_cast<std::uint32_t>(writes);
    h.log = log_;
    h.index = index_;
    h.term = e.term;
    h.epoch = e.epoch;
    const XXH128_canonical_t digest = hash.digest();
    std::memcpy(h.hash, digest.digest, sizeof(h.hash));
    h.check = check_of(h);
    std::memcpy(front.data(), &h, sizeof(h));

    std::uint64_t at = end_;
    if (auto ok = file_->write(at, front); !ok) return ok;
    at += front.size();
    for (const auto& r : records) {
        if (r.data.empty()) continue;
        if (auto ok = file_->write(at, r.data); !ok) return ok;
        at += r.data.size();
    }
    if (auto ok = file_->sync(); !ok) return ok;
    end_ = at;
    ++index_;
    return {};
}

// The entry at `at` if it is whole. Lengths come from the file: bounded by it before memory is taken.
vmm::Result<std::optional<DiskJournal::Entry>> DiskJournal::look(std::uint64_t at,
                                                                 std::uint64_t file_bytes) const {
    const std::optional<Entry> nothing;
    Entry e;
    JournalHeader& h = e.header;
    if (at > file_bytes || file_bytes - at < kSector) return nothing;
    if (auto ok = file_->read(at, {reinterpret_cast<std::uint8_t*>(&h), sizeof(h)}); !ok)
        return tl::unexpected(ok.error());
    if (h.magic != JournalHeader::kMagic || h.version != 1 || h.check != check_of(h)) return nothing;
    if (h.log != log_ || h.index != index_) return nothing;
    const std::uint64_t left = file_bytes - at - kSector, table = whole_sectors(h.writes * sizeof(TableEntry));
    if (table > left || h.data > left - table || h.data % kSector != 0) return nothing;
    e.data_at = at + kSector + table;
    e.end = e.data_at + h.data;

    std::vector<std::uint8_t> piece(static_cast<std::size_t>(std::max(table, std::min(kPiece, h.data))));
    const auto front = std::span(piece).first(static_cast<std::size_t>(table));
    if (auto ok = file_->read(at + kSector, front); !ok) return tl::unexpected(ok.error());
    Hasher hash;
    hash.add(front);
    e.table.resize(h.writes);
    if (h.writes != 0) std::memcpy(e.table.data(), front.data(), h.writes * sizeof(TableEntry));
    for (std::uint64_t from = e.data_at; from < e.end;) {
        const auto part =
            std::span(piece).first(static_cast<std::size_t>(std::min<std::uint64_t>(kPiece, e.end - from)));
        if (auto ok = file_->read(from, part); !ok) return tl::unexpected(ok.error());
        hash.add(part);
        from += part.size();
    }
    if (std::memcmp(hash.digest().digest, h.hash, sizeof(h.hash)) != 0) return nothing;
    return e;
}

vmm::Result<std::optional<DiskJournal::Epoch>> DiskJournal::replay(DiskFile& disk, std::uint64_t size) {
    const auto file_bytes = file_->size();
    if (!file_bytes) return tl::unexpected(file_bytes.error());
    std::optional<Epoch> last;
    for (;;) {
        auto found = look(end_, *file_bytes);
        if (!found) return tl::unexpected(found.error());
        if (!*found) return last;
        const Entry& e = **found;
        std::uint64_t from = e.data_at;
        std::vector<std::uint8_t> piece(static_cast<std::size_t>(std::min(kPiece, e.header.data)));
        for (const auto& w : e.table) {
            if (w.offset > size || w.length > size - w.offset || (w.zero == 0 && w.length > e.end - from))
                return vmm::fail("the journal of a replica writes outside of it",
                                 "protect the guest again: the replica will be synced anew");
            if (w.zero != 0)
                if (auto ok = disk.zero(w.offset, w.length); !ok) return tl::unexpected(ok.error());
            for (std::uint64_t done = 0; w.zero == 0 && done < w.length;) {
                const auto part = std::span(piece).first(
                    static_cast<std::size_t>(std::min<std::uint64_t>(kPiece, w.length - done)));
                if (auto ok = file_->read(from, part); !ok) return tl::unexpected(ok.error());
                if (auto ok = disk.write(w.offset + done, part); !ok) return tl::unexpected(ok.error());
                from += part.size();
                done += part.size();
            }
        }
        last = Epoch{e.header.term, e.header.epoch};
        end_ = e.end;
        ++index_;
    }
}

vmm::Result<void> DiskJournal::restart(std::uint64_t log, std::uint64_t keep) {
    const std::uint64_t was = end_;
    log_ = log;
    index_ = end_ = 0;
    return was > keep ? file_->resize(keep) : vmm::Result<void>();
}

vmm::Result<void> write_into(DiskFile& disk, const DiskWritesRecord& r) {
    std::size_t from = 0;
    for (const auto& w : r.writes) {
        if (w.zero) {
            if (auto ok = disk.zero(w.offset, w.length); !ok) return ok;
            continue;
        }
        const auto length = static_cast<std::size_t>(w.length);
        if (auto ok = disk.write(w.offset, std::span(r.data).subspan(from, length)); !ok) return ok;
        from += length;
    }
    return {};
}

}  // namespace proa::remus
