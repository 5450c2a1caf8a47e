// Records into bytes and back. Control records are protobuf messages; DiskWrites is raw, as Pages is: it is nearly all of
// the bytes, and its shape will not change field by field.
#include "remus/records.hpp"

#include <algorithm>
#include <cstring>

#include "migrate/wire.hpp"
#include "remus/replication.pb.h"

namespace proa::remus {
namespace {

using migrate::wire::bytes_of;
using migrate::wire::parse;
using migrate::wire::refuse;

// DiskWrites: this, `count` entries, then the data of those that are not zero. All little endian.
struct WritesHeader {
    std::uint32_t disk;
    std::uint32_t count;
};
struct WritesEntry {
    std::uint64_t offset;
    std::uint64_t length;  // a multiple of 512; kZeroBit set: zeroes, no data follows
};
static_assert(sizeof(WritesHeader) == 8 && sizeof(WritesEntry) == 16);
constexpr std::uint64_t kZeroBit = 1;  // a length has its low nine bits free

bool sector_aligned(std::uint64_t v) {
    return v % kSectorBytes == 0;
}

template <class T>
Bytes encode_epoch(const T& r) {
    wire::Epoch m;
    m.set_term(r.term);
    m.set_epoch(r.epoch);
    return bytes_of(m);
}

transport::Result<HelloRecord::DiskEntry> decode_disk(const wire::Disk& d) {
    if (!migrate::wire::skippable(d.unknown_fields())) return refuse("unknown kind of disk");
    if (d.name().empty() || d.name().size() > kMaxDiskName) return refuse("disk name of an impossible length");
    if (d.size() == 0 || d.size() > kMaxDiskBytes || !sector_aligned(d.size()))
        return refuse("a disk of an impossible size");
    return HelloRecord::DiskEntry{d.name(), d.size()};
}

}  // namespace

transport::Result<void> send(transport::Channel& c, Record r, View payload) {
    return c.send(static_cast<std::uint16_t>(r), payload);
}

Bytes encode(const HelloRecord& r) {
    wire::Hello m;
    m.set_version(r.version);
    m.set_channel(r.channel);
    m.set_token(r.token.data(), r.token.size());
    m.set_term(r.term);
    for (const auto& d : r.disks) {
        wire::Disk& to = *m.add_disks();
        to.set_name(d.name);
        to.set_size(d.size);
    }
    return bytes_of(m);
}

transport::Result<HelloRecord> decode_hello(View b) {
    wire::Hello m;  // the version first: another version's hello may hold what this one doesn't know
    if (!migrate::wire::read(m, b)) return refuse("malformed hello");
    if (m.version() != kReplicationVersion)
        return refuse("replication version " + std::to_string(m.version()) + ", this host speaks " +
                      std::to_string(kReplicationVersion));
    HelloRecord h{m.version(), m.channel(), {}, m.term(), {}};
    if (!migrate::wire::skippable(m.unknown_fields()) || m.token().size() != h.token.size())
        return refuse("malformed hello");
    if (h.channel > 1) return refuse("channel number out of range");
    if (m.disks_size() > static_cast<int>(kMaxDisks)) return refuse("too many disks");
    std::memcpy(h.token.data(), m.token().data(), h.token.size());
    for (const auto& from : m.disks()) {
        auto d = decode_disk(from);
        if (!d) return tl::unexpected(d.error());
        const auto same = [&](const auto& other) { return other.name == d->name; };
        if (std::any_of(h.disks.begin(), h.disks.end(), same)) return refuse("a disk comes twice");
        h.disks.push_back(std::move(*d));
    }
    return h;
}

Bytes encode(const EpochRecord& r) {
    return encode_epoch(r);
}
Bytes encode(const AckRecord& r) {
    return encode_epoch(r);
}

transport::Result<EpochRecord> decode_epoch(View b) {
    auto m = parse<wire::Epoch>(b, "epoch");
    if (!m) return tl::unexpected(m.error());
    return EpochRecord{m->term(), m->epoch()};
}

transport::Result<AckRecord> decode_ack(View b) {
    auto m = parse<wire::Epoch>(b, "acknowledgement");
    if (!m) return tl::unexpected(m.error());
    return AckRecord{m->term(), m->epoch()};
}

Bytes encode(const BeginRecord& r) {
    wire::Begin m;
    m.set_term(r.term);
    m.set_epoch(r.epoch);
    return bytes_of(m);
}

transport::Result<BeginRecord> decode_begin(View b) {
    auto m = parse<wire::Begin>(b, "begin of a checkpoint");
    if (!m) return tl::unexpected(m.error());
    return BeginRecord{m->term(), m->epoch()};
}

Bytes encode(const EndRecord& r) {
    wire::End m;
    m.set_term(r.term);
    m.set_epoch(r.epoch);
    m.set_pages(r.pages);
    m.set_disk_writes(r.disk_writes);
    m.set_devices(r.devices);
    m.set_final(r.final);
    return bytes_of(m);
}

transport::Result<EndRecord> decode_end(View b) {
    auto m = parse<wire::End>(b, "end of a checkpoint");
    if (!m) return tl::unexpected(m.error());
    if (m->devices() > migrate::kMaxDevices) return refuse("too many devices");
    return EndRecord{m->term(), m->epoch(), m->pages(), m->disk_writes(), m->devices(), m->final()};
}

Bytes encode(const BeatRecord& r) {
    wire::Beat m;
    m.set_term(r.term);
    m.set_count(r.count);
    return bytes_of(m);
}

transport::Result<BeatRecord> decode_beat(View b) {
    auto m = parse<wire::Beat>(b, "heartbeat");
    if (!m) return tl::unexpected(m.error());
    return BeatRecord{m->term(), m->count()};
}

Bytes encode(const DiskHashesRecord& r) {
    wire::DiskHashes m;
    m.set_disk(r.disk);
    m.set_first_block(r.first_block);
    m.set_block_bytes(r.block_bytes);
    m.set_last(r.last);
    m.set_hashes(r.hashes.data(), r.hashes.size());
    return bytes_of(m);
}

transport::Result<DiskHashesRecord> decode_disk_hashes(View b) {
    auto m = parse<wire::DiskHashes>(b, "disk hashes");
    if (!m) return tl::unexpected(m.error());
    const std::size_t count = m->hashes().size() / kHashBytes;
    if (m->disk() >= kMaxDisks) return refuse("disk number out of range");
    if (m->block_bytes() == 0 || m->block_bytes() > transport::kMaxPayload || !sector_aligned(m->block_bytes()))
        return refuse("disk hashes of an impossible block size");
    if (m->hashes().size() % kHashBytes != 0 || count == 0 || count > kMaxHashes)
        return refuse("disk hashes of an impossible number");
    // The last block may be short, so only its first byte need be inside of the largest disk.
    if (m->first_block() > kMaxDiskBytes / m->block_bytes() ||
        m->first_block() + count - 1 > kMaxDiskBytes / m->block_bytes())
        return refuse("disk hashes past the end of any disk");
    return DiskHashesRecord{
        m->disk(), m->first_block(), m->block_bytes(), m->last(), {m->hashes().begin(), m->hashes().end()}};
}

Bytes encode(const DiskWritesRecord& r) {
    const WritesHeader h{r.disk, static_cast<std::uint32_t>(r.writes.size())};
    Bytes b(sizeof(h) + r.writes.size() * sizeof(WritesEntry) + r.data.size());
    std::uint8_t* to = b.data();
    std::memcpy(to, &h, sizeof(h));
    to += sizeof(h);
    for (const auto& w : r.writes) {
        const WritesEntry e{w.offset, w.length | (w.zero ? kZeroBit : 0)};
        std::memcpy(to, &e, sizeof(e));
        to += sizeof(e);
    }
    if (!r.data.empty()) std::memcpy(to, r.data.data(), r.data.size());
    return b;
}

transport::Result<DiskWritesRecord> decode_disk_writes(View b) {
    WritesHeader h{};
    if (b.size() < sizeof(h)) return refuse("disk writes cut short");
    std::memcpy(&h, b.data(), sizeof(h));
    if (h.disk >= kMaxDisks) return refuse("disk number out of range");
    if (h.count == 0 || h.count > kMaxWrites) return refuse("disk writes of an impossible number");
    const std::size_t entries = h.count * sizeof(WritesEntry);
    if (b.size() - sizeof(h) < entries) return refuse("disk writes cut short");
    const View data = b.subspan(sizeof(h) + entries);
    DiskWritesRecord r;
    r.disk = h.disk;
    r.writes.reserve(h.count);
    std::uint64_t left = data.size();
    for (std::size_t i = 0; i < h.count; ++i) {
        WritesEntry e{};
        std::memcpy(&e, b.data() + sizeof(h) + i * sizeof(e), sizeof(e));
        const DiskWrite w{e.offset, e.length & ~kZeroBit, (e.length & kZeroBit) != 0};
        if (w.length == 0 || !sector_aligned(w.length) || !sector_aligned(w.offset))
            return refuse("a disk write that isn't of whole sectors");
        if (w.offset > kMaxDiskBytes || w.length > kMaxDiskBytes - w.offset)
            return refuse("a disk write past the end of any disk");
        if (!w.zero && w.length > left) return refuse("a disk write without its data");
        if (!w.zero) left -= w.length;
        r.writes.push_back(w);
    }
    if (left != 0) return refuse("disk data that no write names");
    r.data.assign(data.begin(), data.end());
    return r;
}

}  // namespace proa::remus
