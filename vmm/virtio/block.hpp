// virtio-blk (virtio 1.2, 5.2) over a RawDisk. Requests run on a worker thread, one after the other and in the queue's order.
// quiesce() waits for the one that runs, and no longer: the rest goes back into the queue.
#pragma once
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

#include "vmm/disk.hpp"
#include "vmm/virtio/mmio.hpp"
#include "vmm/virtio/raw_disk.hpp"

namespace proa::vmm {

using Post = std::function<void(std::function<void()>)>;  // runs something on the guest's strand

class BlockBackend final : public VirtioBackend, public Disk {
  public:
    static Result<std::unique_ptr<BlockBackend>> open(const std::string& path, bool read_only, Post post);
    ~BlockBackend() override;

    std::uint32_t id() const override { return 2; }
    const char* type() const override { return "block"; }
    unsigned queues() const override { return 1; }
    std::uint64_t features() const override;
    void notified(unsigned queue) override;
    std::uint8_t config(unsigned offset) const override;
    void reset() override;
    void quiesce() override;
    void resume() override;

    std::string name() const override { return host().name(); }
    const std::string& path() const override { return disk_->path(); }
    std::uint64_t size() const override { return disk_->size(); }
    bool read_only() const override { return disk_->read_only(); }
    Result<void> read(std::uint64_t offset, std::span<std::uint8_t> to) const override;
    void observe(DiskObserver* o) override;

  private:
    BlockBackend(std::unique_ptr<RawDisk> disk, Post post);
    using Parts = std::vector<std::span<std::uint8_t>>;
    struct Request {
        Chain chain;  // without the header
        std::uint32_t type = 0;
        std::uint64_t sector = 0;
        std::uint8_t status = 0;
        std::uint32_t written = 0;
    };
    // Flushing: in a request that touches nothing but the storage. Abandoned: the same, but nobody waits for it any more.
    enum class Worker : std::uint8_t { Idle, Running, Flushing, Abandoned };

    void work();
    void run(Request& r, DiskObserver* o);
    std::uint8_t transfer(Request& r, bool write, DiskObserver* o);
    bool straight(const Parts& parts, std::uint64_t at, bool write);
    bool through_copy(const Parts& parts, std::uint64_t at, std::uint64_t bytes, bool write, DiskObserver* o);
    std::uint8_t clear(Request& r, bool discard, DiskObserver* o);  // DISCARD, WRITE_ZEROES
    void report(std::uint64_t at, std::uint64_t bytes, DiskObserver& o);
    std::uint8_t tell_id(Request& r);
    void finish();

    std::unique_ptr<RawDisk> disk_;
    Post post_;
    std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
    bool parked_ = false;
    AlignedBuffer copy_;  // the worker's

    std::mutex mutex_;
    std::condition_variable wake_, idle_;
    std::deque<Request> todo_, done_;
    Worker worker_state_ = Worker::Idle;
    bool stop_ = false;
    bool abandoned_before_ = false;  // the flush that is next was abandoned once: it will be waited for
    DiskObserver* observer_ = nullptr;
    std::thread worker_;
};

}  // namespace proa::vmm
