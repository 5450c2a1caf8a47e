// Device state as bytes: little endian, bounds-checked on the way in. A reader that ran past the end stays failed and
// yields zeros, so a loader checks once, at its end.
#pragma once
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

namespace proa::vmm {

class BlobWriter {
  public:
    template <class T>
    requires std::is_trivially_copyable_v<T>
    void put(const T& v) {
        const auto* p = reinterpret_cast<const std::uint8_t*>(&v);
        bytes_.insert(bytes_.end(), p, p + sizeof(T));
    }
    void put_bytes(std::span<const std::uint8_t> b) {
        put(static_cast<std::uint32_t>(b.size()));
        bytes_.insert(bytes_.end(), b.begin(), b.end());
    }
    std::vector<std::uint8_t> take() { return std::move(bytes_); }

  private:
    std::vector<std::uint8_t> bytes_;
};

class BlobReader {
  public:
    explicit BlobReader(std::span<const std::uint8_t> b) : rest_(b) {}
    template <class T>
    requires std::is_trivially_copyable_v<T> T get() {
        T v{};
        if (rest_.size() < sizeof(T)) {
            failed_ = true;
            return v;
        }
        std::memcpy(&v, rest_.data(), sizeof(T));
        rest_ = rest_.subspan(sizeof(T));
        return v;
    }
    std::vector<std::uint8_t> get_bytes(std::size_t most) {
        const auto n = get<std::uint32_t>();
        if (failed_ || n > most || n > rest_.size()) {
            failed_ = true;
            return {};
        }
        std::vector<std::uint8_t> v(rest_.begin(), rest_.begin() + n);
        rest_ = rest_.subspan(n);
        return v;
    }
    bool complete() const { return !failed_ && rest_.empty(); }
    bool failed() const { return failed_; }

  private:
    std::span<const std::uint8_t> rest_;
    bool failed_ = false;
};

}  // namespace proa::vmm
