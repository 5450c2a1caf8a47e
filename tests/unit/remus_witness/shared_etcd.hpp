// One etcd for all tests of a program; each test uses guests of its own.
#pragma once
#include <gtest/gtest.h>

#include "tests/support/etcd_process.hpp"

namespace proa::test {

inline EtcdProcess& shared_etcd() {
    static EtcdProcess etcd;
    return etcd;
}

// Bounds that only a broken machine reaches: what is tested is not how fast it is.
inline constexpr auto kPatience = std::chrono::seconds(60);

template <class F>
bool eventually(F&& f) {
    const auto end = std::chrono::steady_clock::now() + kPatience;
    while (!f()) {
        if (std::chrono::steady_clock::now() > end) return false;
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    return true;
}

}  // namespace proa::test
