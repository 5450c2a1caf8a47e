// virtio-blk (virtio 1.2, 5.2) over a raw file or block device. Requests run on a worker thread; quiesce() waits for
// them. O_DIRECT where it can be had: both hosts of a pair see the same storage, so this host's page cache must not
// hold what the other one should read.
#pragma once
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

#include "vmm/virtio/mmio.hpp"

namespace proa::vmm {

using Post = std::function<void(std::function<void()>)>;  // runs something on the guest's strand

class BlockBackend final : public VirtioBackend {
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

  private:
    BlockBackend(int fd, std::uint64_t bytes, bool read_only, bool direct, bool device, std::string path,
                 Post post);
    struct Request {
        Chain chain;
        std::uint8_t status = 0;
        std::uint32_t written = 0;
    };
    void work();
    void run(Request& r);
    std::uint8_t transfer(Request& r, std::uint64_t sector, bool write);
    std::uint8_t clear(Request& r, bool discard);  // DISCARD, WRITE_ZEROES
    void finish();

    int fd_;
    std::uint64_t bytes_;
    bool read_only_, direct_, device_;  // device_: a block device, not a file
    std::string path_;
    Post post_;
    std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
    bool parked_ = false;

    std::mutex mutex_;
    std::condition_variable wake_, idle_;
    std::deque<Request> todo_, done_;
    bool busy_ = false, stop_ = false;
    std::thread worker_;
};

}  // namespace proa::vmm
