#include "remus/disk_sync.hpp"

#include <algorithm>

namespace proa::remus {
namespace {

constexpr std::uint64_t kBlocksAtOnce = 16;  // read together

}  // namespace

vmm::Result<void> DiskSync::check(const DiskHashesRecord& piece) const {
    const auto refuse = [this](const char* why) {
        return vmm::fail("the backup's hashes of " + disk_.name() + " are refused: " + why,
                         "do both hosts run the same version of proa?");
    };
    const std::uint64_t count = piece.hashes.size() / sizeof(BlockHash), all = all_blocks();
    if (piece.disk != index_) return refuse("another disk's");
    if (piece.block_bytes != kHashBlock) return refuse("another block size");
    if (complete_ || piece.first_block != next_) return refuse("a piece out of turn");
    if (count == 0 || piece.hashes.size() % sizeof(BlockHash) != 0 || count > all - next_)
        return refuse("a piece that is too long, or empty");
    if (piece.last != (next_ + count == all)) return refuse("they don't end where the disk does");
    return {};
}

vmm::Result<void> DiskSync::compare(const DiskHashesRecord& piece, const Send& send) {
    if (auto ok = check(piece); !ok) return ok;
    const std::uint64_t end = next_ + piece.hashes.size() / sizeof(BlockHash);
    DiskRecords records(index_);
    buffer_.resize(kBlocksAtOnce * kHashBlock);
    auto theirs = piece.hashes.begin();
    while (next_ < end) {
        const std::uint64_t at = next_ * kHashBlock;
        const std::uint64_t bytes =
            std::min(std::min(end - next_, kBlocksAtOnce) * kHashBlock, disk_.size() - at);
        const auto read = std::span(buffer_).first(static_cast<std::size_t>(bytes));
        if (auto ok = disk_.read(at, read); !ok) return ok;
        for (std::size_t from = 0; from < read.size();
             from += kHashBlock, ++next_, theirs += sizeof(BlockHash)) {
            const auto block = read.subspan(from, std::min<std::size_t>(kHashBlock, read.size() - from));
            const BlockHash ours = hash_of(block);
            if (std::equal(ours.begin(), ours.end(), theirs)) continue;
            ++differing_;
            records.add(at + from, block);
        }
        // Before more is read: what waits here must not grow with the piece.
        for (auto& r : records.take())
            if (auto ok = send(std::move(r)); !ok) return ok;
    }
    complete_ = piece.last;
    return {};
}

}  // namespace proa::remus
