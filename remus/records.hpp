// Records of the replication stream (docs/STREAM.md, "Replication"): frame types and payloads, schema in replication.proto.
// A protected guest has two channels, both dialled by the primary: checkpoints (0) and heartbeats (1). Machine and Device
// records are those of migration. Everything a peer sends is refused unless it has the shape written there.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "migrate/stream.hpp"

namespace proa::remus {

using migrate::Bytes;
using migrate::View;
inline constexpr std::uint32_t kReplicationVersion = 2;

inline constexpr std::size_t kMaxDisks = 32;
inline constexpr std::size_t kMaxDiskName = 128;            // bytes, at least 1
inline constexpr std::uint64_t kMaxDiskBytes = 1ull << 62;  // so that offset + length never wraps
inline constexpr std::uint64_t kSectorBytes = 512;          // what disk sizes and writes are multiples of
inline constexpr std::size_t kMaxWrites = 64 * 1024;        // in a DiskWrites record
inline constexpr std::size_t kMaxHashes = 64 * 1024;        // in a DiskHashes record
inline constexpr std::size_t kHashBytes = 16;

// Order on channel 0, primary -> backup (<- what it answers):
//   Hello <- HelloAck [DiskHashes... ] ; DiskBlocks, migration's Pages... ; (Sync <- Wait)... Sync <- Synced ; more of
//   them; then per checkpoint:
//   Begin, (Pages | DiskWrites)..., Machine, Device..., End  <- Ack
//   at last one of Yours <- Active, or Dismiss <- Gone. Abort either way.
enum class Record : std::uint16_t {
    Hello = transport::kMandatory | 0x40,       // primary, first on each channel: HelloRecord
    HelloAck = transport::kMandatory | 0x41,    // empty
    DiskHashes = transport::kMandatory | 0x42,  // backup, a piece of a replica's block hashes: DiskHashesRecord
    DiskBlocks =
        transport::kMandatory | 0x43,      // primary, blocks that differ, before checkpoint 1: DiskWritesRecord
    Begin = transport::kMandatory | 0x44,  // BeginRecord
    Pages = transport::kMandatory | 0x45,  // pages.hpp
    DiskWrites = transport::kMandatory | 0x46,  // DiskWritesRecord
    End = transport::kMandatory | 0x47,         // EndRecord
    Ack = transport::kMandatory | 0x48,      // backup: AckRecord; everything up to End is verified and buffered
    Yours = transport::kMandatory | 0x49,    // primary has stopped and released the key: EpochRecord
    Active = transport::kMandatory | 0x4a,   // backup runs the guest: EpochRecord
    Dismiss = transport::kMandatory | 0x4b,  // primary: the backup is not needed any more: EpochRecord
    Gone = transport::kMandatory | 0x4d,     // backup: has not run it and never will: migration's AbortRecord
    Beat = transport::kMandatory | 0x4c,     // channel 1, both ways: BeatRecord
    Sync = transport::kMandatory | 0x4e,    // primary, before checkpoint 1: is the backup's memory there? Empty
    Wait = transport::kMandatory | 0x4f,    // backup: not yet; ask again. Empty
    Synced = transport::kMandatory | 0x50,  // backup: it is, and all that came so far is in it. Empty
};

struct HelloRecord {
    std::uint32_t version = kReplicationVersion;
    std::uint32_t channel = 0;  // 0 checkpoints, 1 heartbeats
    migrate::Token token{};
    std::uint64_t term = 0;  // the primary's, of its key
    struct DiskEntry {
        std::string name;        // Device::name()
        std::uint64_t size = 0;  // bytes
    };
    std::vector<DiskEntry> disks;  // the replicated ones, at most 32
};
struct EpochRecord {
    std::uint64_t term = 0, epoch = 0;
};
struct BeginRecord {
    std::uint64_t term = 0, epoch = 0;  // epochs count from 1 without a gap
};
struct EndRecord {
    std::uint64_t term = 0, epoch = 0;
    std::uint64_t pages = 0, disk_writes = 0;  // since Begin; writes, not records of them
    std::uint32_t devices = 0;
    bool final = false;  // of a planned failover: the guest has stopped for good
};
struct AckRecord {
    std::uint64_t term = 0, epoch = 0;
};
struct BeatRecord {
    std::uint64_t term = 0, count = 0;
};
struct DiskHashesRecord {
    std::uint32_t disk = 0;  // index into Hello's
    std::uint64_t first_block = 0;
    std::uint32_t block_bytes = 0;     // the same in all
    bool last = false;                 // of this disk
    std::vector<std::uint8_t> hashes;  // XXH3-128 in canonical form, 16 bytes a block; 1 .. kMaxHashes of them
};
struct DiskWrite {
    std::uint64_t offset = 0, length = 0;  // multiples of 512; length is never 0
    bool zero = false;                     // no data follows
};
// 1 .. kMaxWrites of them: many small writes share a record; a large one is cut by the sender, so that the record fits a
// frame (8 bytes, 16 a write, the data). Whether they are inside of their disk is for who knows its size.
struct DiskWritesRecord {
    std::uint32_t disk = 0;
    std::vector<DiskWrite> writes;
    std::vector<std::uint8_t> data;  // of the writes that are not zero, in order
};

Bytes encode(const HelloRecord& r);
Bytes encode(const EpochRecord& r);
Bytes encode(const BeginRecord& r);
Bytes encode(const EndRecord& r);
Bytes encode(const AckRecord& r);
Bytes encode(const BeatRecord& r);
Bytes encode(const DiskHashesRecord& r);
Bytes encode(const DiskWritesRecord& r);
transport::Result<HelloRecord> decode_hello(View b);
transport::Result<EpochRecord> decode_epoch(View b);
transport::Result<BeginRecord> decode_begin(View b);
transport::Result<EndRecord> decode_end(View b);
transport::Result<AckRecord> decode_ack(View b);
transport::Result<BeatRecord> decode_beat(View b);
transport::Result<DiskHashesRecord> decode_disk_hashes(View b);
transport::Result<DiskWritesRecord> decode_disk_writes(View b);

transport::Result<void> send(transport::Channel& c, Record r, View payload = {});
inline bool is(const transport::Frame& f, Record r) {
    return f.type == static_cast<std::uint16_t>(r);
}

}  // namespace proa::remus
