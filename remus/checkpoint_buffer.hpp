// One checkpoint at the backup, from Begin to End: takes records, checks each and then the whole, and is committed at once
// or dropped. Commit can't fail: everything was validated while it was buffered (Xen's xg_sr_restore does it so).
#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <vector>

#include "remus/pages.hpp"
#include "remus/records.hpp"

namespace proa::remus {

class CheckpointBuffer {
  public:
    // `ram`: the guest's memory at the backup, not owned. `disks`: sizes of the replicated disks. `most_bytes`: what a hostile
    // primary may make us hold for one checkpoint.
    CheckpointBuffer(std::span<std::uint8_t> ram, std::vector<std::uint64_t> disks,
                     std::vector<std::string> devices, std::uint64_t term, std::uint64_t most_bytes);

    // Any record of a checkpoint, in stream order. True when `f` was an End that completes it. An error leaves nothing applied:
    // a wrong term (an old primary's), an epoch out of turn, a page or write out of range, a missing device, ...
    transport::Result<bool> take(const transport::Frame& f);
    bool complete() const { return complete_; }
    bool final() const { return final_; }
    std::uint64_t epoch() const { return epoch_; }

    // complete() only. Writes the pages into RAM and hands over the rest; the buffer is ready for the next Begin.
    struct Committed {
        std::uint64_t epoch = 0;
        vmm::MachineState machine;
        std::vector<migrate::DeviceState> devices;
        std::vector<DiskWritesRecord> disk_writes;  // in order
        std::uint64_t pages = 0;
    };
    Committed commit();
    void drop();  // what has come of an unfinished checkpoint

  private:
    enum class Stage : std::uint8_t { Idle, Body, Machine, Devices };
    std::span<std::uint8_t> ram_;
    std::vector<std::uint64_t> disks_;
    std::vector<std::string> device_names_;
    std::uint64_t term_, most_bytes_;
    Stage stage_ = Stage::Idle;
    bool complete_ = false, final_ = false;
    std::uint64_t epoch_ = 0, held_bytes_ = 0, page_count_ = 0;
    std::map<std::uint64_t, PageUpdate> pages_;
    Committed pending_;
};

}  // namespace proa::remus
