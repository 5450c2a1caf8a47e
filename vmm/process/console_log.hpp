// A guest's console output in a file that can't grow without end: at kMost bytes it becomes FILE.1, in place of an older one.
// A guest prints what it likes, and the file may lie in the control domain's memory.
#pragma once
#include <cstdint>
#include <span>
#include <string>

namespace proa::vmm {

class ConsoleLog {
  public:
    static constexpr std::uint64_t kMost = 4 << 20;

    explicit ConsoleLog(std::string file, std::uint64_t most = kMost) : file_(std::move(file)), most_(most) {
        open();
    }
    ~ConsoleLog();
    ConsoleLog(const ConsoleLog&) = delete;
    ConsoleLog& operator=(const ConsoleLog&) = delete;
    void write(std::span<const std::uint8_t> bytes);

  private:
    void open();
    std::string file_;
    std::uint64_t most_, size_ = 0;
    int fd_ = -1;
};

}  // namespace proa::vmm
