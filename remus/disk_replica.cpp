#include "remus/disk_replica.hpp"

#include <xxhash.h>

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <optional>
#include <random>

#include "remus/disk_journal.hpp"

namespace proa::remus {
namespace {

constexpr std::uint64_t kSector = 512, kMostEpochs = 1024, kBlocksAtOnce = 16;

// The state file, little endian.
struct SavedState {
    static constexpr std::uint64_t kMagic = 0x7473'7072'616f'7270;  // "proarpst"
    std::uint64_t magic = kMagic;
    std::uint32_t version = 1;
    std::uint32_t consistent = 0;
    std::uint64_t term = 0, epoch = 0;
    std::uint64_t log = 0;    // number of the journal's log that comes after this state
    std::uint64_t disk = 0;   // which file this is about: binding_of()
    std::uint64_t check = 0;  // XXH3-64 of what is above
};
static_assert(sizeof(SavedState) == 56);

std::uint64_t check_of(const SavedState& s) {
    return XXH3_64bits(&s, offsetof(SavedState, check));
}

// A state that was written about another file under the same name, or for another path, says nothing about this one.
std::uint64_t binding_of(const std::string& path, std::uint64_t size, std::uint64_t identity) {
    const std::uint64_t seed[2] = {size, identity};
    return XXH3_64bits_withSeed(path.data(), path.size(), XXH3_64bits(seed, sizeof(seed)));
}

// Whatever a guest's or a disk's name holds, it names one file in the directory.
std::string file_name_of(const std::string& identity) {
    std::string name;
    for (const char c : identity) {
        const bool plain =
            (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
        char escaped[4] = {c};
        if (!plain) std::snprintf(escaped, sizeof(escaped), "%%%02X", static_cast<unsigned>(c) & 0xff);
        name += escaped;
    }
    return name;
}

// No log ever takes another's entries for its own, even if all that was known of it is lost.
std::uint64_t new_log() {
    std::random_device random;
    return std::uint64_t{random()} << 32 | random();
}

}  // namespace

struct DiskReplica::Impl {
    Impl(DiskFiles& f, std::string p, std::uint64_t s, std::uint64_t most, std::string n)
        : files(f), path(std::move(p)), name(std::move(n)), size(s), journal_bytes(most) {}

    vmm::Result<void> load();
    vmm::Result<std::optional<SavedState>> saved() const;
    vmm::Result<void> save(ReplicaState s);
    vmm::Result<void> make_disk();
    vmm::Result<bool> open_disk();  // true: it was made just now
    vmm::Result<void> open_journal();
    vmm::Result<void> replay();
    vmm::Result<void> check(const DiskWritesRecord& r) const;
    vmm::Result<void> usable() const;
    vmm::Result<void> flush();
    vmm::Result<void> finish_sync(std::uint64_t of_term, std::uint64_t of_epoch,
                                  const std::vector<DiskWritesRecord>& writes);
    // An error of the storage: what is in it is known to nobody now (a failed sync may have dropped what it should have
    // written), but the next open() finds out.
    vmm::Result<void> storage(vmm::Result<void> r) {
        if (!r) failed = true;
        return r;
    }

