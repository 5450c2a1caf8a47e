#include "remus/checkpoint_buffer.hpp"

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "migrate/page_batch.hpp"

namespace proa::remus {
namespace {

using transport::Result;

tl::unexpected<transport::Error> refuse(const std::string& why, const std::string& remedy = {}) {
    return transport::fail(transport::ErrorKind::Protocol, "peer's checkpoint refused: " + why, remedy);
}

std::string number(std::uint64_t n) {
    return std::to_string(n);
}

std::string harmless(std::string name) {  // a peer's text ends on a terminal and in logs
    std::replace_if(
        name.begin(), name.end(), [](char c) { return c < 0x20 || c > 0x7e; }, '?');
    return name;
}

Result<void> check_term(std::uint64_t theirs, std::uint64_t ours) {
    if (theirs == ours) return {};
    const std::string terms = " checkpoint: term " + number(theirs) + ", this is " + number(ours);
    return theirs < ours ? refuse("an old primary's" + terms) : refuse("another primary's" + terms);
}

}  // namespace

CheckpointBuffer::CheckpointBuffer(std::span<std::uint8_t> ram, std::vector<std::uint64_t> disks,
                                   std::vector<std::string> devices, std::uint64_t term,
                                   std::uint64_t most_bytes)
    : ram_(ram),
      disks_(std::move(disks)),
      device_names_(std::move(devices)),
      term_(term),
      most_bytes_(most_bytes),
      seen_(ram.size() / kPageBytes) {}

Result<bool> CheckpointBuffer::take(const transport::Frame& f) {
    if (auto r = accept(f); !r) {
        drop();
        return tl::unexpected(std::move(r.error()));
    }
    return complete();
}

Result<void> CheckpointBuffer::accept(const transport::Frame& f) {
    switch (stage_) {
        case Stage::Idle:
            if (is(f, Record::Begin)) return begin(f.payload);
            break;
        case Stage::Body:
            if (is(f, Record::Pages)) return pages(f.payload);
            if (is(f, Record::DiskWrites)) return disk_writes(f.payload);
            if (migrate::is(f, migrate::Record::Machine)) return machine(f.payload);
            break;
        case Stage::State:
            if (migrate::is(f, migrate::Record::Device)) return device(f.payload);
            if (is(f, Record::End)) return end(f.payload);
            break;
        case Stage::Complete: break;
    }
    return tl::unexpected(migrate::unexpected_record(f));
}

Result<void> CheckpointBuffer::has_room_for(std::uint64_t bytes) const {
    if (bytes <= most_bytes_ - held_bytes_) return {};
    return refuse("it takes more than " + number(most_bytes_ >> 20) + " MiB",
                  "let the primary make checkpoints more often");
}

Result<void> CheckpointBuffer::begin(View b) {
    const auto r = decode_begin(b);
    if (!r) return tl::unexpected(r.error());
    if (auto t = check_term(r->term, term_); !t) return t;
    if (r->epoch != committed_epoch_ + 1)
        return refuse("epoch " + number(r->epoch) + " where " + number(committed_epoch_ + 1) + " is due");
    epoch_ = r->epoch;
    final_ = false;
    stage_ = Stage::Body;
    return {};
}

Result<void> CheckpointBuffer::pages(View b) {
    auto u = decode_pages(b, ram_, most_bytes_ - held_bytes_);
    if (!u) return tl::unexpected(u.error());
    for (const auto& p : u->pages)
        if (seen_[p.number]) return refuse("page " + number(p.number) + " comes twice");
    for (const auto& p : u->pages) seen_[p.number] = true;
    held_bytes_ += u->held_bytes;
    pending_.pages += u->pages.size();
    updates_.push_back(std::move(*u));
    return {};
}

Result<void> CheckpointBuffer::disk_writes(View b) {
    static_assert(sizeof(DiskWrite) <= 2 * 16);  // an entry in memory, and on the wire: never twice the payload
    if (auto r = has_room_for(sizeof(DiskWritesRecord) + 2 * b.size()); !r) return r;
    auto r = decode_disk_writes(b);
    if (!r) return tl::unexpected(r.error());
    if (r->disk >= disks_.size()) return refuse("a write to disk " + number(r->disk) + ", which there isn't");
    const std::uint64_t size = disks_[r->disk];
    for (const auto& w : r->writes)
        if (w.offset > size || w.length > size - w.offset)
            return refuse("a write past the end of disk " + number(r->disk));
    held_bytes_ += sizeof(DiskWritesRecord) + r->writes.size() * sizeof(DiskWrite) + r->data.size();
    disk_write_count_ += r->writes.size();
    pending_.disk_writes.push_back(std::move(*r));
    return {};
}

Result<void> CheckpointBuffer::machine(View b) {
    auto m = migrate::decode_machine(b);
    if (!m) return tl::unexpected(m.error());
    pending_.machine = std::move(*m);
    stage_ = Stage::State;
    return {};
}

Result<void> CheckpointBuffer::device(View b) {
    if (auto r = has_room_for(b.size()); !r) return r;
    auto d = migrate::decode_device(b);
    if (!d) return tl::unexpected(d.error());
    if (std::find(device_names_.begin(), device_names_.end(), d->name) == device_names_.end())
        return refuse("it has a device " + harmless(d->name) + ", the guest here has none",
                      "protect the guest with the same configuration on both hosts");
    const auto same = [&](const auto& other) { return other.name == d->name; };
    if (std::any_of(pending_.devices.begin(), pending_.devices.end(), same))
        return refuse("device " + d->name + " comes twice");
    held_bytes_ += d->state.size();
    pending_.devices.push_back(std::move(*d));
    return {};
}

Result<void> CheckpointBuffer::end(View b) {
    const auto r = decode_end(b);
    if (!r) return tl::unexpected(r.error());
    if (auto t = check_term(r->term, term_); !t) return t;
    if (r->epoch != epoch_)
        return refuse("the end of epoch " + number(r->epoch) + " in epoch " + number(epoch_));
    for (const auto& name : device_names_) {
        const auto same = [&](const auto& d) { return d.name == name; };
        if (std::none_of(pending_.devices.begin(), pending_.devices.end(), same))
            return refuse("device " + name + " is missing",
                          "protect the guest with the same configuration on both hosts");
    }
    const struct {
        const char* what;
        std::uint64_t said, came;
    } counts[] = {{"pages", r->pages, pending_.pages},
                  {"disk writes", r->disk_writes, disk_write_count_},
                  {"devices", r->devices, pending_.devices.size()}};
    for (const auto& c : counts)
        if (c.said != c.came)
            return refuse(number(c.came) + " " + c.what + " where it counts " + number(c.said));
    final_ = r->final;
    pending_.epoch = epoch_;
    stage_ = Stage::Complete;
    return {};
}

CheckpointBuffer::Committed CheckpointBuffer::commit() {
    if (!complete()) throw std::logic_error("CheckpointBuffer::commit: the checkpoint isn't complete");
    for (const auto& u : updates_)
        for (const auto& p : u.pages) {
            const auto page = ram_.subspan(p.number * kPageBytes, kPageBytes);
            if (!p.bytes.empty())
                std::memcpy(page.data(), p.bytes.data(), kPageBytes);
            else if (!migrate::is_zero(page))  // untouched memory stays untouched
                std::memset(page.data(), 0, kPageBytes);
        }
    committed_epoch_ = epoch_;
    Committed done = std::move(pending_);
    clear();
    return done;
}

void CheckpointBuffer::drop() {
    if (!complete()) clear();
}

void CheckpointBuffer::clear() {
    for (const auto& u : updates_)
        for (const auto& p : u.pages) seen_[p.number] = false;
    updates_.clear();
    pending_ = {};
    held_bytes_ = disk_write_count_ = 0;
    epoch_ = committed_epoch_;
    stage_ = Stage::Idle;
}

}  // namespace proa::remus
