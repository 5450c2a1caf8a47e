// A directory for one test, and a disk in memory.
#pragma once
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <random>

#include "remus/disk_replica.hpp"

namespace proa::remus {

using Image = std::vector<std::uint8_t>;

class Scratch {
  public:
    Scratch() {
        std::string pattern = ::testing::TempDir() + "proa-replica-XXXXXX";
        path = ::mkdtemp(pattern.data());
    }
    ~Scratch() { std::filesystem::remove_all(path); }
    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;
    std::string file(const std::string& name) const { return path + "/" + name; }
    Image contents(const std::string& name) const {
        std::ifstream f(file(name), std::ios::binary);
        return {std::istreambuf_iterator<char>(f), {}};
    }
    void write(const std::string& name, const Image& b) const {
        std::ofstream(file(name), std::ios::binary)
            .write(reinterpret_cast<const char*>(b.data()), static_cast<std::streamsize>(b.size()));
    }
    std::string path;
};

// Random writes of whole sectors, made in `image` too.
inline std::vector<DiskWritesRecord> scribble(Image& image, std::mt19937& random, unsigned writes) {
    DiskRecords records(0);
    const std::uint64_t sectors = image.size() / 512;
    for (; writes != 0; --writes) {
        const std::uint64_t at = random() % sectors,
                            count = 1 + random() % std::min<std::uint64_t>(6, sectors - at);
        const auto part = std::span(image).subspan(at * 512, count * 512);
        const bool zero = random() % 4 == 0;
        for (auto& b : part) b = zero ? std::uint8_t{0} : static_cast<std::uint8_t>(random());
        records.add(at * 512, part);
    }
    return records.take();
}

}  // namespace proa::remus
