// What the requests of virtio-blk do, on the disk's worker thread, and what an observer is told of it.
#include <algorithm>
#include <cstring>

#include "vmm/virtio/block.hpp"
#include "vmm/virtio/block_format.hpp"

namespace proa::vmm {

using namespace block;

void BlockBackend::run(Request& r, DiskObserver* o) {
    switch (r.type) {
        case kIn: r.status = transfer(r, false, o); break;
        case kOut: r.status = read_only() ? kIoErr : transfer(r, true, o); break;
        case kFlushOp: r.status = disk_->flush() ? kOk : kIoErr; break;
        case kDiscardOp: r.status = clear(r, true, o); break;
        case kWriteZeroesOp: r.status = clear(r, false, o); break;
        case kGetId: r.status = tell_id(r); break;
        default: r.status = kUnsupported; break;
    }
}

std::uint8_t BlockBackend::tell_id(Request& r) {
    std::string name = path().substr(path().size() > kIdBytes ? path().size() - kIdBytes : 0);
    name.resize(kIdBytes);
    Segment& s = r.chain.writable.front();
    const std::size_t n = std::min(kIdBytes, s.bytes.size());
    std::memcpy(s.bytes.data(), name.data(), n);
    r.written = static_cast<std::uint32_t>(n);
    return kOk;
}

std::uint8_t BlockBackend::transfer(Request& r, bool write, DiskObserver* o) {
    const auto& segments = write ? r.chain.readable : r.chain.writable;
    std::size_t bytes = 0;
    for (const auto& s : segments) bytes += s.bytes.size();
    if (!write) --bytes;  // the last writable byte is the status
    if (r.sector > size() / kSectorBytes || bytes % kSectorBytes != 0 ||
        bytes > size() - r.sector * kSectorBytes)
        return kIoErr;
    if (!write) r.written = static_cast<std::uint32_t>(bytes);
    Parts parts;
    bool takes = true;
    for (std::size_t left = bytes; const auto& s : segments) {
        const auto part = s.bytes.first(std::min(s.bytes.size(), left));
        left -= part.size();
        if (part.empty()) continue;
        takes = takes && disk_->takes(part);
        parts.push_back(part);
    }
    const std::uint64_t at = r.sector * kSectorBytes;
    const bool ok = takes && (!write || o == nullptr) ? straight(parts, at, write)
                                                      : through_copy(parts, at, bytes, write, o);
    return ok ? kOk : kIoErr;
}

bool BlockBackend::straight(const Parts& parts, std::uint64_t at, bool write) {
    for (const auto& p : parts) {
        if (!(write ? disk_->write(at, p) : disk_->read(at, p))) return false;
        at += p.size();
    }
    return true;
}

// For buffers that O_DIRECT can't take, and for writes that somebody observes: the guest can change its buffer while it is
// being written, and the local disk and the replica must hold the same bytes. So they are taken out of guest memory once.
bool BlockBackend::through_copy(const Parts& parts, std::uint64_t at, std::uint64_t bytes, bool write,
                                DiskObserver* o) {
    auto part = parts.begin();
    std::size_t from = 0;  // in *part
    while (bytes != 0) {
        const auto piece = copy_.first(static_cast<std::size_t>(std::min<std::uint64_t>(bytes, copy_.size())));
        if (!write && !disk_->read(at, piece)) return false;
        for (std::size_t done = 0; done < piece.size();) {
            const std::size_t n = std::min(piece.size() - done, part->size() - from);
            if (write)
                std::memcpy(piece.data() + done, part->data() + from, n);
            else
                std::memcpy(part->data() + from, piece.data() + done, n);
            done += n;
            from += n;
            if (from == part->size()) {
                ++part;
                from = 0;
            }
        }
        if (write && !disk_->write(at, piece)) {
            if (o != nullptr) report(at, piece.size(), *o);
            return false;
        }
        if (write && o != nullptr) o->wrote(at, piece);
        at += piece.size();
        bytes -= piece.size();
    }
    return true;
}

// After a write that failed half way the guest knows nothing of these sectors, but may read them: the replica gets what the
// disk holds now. What can't be read back the guest can't have seen either.
void BlockBackend::report(std::uint64_t at, std::uint64_t bytes, DiskObserver& o) {
    while (bytes != 0) {
        const auto piece = copy_.first(static_cast<std::size_t>(std::min<std::uint64_t>(bytes, copy_.size())));
        if (disk_->read(at, piece)) o.wrote(at, piece);
        at += piece.size();
        bytes -= piece.size();
    }
}

// After WRITE_ZEROES the range must read as zeroes.
//
// DISCARD is a hint, after which the guest may read anything there, but the same thing again and again; what real storage then
// reads as differs from one host to the other, and would change under the guest's feet in a failover. So an observed disk
// forgets nothing: it reads as before, here and in the replica. (fstrim gives the room back once protection ends.)
std::uint8_t BlockBackend::clear(Request& r, bool discard, DiskObserver* o) {
    if (read_only()) return kIoErr;
    Range g;
    std::size_t have = 0;
    for (const auto& s : r.chain.readable) {
        if (s.bytes.size() > sizeof(g) - have) return kUnsupported;
        std::memcpy(reinterpret_cast<std::uint8_t*>(&g) + have, s.bytes.data(), s.bytes.size());
        have += s.bytes.size();
    }
    if (have != sizeof(g)) return kUnsupported;
    if ((g.flags & ~kUnmap) != 0 || (discard && g.flags != 0)) return kUnsupported;
    const std::uint64_t sectors = size() / kSectorBytes;
    if (g.sectors > (discard ? kMostDiscard : kMostZeroes) || g.sector > sectors ||
        g.sectors > sectors - g.sector)
        return kIoErr;
    if (g.sectors == 0) return kOk;
    const std::uint64_t at = g.sector * kSectorBytes, bytes = std::uint64_t{g.sectors} * kSectorBytes;
    if (discard) return o != nullptr || disk_->discard(at, bytes) ? kOk : kIoErr;
    const bool ok = disk_->zero(at, bytes, (g.flags & kUnmap) != 0);
    if (o != nullptr) {
        if (ok)
            o->zeroed(at, bytes);
        else
            report(at, bytes, *o);
    }
    return ok ? kOk : kIoErr;
}

}  // namespace proa::vmm
