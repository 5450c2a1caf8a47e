// The storage behind a guest's disk: a raw image file or a block device, by byte range. O_DIRECT where it can be had: both
// hosts of a pair may see the same storage, so this host's page cache must not hold what the other one should read.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "vmm/error.hpp"

namespace proa::vmm {

inline constexpr std::uint32_t kSectorBytes = 512;

// Page-aligned, as O_DIRECT wants it whatever the device's own blocks are.
class AlignedBuffer {
  public:
    explicit AlignedBuffer(std::size_t bytes);
    std::span<std::uint8_t> first(std::size_t n) const { return {bytes_.get(), n}; }
    std::size_t size() const { return size_; }

  private:
    struct Free {
        void operator()(std::uint8_t* p) const;
    };
    std::size_t size_;
    std::unique_ptr<std::uint8_t, Free> bytes_;
};

class RawDisk {
  public:
    static Result<std::unique_ptr<RawDisk>> open(const std::string& path, bool read_only);
    ~RawDisk();
    RawDisk(const RawDisk&) = delete;
    RawDisk& operator=(const RawDisk&) = delete;

    const std::string& path() const { return path_; }
    std::uint64_t size() const { return bytes_; }  // whole sectors
    bool read_only() const { return read_only_; }
    bool direct() const { return direct_; }

    // Whether bytes there can be read or written as they lie. (Otherwise: through a buffer.)
    bool takes(std::span<const std::uint8_t> b) const;
    // Whole transfers only, inside of the disk, of bytes that it takes(): a short one goes on, an error ends it. Any thread.
    bool read(std::uint64_t at, std::span<std::uint8_t> to) const;
    bool write(std::uint64_t at, std::span<const std::uint8_t> from);
    bool zero(std::uint64_t at, std::uint64_t bytes, bool unmap);  // reads as zeroes from then on
    bool discard(std::uint64_t at, std::uint64_t bytes);           // reads as anything
    bool flush();

  private:
    RawDisk(int fd, std::string path, std::uint64_t bytes, bool read_only, bool direct, bool device)
        : fd_(fd),
          path_(std::move(path)),
          bytes_(bytes),
          read_only_(read_only),
          direct_(direct),
          device_(device) {}

    int fd_;
    std::string path_;
    std::uint64_t bytes_;
    bool read_only_, direct_, device_;  // device_: a block device, not a file
};

}  // namespace proa::vmm
