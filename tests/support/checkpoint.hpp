// A small valid checkpoint, record by record, for tests and the fuzzer to take apart.
#pragma once
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "remus/pages.hpp"
#include "remus/records.hpp"

namespace proa::test {

inline constexpr std::uint64_t kTerm = 5, kRamPages = 16, kDiskBytes = 1 << 20;
inline const std::vector<std::uint64_t> kDisks = {kDiskBytes, 4096};
inline const std::vector<std::string> kDevices = {"uart", "virtio0:block"};

template <class R>
transport::Frame frame(R type, migrate::Bytes payload) {
    return {static_cast<std::uint16_t>(type), std::move(payload)};
}

inline vmm::MachineState small_machine() {
    vmm::MachineState s;
    abi::VcpuState v{};
    v.version = abi::kStateVersion;
    v.power = abi::PowerState::On;
    v.pc = 0x4008'0000;
    s.vcpus.push_back(v);
    s.gic.version = abi::kStateVersion;
    s.gic.vcpu_count = 1;
    s.gic.spi_count = 32;
    s.time = {abi::kStateVersion, 0, 1000, 62'500'000, {}};
    s.latches.version = abi::kStateVersion;
    s.latches.count = abi::kVirtioSlots;
    s.policy.version = abi::kStateVersion;
    return s;
}

inline migrate::Bytes page_of(std::uint8_t v) {
    return migrate::Bytes(remus::kPageBytes, v);
}

// What a primary sends for epochs 1 and 2: every kind of page and of disk write is in the second. `payload(n)` is a Pages record.
struct SampleStream {
    explicit SampleStream(std::uint64_t term = kTerm, std::uint64_t pages = kRamPages)
        : term_(term), encoder_(pages, 1 << 20) {
        encoder_.add(1, page_of(0x11));
        encoder_.add(2, page_of(0x22));
        first = checkpoint(1, 2, {}, false);
        auto changed = page_of(0x22);
        changed[800] = 0x23;
        encoder_.add(1, page_of(0));
        encoder_.add(2, changed);
        encoder_.add(9, page_of(0x99));
        remus::DiskWritesRecord w;
        w.disk = 0;
        w.writes = {{1024, 512, false}, {65536, 131072, true}};
        w.data.assign(512, 0xdd);
        second = checkpoint(2, 3, {w}, true);
    }
    std::vector<transport::Frame> first, second;

  private:
    std::vector<transport::Frame> checkpoint(std::uint64_t epoch, std::uint64_t pages,
                                             const std::vector<remus::DiskWritesRecord>& writes, bool final) {
        std::vector<transport::Frame> f;
        f.push_back(frame(remus::Record::Begin, encode(remus::BeginRecord{term_, epoch})));
        const auto record = encoder_.take();
        f.push_back(frame(remus::Record::Pages, {record.begin(), record.end()}));
        encoder_.commit();
        std::uint64_t count = 0;
        for (const auto& w : writes) {
            f.push_back(frame(remus::Record::DiskWrites, encode(w)));
            count += w.writes.size();
        }
        f.push_back(frame(migrate::Record::Machine, migrate::encode_machine(small_machine())));
        for (const auto& d : kDevices)
            f.push_back(frame(migrate::Record::Device,
                              migrate::encode_device({d, {static_cast<std::uint8_t>(epoch)}})));
        const auto devices = static_cast<std::uint32_t>(kDevices.size());
        f.push_back(
            frame(remus::Record::End, encode(remus::EndRecord{term_, epoch, pages, count, devices, final})));
        return f;
    }
    std::uint64_t term_;
    remus::PageEncoder encoder_;
};

}  // namespace proa::test
