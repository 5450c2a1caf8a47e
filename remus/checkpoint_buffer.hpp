// One checkpoint at the backup, from Begin to End: takes records, checks each and then the whole, and is committed at once
// or dropped. Commit can't fail: everything was validated while it was buffered (Xen's xg_sr_restore does it so).
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "remus/pages.hpp"
#include "remus/records.hpp"

namespace proa::remus {

class CheckpointBuffer {
  public:
    // `ram`: the guest's memory at the backup, not owned. `disks`: sizes of the replicated disks. `devices`: names, each
    // once; a checkpoint has the state of exactly these. `most_bytes`: what a hostile primary may make us hold for one
    // checkpoint; a guest may write to all of its RAM between two.
    CheckpointBuffer(std::span<std::uint8_t> ram, std::vector<std::uint64_t> disks,
                     std::vector<std::string> devices, std::uint64_t term, std::uint64_t most_bytes);

    // Any record of a checkpoint, in stream order. True when `f` was an End that completes it: then commit() it before the
    // next record. An error drops what has come of an unfinished checkpoint; nothing of it is applied: a wrong term (an old
    // primary's), an epoch out of turn, a page or write out of range, a missing device, ...
    transport::Result<bool> take(const transport::Frame& f);
    bool complete() const { return stage_ == Stage::Complete; }
    bool final() const { return final_; }  // of a planned failover; until the next Begin
    std::uint64_t epoch() const {
        return epoch_;
    }  // of what is in here, else of the last committed one; 0: none yet
    std::uint64_t held_bytes() const { return held_bytes_; }

    // complete() only. Writes the pages into RAM and hands over the rest; the buffer is ready for the next Begin.
    struct Committed {
        std::uint64_t epoch = 0;
        vmm::MachineState machine;
        std::vector<migrate::DeviceState> devices;
        std::vector<DiskWritesRecord> disk_writes;  // in order
        std::uint64_t pages = 0;
    };
    Committed commit();
    // What has come of an unfinished checkpoint. A complete one stays: it may have been acknowledged.
    void drop();

  private:
    enum class Stage : std::uint8_t { Idle, Body, State, Complete };
    transport::Result<void> accept(const transport::Frame& f);
    transport::Result<void> begin(View b);
    transport::Result<void> pages(View b);
    transport::Result<void> disk_writes(View b);
    transport::Result<void> machine(View b);
    transport::Result<void> device(View b);
    transport::Result<void> end(View b);
    transport::Result<void> has_room_for(std::uint64_t bytes) const;
    void clear();

    const std::span<std::uint8_t> ram_;
    const std::vector<std::uint64_t> disks_;
    const std::vector<std::string> device_names_;
    const std::uint64_t term_, most_bytes_;
    Stage stage_ = Stage::Idle;
    bool final_ = false;
    std::uint64_t epoch_ = 0, committed_epoch_ = 0, held_bytes_ = 0, disk_write_count_ = 0;
    std::vector<PageUpdates> updates_;  // one a record, and one allocation a record
    std::vector<bool> seen_;            // a bit a page of RAM: in updates_
    Committed pending_;
};

}  // namespace proa::remus
