#include "vmm/devices/uart.hpp"

#include <ctime>

#include "vmm/blob.hpp"

namespace proa::vmm {
namespace {

enum Uart : std::uint64_t {
    Dr = 0x00,
    Fr = 0x18,
    Ibrd = 0x24,
    Fbrd = 0x28,
    LcrH = 0x2c,
    Cr = 0x30,
    Ifls = 0x34,
    Imsc = 0x38,
    Ris = 0x3c,
    Mis = 0x40,
    Icr = 0x44,
    PeriphId0 = 0xfe0
};
constexpr std::uint32_t kRxi = 1 << 4, kTxi = 1 << 5, kRti = 1 << 6;
constexpr std::uint32_t kRxEmpty = 1 << 4, kTxEmpty = 1 << 7, kRxFull = 1 << 6;
constexpr std::size_t kFifo = 4096;
// Peripheral and PrimeCell identification (r1p5; PL031 r1p3).
constexpr std::uint8_t kUartId[8] = {0x11, 0x10, 0x14, 0x00, 0x0d, 0xf0, 0x05, 0xb1};
constexpr std::uint8_t kRtcId[8] = {0x31, 0x10, 0x04, 0x00, 0x0d, 0xf0, 0x05, 0xb1};

std::uint64_t id_byte(const std::uint8_t (&id)[8], std::uint64_t offset) {
    return id[(offset - PeriphId0) / 4 % 8];
}

}  // namespace

void Pl011::reset() {
    fifo_.clear();
    cr_ = 0x300;
    lcr_ = ibrd_ = fbrd_ = imsc_ = ris_ = 0;
    ifls_ = 0x12;
    update();
}

void Pl011::update() {
    if (fifo_.empty())
        ris_ &= ~(kRxi | kRti);
    else
        ris_ |= kRxi | kRti;
    line_((ris_ & imsc_) != 0);
}

std::uint64_t Pl011::read(std::uint64_t offset, unsigned) {
    if (offset >= PeriphId0) return id_byte(kUartId, offset);
    switch (offset) {
        case Dr: {
            if (fifo_.empty()) return 0;
            const std::uint8_t c = fifo_.front();
            fifo_.pop_front();
            update();
            return c;
        }
        case Fr: return kTxEmpty | (fifo_.empty() ? kRxEmpty : 0) | (fifo_.size() >= kFifo ? kRxFull : 0);
        case Ibrd: return ibrd_;
        case Fbrd: return fbrd_;
        case LcrH: return lcr_;
        case Cr: return cr_;
        case Ifls: return ifls_;
        case Imsc: return imsc_;
        case Ris: return ris_;
        case Mis: return ris_ & imsc_;
        default: return 0;
    }
}

void Pl011::write(std::uint64_t offset, unsigned, std::uint64_t value) {
    const auto v = static_cast<std::uint32_t>(value);
    switch (offset) {
        case Dr: {
            const auto c = static_cast<std::uint8_t>(v);
            output_({&c, 1});
            ris_ |= kTxi;  // the FIFO drains at once
            break;
        }
        case Ibrd: ibrd_ = v & 0xffff; return;
        case Fbrd: fbrd_ = v & 0x3f; return;
        case LcrH: lcr_ = v & 0xff; return;
        case Cr: cr_ = v & 0xffff; return;
        case Ifls: ifls_ = v & 0x3f; return;
        case Imsc: imsc_ = v & 0x7ff; break;
        case Icr: ris_ &= ~v; break;
        default: return;
    }
    update();
}

void Pl011::input(std::span<const std::uint8_t> bytes) {
    for (const std::uint8_t b : bytes)
        if (fifo_.size() < kFifo) fifo_.push_back(b);
    update();
}

std::vector<std::uint8_t> Pl011::save() const {
    BlobWriter w;
    for (const std::uint32_t v : {1u, cr_, lcr_, ibrd_, fbrd_, ifls_, imsc_, ris_}) w.put(v);
    w.put_bytes(std::vector<std::uint8_t>(fifo_.begin(), fifo_.end()));
    return w.take();
}

Result<void> Pl011::load(std::span<const std::uint8_t> state) {
    BlobReader r(state);
    std::uint32_t v[8];
    for (auto& x : v) x = r.get<std::uint32_t>();
    const auto fifo = r.get_bytes(kFifo);
    if (!r.complete() || v[0] != 1) return fail("pl011: state refused: malformed");
    cr_ = v[1], lcr_ = v[2], ibrd_ = v[3], fbrd_ = v[4], ifls_ = v[5], imsc_ = v[6], ris_ = v[7];
    fifo_.assign(fifo.begin(), fifo.end());
    return {};
}

std::uint32_t Pl031::now() const {
    return static_cast<std::uint32_t>(std::time(nullptr) + offset_);
}

std::uint64_t Pl031::read(std::uint64_t offset, unsigned) {
    if (offset >= PeriphId0) return id_byte(kRtcId, offset);
    switch (offset) {
        case 0x00: return now();
        case 0x04: return match_;
        case 0x0c: return 1;  // CR: started, can't be stopped
        case 0x10: return imsc_;
        default: return 0;
    }
}

void Pl031::write(std::uint64_t offset, unsigned, std::uint64_t value) {
    const auto v = static_cast<std::uint32_t>(value);
    if (offset == 0x08) offset_ = static_cast<std::int64_t>(v) - std::time(nullptr);
    if (offset == 0x04) match_ = v;
    if (offset == 0x10) imsc_ = v & 1;
}

std::vector<std::uint8_t> Pl031::save() const {
    BlobWriter w;
    w.put(std::uint32_t{1});
    w.put(offset_);
    w.put(match_);
    w.put(imsc_);
    return w.take();
}

Result<void> Pl031::load(std::span<const std::uint8_t> state) {
    BlobReader r(state);
    const auto version = r.get<std::uint32_t>();
    const auto offset = r.get<std::int64_t>();
    const auto match = r.get<std::uint32_t>(), imsc = r.get<std::uint32_t>();
    if (!r.complete() || version != 1) return fail("pl031: state refused: malformed");
    offset_ = offset, match_ = match, imsc_ = imsc;
    return {};
}

}  // namespace proa::vmm