    DiskFiles& files;
    const std::string path, name;
    const std::uint64_t size, journal_bytes;
    std::unique_ptr<DiskFile> disk;
    std::optional<DiskJournal> journal;
    std::uint64_t binding = 0, term = 0, epoch = 0, log = new_log();
    ReplicaState state = ReplicaState::Stale;
    bool syncing = false, failed = false;
};

vmm::Result<std::optional<SavedState>> DiskReplica::Impl::saved() const {
    auto f = files.open(name + ".state");
    if (!f) return tl::unexpected(f.error());
    if (!*f) return std::optional<SavedState>();
    SavedState s;
    const auto bytes = (*f)->size();
    if (!bytes) return tl::unexpected(bytes.error());
    if (*bytes != sizeof(s)) return std::optional<SavedState>();
    if (auto ok = (*f)->read(0, {reinterpret_cast<std::uint8_t*>(&s), sizeof(s)}); !ok)
        return tl::unexpected(ok.error());
    if (s.magic != SavedState::kMagic || s.version != 1 || s.check != check_of(s))
        return std::optional<SavedState>();
    return s;
}

// Under a new log number: whatever is in the journal came before this state.
vmm::Result<void> DiskReplica::Impl::save(ReplicaState to) {
    SavedState s;
    s.consistent = to == ReplicaState::Consistent ? 1 : 0;
    s.term = term;
    s.epoch = epoch;
    s.log = new_log();
    s.disk = binding;
    s.check = check_of(s);
    const std::string file = name + ".state";
    {
        auto f = files.create(file + ".new");
        if (!f) return tl::unexpected(f.error());
        if (auto ok = (*f)->write(0, {reinterpret_cast<const std::uint8_t*>(&s), sizeof(s)}); !ok) return ok;
        if (auto ok = (*f)->sync(); !ok) return ok;
    }
    if (auto ok = files.rename(file + ".new", file); !ok) return ok;
    if (auto ok = files.sync_directory_of(file); !ok) return ok;
    log = s.log;
    state = to;
    return journal ? journal->restart(log, journal_bytes) : vmm::Result<void>();
}

vmm::Result<void> DiskReplica::Impl::make_disk() {
    // First: a state about a file that is gone must not outlive it to be believed about this one.
    if (auto ok = save(ReplicaState::Stale); !ok) return ok;
    if (!disk) {
        auto made = files.create(path);
        if (!made) return tl::unexpected(made.error());
        disk = std::move(*made);
    }
    if (auto ok = disk->resize(size); !ok) return ok;
    if (auto ok = disk->sync(); !ok) return ok;
    return files.sync_directory_of(path);
}

vmm::Result<bool> DiskReplica::Impl::open_disk() {
    auto f = files.open(path);
    if (!f) return tl::unexpected(f.error());
    disk = std::move(*f);
    const auto bytes = disk ? disk->size() : vmm::Result<std::uint64_t>(0);
    if (!bytes) return tl::unexpected(bytes.error());
    if (*bytes != 0 && *bytes != size)
        return vmm::fail("the replica " + path + " has " + std::to_string(*bytes) +
                             " bytes, the guest's disk has " + std::to_string(size),
                         "give it a file or volume of the same size, or remove the file");
    if (*bytes == 0)
        if (auto ok = make_disk(); !ok) return tl::unexpected(ok.error());
    binding = binding_of(path, size, disk->identity());
    return *bytes == 0;
}

vmm::Result<void> DiskReplica::Impl::open_journal() {
    const std::string file = name + ".journal";
    auto f = files.open(file);
    if (!f) return tl::unexpected(f.error());
    if (!*f) {
        f = files.create(file);
        if (!f) return tl::unexpected(f.error());
        if (auto ok = files.sync_directory_of(file); !ok) return ok;
    }
    journal.emplace(std::move(*f), log);
    return {};
}

// Also when nothing is replayed the entries of other logs stay where they are: they are nobody's.
vmm::Result<void> DiskReplica::Impl::replay() {
    auto last = journal->replay(*disk, size);
    if (!last) return tl::unexpected(last.error());
    if (!*last) return {};
    term = (*last)->term;
    epoch = (*last)->epoch;
    return flush();
}

vmm::Result<void> DiskReplica::Impl::load() {
    auto s = saved();
    if (!s) return tl::unexpected(s.error());
    if (*s) term = (*s)->term;
    const auto made = open_disk();
    if (!made) return tl::unexpected(made.error());
    const bool known = !*made && *s && (*s)->consistent == 1 && (*s)->disk == binding;
    if (known) {
        state = ReplicaState::Consistent;
        epoch = (*s)->epoch;
        log = (*s)->log;
    }
    if (auto ok = open_journal(); !ok) return ok;
    return known ? replay() : vmm::Result<void>();
}

vmm::Result<void> DiskReplica::Impl::usable() const {
    if (failed)
        return vmm::fail("the replica " + path + " has failed before",
                         "it is repaired when protection starts anew");
    return {};
}

vmm::Result<void> DiskReplica::Impl::check(const DiskWritesRecord& r) const {
    std::uint64_t left = r.data.size();
    for (const auto& w : r.writes) {
        if (w.length == 0 || (w.offset | w.length) % kSector != 0 || w.offset > size ||
            w.length > size - w.offset)
            return vmm::fail("a write to the replica " + path + " that isn't of whole sectors inside of it");
        if (!w.zero && w.length > left)
            return vmm::fail("a write to the replica " + path + " without its data");
        if (!w.zero) left -= w.length;
    }
    if (left != 0) return vmm::fail("data for the replica " + path + " that no write names");
    return {};
}

vmm::Result<void> DiskReplica::Impl::flush() {
    if (auto ok = disk->sync(); !ok) return ok;
    return save(ReplicaState::Consistent);
}

// The replica is Stale on disk until all of it is durable: there is nothing that a journal could add.
vmm::Result<void> DiskReplica::Impl::finish_sync(std::uint64_t of_term, std::uint64_t of_epoch,
                                                 const std::vector<DiskWritesRecord>& writes) {
    for (const auto& r : writes)
        if (auto ok = write_into(*disk, r); !ok) return ok;
    term = of_term;
    epoch = of_epoch;
    syncing = false;
    return flush();
}

DiskReplica::DiskReplica(std::unique_ptr<Impl> i) : impl_(std::move(i)) {}
DiskReplica::~DiskReplica() = default;

vmm::Result<std::unique_ptr<DiskReplica>> DiskReplica::open(const std::string& path, std::uint64_t size,
                                                            const std::string& state_directory,
                                                            const std::string& identity,
                                                            const ReplicaEnvironment& environment) {
    if (size == 0 || size % kSector != 0)
        return vmm::fail("a replica of " + std::to_string(size) +
                         " bytes: a disk has whole sectors of 512 bytes");
    auto i = std::make_unique<Impl>(environment.files, path, size, environment.journal_bytes,
                                    state_directory + "/" + file_name_of(identity));
    if (auto ok = i->load(); !ok) return tl::unexpected(ok.error());
    return std::unique_ptr<DiskReplica>(new DiskReplica(std::move(i)));
}

ReplicaState DiskReplica::state() const {
    return impl_->state;
}
std::uint64_t DiskReplica::term() const {
    return impl_->term;
}
std::uint64_t DiskReplica::epoch() const {
    return impl_->epoch;
}
std::uint64_t DiskReplica::blocks() const {
    return (impl_->size + kHashBlock - 1) / kHashBlock;
}

vmm::Result<std::vector<std::uint8_t>> DiskReplica::hashes(std::uint64_t first, std::uint64_t count) const {
    if (first > blocks() || count > blocks() - first)
        return vmm::fail("hashes of blocks that the replica " + impl_->path + " doesn't have");
    std::vector<std::uint8_t> all;
    all.reserve(static_cast<std::size_t>(count) * sizeof(BlockHash));
    std::vector<std::uint8_t> buffer(kBlocksAtOnce * kHashBlock);
    for (const std::uint64_t end = first + count; first < end;) {
        const std::uint64_t n = std::min(end - first, kBlocksAtOnce), at = first * kHashBlock;
        const auto read =
            std::span(buffer).first(static_cast<std::size_t>(std::min(n * kHashBlock, impl_->size - at)));
        if (auto ok = impl_->disk->read(at, read); !ok) return tl::unexpected(ok.error());
        for (std::size_t from = 0; from < read.size(); from += kHashBlock) {
            const auto h = hash_of(read.subspan(from, std::min<std::size_t>(kHashBlock, read.size() - from)));
            all.insert(all.end(), h.begin(), h.end());
        }
        first += n;
    }
    return all;
}

vmm::Result<void> DiskReplica::begin_sync() {
    if (auto ok = impl_->usable(); !ok) return ok;
    impl_->epoch = 0;
    if (auto ok = impl_->storage(impl_->save(ReplicaState::Stale)); !ok) return ok;
    impl_->syncing = true;
    return {};
}

vmm::Result<void> DiskReplica::sync_write(const DiskWritesRecord& w) {
    if (auto ok = impl_->usable(); !ok) return ok;
    if (!impl_->syncing)
        return vmm::fail("a sync's write to the replica " + impl_->path + " that isn't in a sync");
    if (auto ok = impl_->check(w); !ok) return ok;
    return impl_->storage(write_into(*impl_->disk, w));
}

vmm::Result<void> DiskReplica::apply(std::uint64_t term, std::uint64_t epoch,
                                     const std::vector<DiskWritesRecord>& writes) {
    Impl& i = *impl_;
    if (auto ok = i.usable(); !ok) return ok;
    if (i.state == ReplicaState::Stale && !i.syncing)
        return vmm::fail("the replica " + i.path + " is stale", "it must be synced first");
    if (term < i.term)
        return vmm::fail("a write to the replica " + i.path + " of term " + std::to_string(term) +
                             ", after term " + std::to_string(i.term),
                         "an old primary has come back: it must not run the guest any more");
    if (!i.syncing && term == i.term && epoch <= i.epoch)
        return vmm::fail("epoch " + std::to_string(epoch) + " for the replica " + i.path + " after epoch " +
                         std::to_string(i.epoch));
    for (const auto& r : writes)
        if (auto ok = i.check(r); !ok) return ok;
    if (i.syncing) return i.storage(i.finish_sync(term, epoch, writes));

    const bool nothing =
        std::all_of(writes.begin(), writes.end(), [](const auto& r) { return r.writes.empty(); });
    if (!nothing || term != i.term) {  // a new term must be known after a crash
        const bool full = i.journal->epochs() >= kMostEpochs ||
                          i.journal->bytes() + DiskJournal::bytes_for(writes) > i.journal_bytes;
        if (full && i.journal->epochs() != 0)
            if (auto ok = i.storage(i.flush()); !ok) return ok;
        if (auto ok = i.storage(i.journal->append({term, epoch}, writes)); !ok) return ok;
        for (const auto& r : writes)
            if (auto ok = i.storage(write_into(*i.disk, r)); !ok) return ok;
    }
    i.term = term;
    i.epoch = epoch;
    return {};
}

vmm::Result<void> DiskReplica::flush() {
    if (auto ok = impl_->usable(); !ok) return ok;
    if (impl_->state == ReplicaState::Stale || impl_->journal->epochs() == 0) return {};
    return impl_->storage(impl_->flush());
}

vmm::Result<void> DiskReplica::hand_over() {
    if (auto ok = impl_->usable(); !ok) return ok;
    if (impl_->state == ReplicaState::Stale)
        return vmm::fail("the replica " + impl_->path + " is stale: a guest must not run on it");
    if (auto ok = impl_->storage(impl_->disk->sync()); !ok) return ok;
    return impl_->storage(impl_->save(ReplicaState::Stale));
}

}  // namespace proa::remus
