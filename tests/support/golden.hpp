// The bytes of records, as files that a newer version must still write.
#pragma once
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>

#include "migrate/stream.hpp"

namespace proa::test {

inline std::string hex_dump(migrate::View b) {
    std::string s;
    for (std::size_t i = 0; i < b.size(); ++i)
        s += migrate::to_hex(b.subspan(i, 1)) + (i % 16 == 15 || i + 1 == b.size() ? "\n" : " ");
    return s;
}

// The file is the truth. PROA_UPDATE_GOLDEN=1 rewrites it: only for a new version of what the records belong to.
inline void expect_golden(const std::string& directory, const std::string& name, migrate::View bytes) {
    const std::string path = directory + "/" + name + ".hex";
    if (std::getenv("PROA_UPDATE_GOLDEN") != nullptr) std::ofstream(path) << hex_dump(bytes);
    std::ifstream f(path);
    const std::string want{std::istreambuf_iterator<char>(f), {}};
    EXPECT_EQ(hex_dump(bytes), want) << name;
}

}  // namespace proa::test
