#include "remus/disk_log.hpp"

namespace proa::remus {

void DiskLog::wrote(std::uint64_t offset, std::span<const std::uint8_t> bytes) {
    std::lock_guard lock(mutex_);
    if (closed_) return;
    records_.add(offset, bytes);
    bytes_ = records_.bytes();
}

void DiskLog::zeroed(std::uint64_t offset, std::uint64_t length) {
    std::lock_guard lock(mutex_);
    if (closed_) return;
    records_.add_zeroes(offset, length);
    bytes_ = records_.bytes();
}

void DiskLog::on_room(std::function<void()> room) {
    std::lock_guard lock(mutex_);
    room_ = std::move(room);
}

std::vector<DiskWritesRecord> DiskLog::take() {
    std::lock_guard lock(mutex_);
    auto taken = records_.take();
    // Called under the lock: after on_room({}) nobody calls the disk any more.
    if (bytes_.exchange(0) >= most_bytes_ && room_) room_();
    return taken;
}

void DiskLog::close() {
    std::lock_guard lock(mutex_);
    closed_ = true;
    (void)records_.take();
    if (bytes_.exchange(0) >= most_bytes_ && room_) room_();
}

}  // namespace proa::remus
