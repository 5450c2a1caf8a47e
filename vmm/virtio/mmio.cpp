#include "vmm/virtio/mmio.hpp"

#include <spdlog/spdlog.h>

#include <utility>

namespace proa::vmm {
namespace {

// Table 4.1 of 4.2.2.
enum Register : std::uint64_t {
    MagicValue = 0x00,
    Version = 0x04,
    DeviceId = 0x08,
    VendorId = 0x0c,
    DeviceFeatures = 0x10,
    DeviceFeaturesSel = 0x14,
    DriverFeatures = 0x20,
    DriverFeaturesSel = 0x24,
    QueueSel = 0x30,
    QueueNumMax = 0x34,
    QueueNum = 0x38,
    QueueReady = 0x44,
    QueueNotify = 0x50,
    InterruptStatus = 0x60,
    InterruptAck = 0x64,
    Status = 0x70,
    QueueDescLow = 0x80,
    QueueDescHigh = 0x84,
    QueueDriverLow = 0x90,
    QueueDriverHigh = 0x94,
    QueueDeviceLow = 0xa0,
    QueueDeviceHigh = 0xa4,
    ConfigGeneration = 0xfc,
    Config = 0x100
};
constexpr std::uint32_t kMagic = 0x7472'6976, kVendor = 0x616f'7270;  // "virt", "proa"
constexpr std::uint8_t kDriverOk = 4, kFeaturesOk = 8, kNeedsReset = 64;
constexpr unsigned kIndirectDesc = 28, kEventIdx = 29, kVersion1 = 32;
constexpr std::uint32_t kUsedBuffer = 1, kConfigChange = 2;  // interrupt status bits
constexpr std::uint32_t kStateVersion = 1;
constexpr unsigned kMostComplaints = 20;

void set_half(std::uint64_t& word, std::uint32_t v, bool high) {
    word = high ? (word & 0xffff'ffff) | static_cast<std::uint64_t>(v) << 32 : (word & ~0xffff'ffffull) | v;
}

}  // namespace

VirtioMmio::VirtioMmio(unsigned slot, GuestMemory& memory, std::unique_ptr<VirtioBackend> backend,
                       std::function<void(std::uint32_t)> raise)
    : slot_(slot), memory_(memory), backend_(std::move(backend)), raise_(std::move(raise)) {
    queues_.resize(backend_->queues());
    backend_->attach(*this);
}

std::string VirtioMmio::name() const {
    return "virtio" + std::to_string(slot_) + ":" + backend_->type();
}

std::uint64_t VirtioMmio::offered() const {
    return backend_->features() | 1ull << kVersion1 | 1ull << kIndirectDesc | 1ull << kEventIdx;
}

std::uint64_t VirtioMmio::read(std::uint64_t offset, unsigned size) {
    if (offset >= Config) {
        std::uint64_t v = 0;
        for (unsigned i = 0; i < size; ++i)
            v |= static_cast<std::uint64_t>(backend_->config(static_cast<unsigned>(offset - Config) + i))
                 << (8 * i);
        return v;
    }
    if (size != 4) return 0;
    switch (offset) {
        case MagicValue: return kMagic;
        case Version: return 2;
        case DeviceId: return backend_->id();
        case VendorId: return kVendor;
        case DeviceFeatures: return device_sel_ > 1 ? 0 : offered() >> (32 * device_sel_) & 0xffff'ffff;
        case QueueNumMax: return queue_sel_ < queues_.size() ? SplitQueue::kMaxSize : 0;
        case QueueReady: return queue_sel_ < queues_.size() && queues_[queue_sel_].ready ? 1 : 0;
        case Status: return status_;
        case ConfigGeneration: return generation_;
        default: return 0;
    }
}

void VirtioMmio::write(std::uint64_t offset, unsigned size, std::uint64_t value) {
    if (size != 4) return;
    const auto v = static_cast<std::uint32_t>(value);
    SplitQueue* q = queue_sel_ < queues_.size() && !queues_[queue_sel_].ready ? &queues_[queue_sel_] : nullptr;
    switch (offset) {
        case DeviceFeaturesSel: device_sel_ = v; return;
        case DriverFeaturesSel: driver_sel_ = v; return;
        case DriverFeatures:
            if (driver_sel_ < 2 && (status_ & kFeaturesOk) == 0)
                set_half(driver_features_, v, driver_sel_ == 1);
            return;
        case QueueSel: queue_sel_ = v; return;
        case QueueNum:
            if (q != nullptr && v <= SplitQueue::kMaxSize) q->size = static_cast<std::uint16_t>(v);
            return;
        case QueueReady:
            if (queue_sel_ >= queues_.size()) return;
            if (v == 0)
                queues_[queue_sel_].ready = false;
            else if (queues_[queue_sel_].valid(memory_))
                queues_[queue_sel_].ready = true;
            else
                broken("queue outside of RAM or of a wrong size");
            return;
        case QueueNotify: notified(1ull << (v & 63)); return;
        case Status: set_status(static_cast<std::uint8_t>(v)); return;
        case QueueDescLow:
        case QueueDescHigh:
            if (q != nullptr) set_half(q->desc, v, offset == QueueDescHigh);
            return;
        case QueueDriverLow:
        case QueueDriverHigh:
            if (q != nullptr) set_half(q->avail, v, offset == QueueDriverHigh);
            return;
        case QueueDeviceLow:
        case QueueDeviceHigh:
            if (q != nullptr) set_half(q->used, v, offset == QueueDeviceHigh);
            return;
        default: return;
    }
}

void VirtioMmio::set_status(std::uint8_t v) {
    if (v == 0) return reset();
    // FEATURES_OK stands only if the driver took a subset of what was offered, VERSION_1 among it (3.1.1).
    if ((v & kFeaturesOk) != 0 && (status_ & kFeaturesOk) == 0 &&
        ((driver_features_ & ~offered()) != 0 || (driver_features_ >> kVersion1 & 1) == 0))
        v = static_cast<std::uint8_t>(v & ~kFeaturesOk);
    const bool starts = (v & kDriverOk) != 0 && (status_ & kDriverOk) == 0;
    status_ = static_cast<std::uint8_t>(v | (status_ & kNeedsReset));
    if (starts) backend_->negotiated();
}

void VirtioMmio::reset() {
    backend_->quiesce();
    backend_->reset();
    for (auto& q : queues_) q.reset();
    driver_features_ = 0;
    device_sel_ = driver_sel_ = queue_sel_ = 0;
    status_ = 0;
    backend_->resume();
}

void VirtioMmio::notified(std::uint64_t queues) {
    if ((status_ & kDriverOk) == 0 || (status_ & kNeedsReset) != 0) return;
    for (unsigned n = 0; n < queues_.size(); ++n)
        if ((queues >> n & 1) != 0 && queues_[n].ready) backend_->notified(n);
}

void VirtioMmio::used(unsigned n) {
    if (queues_[n].ready && queues_[n].wants_interrupt(memory_, feature(kEventIdx))) raise_(kUsedBuffer);
}

void VirtioMmio::config_changed() {
    ++generation_;
    if ((status_ & kDriverOk) != 0) raise_(kConfigChange);
}

void VirtioMmio::broken(const char* why) {
    if ((status_ & kNeedsReset) != 0) return;
    // A guest can do this as often as it likes; the log is the host's.
    if (complaints_ < kMostComplaints)
        spdlog::warn("{}: the guest broke the virtio rules ({}); the device waits for a reset{}", name(), why,
                     ++complaints_ == kMostComplaints ? " (and more of the same, not logged)" : "");
    status_ |= kNeedsReset;
    if ((status_ & kDriverOk) != 0) raise_(kConfigChange);
}

// An interrupt may have been lost with the source; one too many costs the driver a look, at the worst moment.
void VirtioMmio::arrive() {
    backend_->arrive();
    if ((status_ & kDriverOk) == 0) return;
    for (const SplitQueue& q : queues_)
        if (q.unseen(memory_, feature(kEventIdx))) return raise_(kUsedBuffer);
}

void VirtioMmio::resume() {
    backend_->resume();
    notified(~0ull);  // what came while it was parked, or was lost with the source
}

std::vector<std::uint8_t> VirtioMmio::save() const {
    BlobWriter w;
    w.put(kStateVersion);
    w.put(backend_->id());
    w.put(driver_features_);
    w.put(device_sel_);
    w.put(driver_sel_);
    w.put(queue_sel_);
    w.put(generation_);
    w.put(status_);
    w.put(static_cast<std::uint32_t>(queues_.size()));
    for (const auto& q : queues_) q.save(w);
    backend_->save(w);
    return w.take();
}

Result<void> VirtioMmio::load(std::span<const std::uint8_t> state) {
    BlobReader r(state);
    const auto refuse = [&](const char* why) { return fail(name() + ": state refused: " + why); };
    if (r.get<std::uint32_t>() != kStateVersion) return refuse("unknown version");
    if (r.get<std::uint32_t>() != backend_->id()) return refuse("another device type");
    const auto features = r.get<std::uint64_t>();
    const auto device_sel = r.get<std::uint32_t>(), driver_sel = r.get<std::uint32_t>();
    const auto queue_sel = r.get<std::uint32_t>(), generation = r.get<std::uint32_t>();
    const auto status = r.get<std::uint8_t>();
    if ((features & ~offered()) != 0) return refuse("it negotiated a feature this host doesn't offer");
    if (r.get<std::uint32_t>() != queues_.size()) return refuse("another number of queues");
    std::vector<SplitQueue> queues(queues_.size());
    for (auto& q : queues)
        if (!q.load(r) || (q.ready && !q.valid(memory_))) return refuse("a queue outside of RAM");
    if (!backend_->load(r) || !r.complete()) return refuse("malformed");
    queues_ = std::move(queues);
    driver_features_ = features;
    device_sel_ = device_sel;
    driver_sel_ = driver_sel;
    queue_sel_ = queue_sel;
    generation_ = generation;
    status_ = status;
    if ((status_ & kDriverOk) != 0) backend_->negotiated();
    return {};
}

}  // namespace proa::vmm
