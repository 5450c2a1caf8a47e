#include "vmm/devices/gpio.hpp"

#include "vmm/blob.hpp"

namespace proa::vmm {
namespace {

enum Gpio : std::uint64_t {
    DataEnd = 0x400,  // GPIODATA is 256 words: address bits [9:2] are the mask of lines an access touches
    Dir = 0x400,
    Is = 0x404,   // 1: level-sensitive
    Ibe = 0x408,  // both edges
    Iev = 0x40c,  // 1: rising edge or high level
    Ie = 0x410,
    Ris = 0x414,
    Mis = 0x418,
    Ic = 0x41c,
    Afsel = 0x420,
    PeriphId0 = 0xfe0
};
constexpr std::uint8_t kId[8] = {0x61, 0x10, 0x04, 0x00, 0x0d, 0xf0, 0x05, 0xb1};
constexpr std::uint32_t kStateVersion = 1;

std::uint8_t byte(unsigned v) {
    return static_cast<std::uint8_t>(v);
}

}  // namespace

std::uint8_t Pl061::pins() const {
    return byte((out_ & dir_) | (in_ & ~dir_));
}

std::uint8_t Pl061::raw() const {
    const unsigned active = ~(pins() ^ iev_);  // the line is at the level that GPIOIEV names
    return byte((edges_ & ~is_) | (active & is_));
}

void Pl061::moved(std::uint8_t old) {
    const unsigned now = pins(), changed = now ^ old;
    edges_ = byte(edges_ | (changed & (ibe_ | ~(now ^ iev_)) & ~is_));
}

void Pl061::update() {
    line_((raw() & ie_) != 0);
}

void Pl061::set_input(unsigned pin, bool high) {
    const std::uint8_t old = pins();
    in_ = byte(high ? in_ | 1u << pin : in_ & ~(1u << pin));
    moved(old);
    update();
}

void Pl061::reset() {
    out_ = dir_ = is_ = ibe_ = iev_ = ie_ = afsel_ = edges_ = 0;
    update();
}

std::uint64_t Pl061::read(std::uint64_t offset, unsigned) {
    if (offset < DataEnd) return pins() & (offset >> 2);
    if (offset >= PeriphId0) return kId[(offset - PeriphId0) / 4 % 8];
    switch (offset) {
        case Dir: return dir_;
        case Is: return is_;
        case Ibe: return ibe_;
        case Iev: return iev_;
        case Ie: return ie_;
        case Ris: return raw();
        case Mis: return raw() & ie_;
        case Afsel: return afsel_;
        default: return 0;
    }
}

void Pl061::write(std::uint64_t offset, unsigned, std::uint64_t value) {
    const std::uint8_t v = byte(static_cast<unsigned>(value)), old = pins();
    if (offset < DataEnd) {
        const unsigned mask = byte(static_cast<unsigned>(offset >> 2));
        out_ = byte((out_ & ~mask) | (v & mask));
        moved(old);
    }
    switch (offset) {
        case Dir:
            dir_ = v;
            moved(old);
            break;
        case Is: is_ = v; break;
        case Ibe: ibe_ = v; break;
        case Iev: iev_ = v; break;
        case Ie: ie_ = v; break;
        case Ic: edges_ = byte(edges_ & ~v); break;
        case Afsel: afsel_ = v; break;
        default: break;
    }
    update();
}

std::vector<std::uint8_t> Pl061::save() const {
    BlobWriter w;
    w.put(kStateVersion);
    for (const std::uint8_t v : {in_, out_, dir_, is_, ibe_, iev_, ie_, afsel_, edges_}) w.put(v);
    return w.take();
}

Result<void> Pl061::load(std::span<const std::uint8_t> state) {
    BlobReader r(state);
    const auto version = r.get<std::uint32_t>();
    std::uint8_t v[9];
    for (auto& x : v) x = r.get<std::uint8_t>();
    if (!r.complete() || version != kStateVersion) return fail("pl061: state refused: malformed");
    in_ = v[0], out_ = v[1], dir_ = v[2], is_ = v[3], ibe_ = v[4], iev_ = v[5], ie_ = v[6], afsel_ = v[7];
    edges_ = v[8];
    return {};
}

}  // namespace proa::vmm
