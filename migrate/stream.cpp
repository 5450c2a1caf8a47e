#include "migrate/stream.hpp"

#include <openssl/crypto.h>
#include <sys/random.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "migrate/wire.hpp"

namespace proa::migrate {
namespace {

using wire::refuse;

std::string printable(const std::string& s) {  // a peer's text ends on a terminal and in logs
    std::string out = s.substr(0, kMaxText);
    std::replace_if(
        out.begin(), out.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }, ' ');
    return out;
}

}  // namespace

transport::Result<void> send(transport::Channel& c, Record r, View payload) {
    return c.send(static_cast<std::uint16_t>(r), payload);
}

transport::Error unexpected_record(const transport::Frame& f) {
    if (is(f, Record::Abort)) {
        const AbortRecord a = decode_abort(f.payload);
        return {transport::ErrorKind::Refused, "the peer gave up: " + a.what, a.remedy};
    }
    return {transport::ErrorKind::Protocol,
            "peer's stream refused: record " + std::to_string(f.type & ~transport::kMandatory) +
                " where it doesn't belong",
            "install the same version of proa on both hosts"};
}

transport::Result<void> send(transport::Channel& c, const Records& records) {
    std::vector<transport::OutgoingFrame> frames;
    for (const auto& [type, payload] : records) frames.push_back({static_cast<std::uint16_t>(type), payload});
    return c.send(frames);
}

// A type without the mandatory bit that isn't LateFrame is one of a version to come.
transport::Result<void> receive(transport::Channel& c, transport::Frame& f, transport::Patience p) {
    for (unsigned skipped = 0; skipped <= kMaxSkipped; ++skipped) {
        auto r = c.receive(f, p);
        if (!r || (f.type & transport::kMandatory) != 0 || is(f, Record::LateFrame)) return r;
    }
    return refuse("nothing but optional records");
}

transport::Result<transport::Frame> receive(transport::Channel& c, transport::Patience p) {
    transport::Frame f;
    if (auto r = receive(c, f, p); !r) return tl::unexpected(r.error());
    return f;
}

transport::Result<Bytes> expect(transport::Channel& c, Record want, transport::Patience p) {
    auto f = receive(c, p);
    if (!f) return tl::unexpected(f.error());
    if (!is(*f, want)) return tl::unexpected(unexpected_record(*f));
    return std::move(f->payload);
}

Bytes encode_hello(const HelloRecord& h) {
    wire::Hello m;
    m.set_version(h.version);
    m.set_channel(h.channel);
    m.set_data_channels(h.channels);
    m.set_token(h.token.data(), h.token.size());
    return wire::bytes_of(m);
}

transport::Result<HelloRecord> decode_hello(View b) {
    wire::Hello m;  // the version first: another version's hello may hold what this one doesn't know
    if (!wire::read(m, b)) return refuse("malformed hello");
    if (m.version() != kStreamVersion)
        return refuse("stream version " + std::to_string(m.version()) + ", this host speaks " +
                      std::to_string(kStreamVersion));
    HelloRecord h{m.version(), m.channel(), m.data_channels(), {}};
    if (!wire::skippable(m.unknown_fields()) || m.token().size() != h.token.size())
        return refuse("malformed hello");
    if (h.channels == 0 || h.channels > kMaxChannels || h.channel > h.channels)
        return refuse("channel number out of range");
    std::memcpy(h.token.data(), m.token().data(), h.token.size());
    return h;
}

Bytes encode_round(std::uint32_t round) {
    wire::Round m;
    m.set_round(round);
    return wire::bytes_of(m);
}

transport::Result<std::uint32_t> decode_round(View b) {
    auto m = wire::parse<wire::Round>(b, "round mark");
    if (!m) return tl::unexpected(m.error());
    return m->round();
}

Bytes encode_device(const DeviceState& d) {
    wire::Device m;
    m.set_name(d.name);
    m.set_state(d.state.data(), d.state.size());
    return wire::bytes_of(m);
}

transport::Result<DeviceState> decode_device(View b) {
    auto m = wire::parse<wire::Device>(b, "device state");
    if (!m) return tl::unexpected(m.error());
    if (m->name().empty() || m->name().size() > 128 || m->state().size() > kMaxDeviceState)
        return refuse("device state of an impossible size");
    return DeviceState{m->name(), {m->state().begin(), m->state().end()}};
}

Bytes encode_late(const LateFrame& f) {
    wire::LateFrame m;
    m.set_device(f.device);
    m.set_frame(f.frame.data(), f.frame.size());
    return wire::bytes_of(m);
}

transport::Result<LateFrame> decode_late(View b) {
    auto m = wire::parse<wire::LateFrame>(b, "late frame");
    if (!m) return tl::unexpected(m.error());
    if (m->device().empty() || m->device().size() > 128 || m->frame().empty() ||
        m->frame().size() > kMaxLateFrame)
        return refuse("late frame of an impossible size");
    return LateFrame{m->device(), {m->frame().begin(), m->frame().end()}};
}

Bytes encode_complete(const CompleteRecord& r) {
    wire::StateComplete m;
    m.set_final_round(r.final_round);
    m.set_devices(r.devices);
    return wire::bytes_of(m);
}

transport::Result<CompleteRecord> decode_complete(View b) {
    auto m = wire::parse<wire::StateComplete>(b, "end of state");
    if (!m) return tl::unexpected(m.error());
    return CompleteRecord{m->final_round(), m->devices()};
}

Bytes encode_abort(const AbortRecord& a) {
    wire::Abort m;
    m.set_what(a.what.substr(0, kMaxText));
    m.set_remedy(a.remedy.substr(0, kMaxText));
    return wire::bytes_of(m);
}

AbortRecord decode_abort(View b) {
    wire::Abort m;
    if (!wire::read(m, b)) return {"it gave no reason", ""};
    return {printable(m.what()), printable(m.remedy())};
}

std::string to_hex(View bytes) {
    std::string s;
    for (const std::uint8_t b : bytes) {
        s += "0123456789abcdef"[b >> 4];
        s += "0123456789abcdef"[b & 15];
    }
    return s;
}

bool from_hex(const std::string& s, std::span<std::uint8_t> to) {
    if (s.size() != 2 * to.size()) return false;
    for (std::size_t i = 0; i < s.size(); ++i) {
        const char c = s[i];
        const int d = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
        if (d < 0) return false;
        to[i / 2] = static_cast<std::uint8_t>(i % 2 == 0 ? d << 4 : to[i / 2] | d);
    }
    return true;
}

bool from_hex(const std::string& s, Bytes& any) {
    any.resize(s.size() / 2);
    return s.size() % 2 == 0 && from_hex(s, std::span<std::uint8_t>(any));
}

bool same_token(const Token& a, const Token& b) {
    return ::CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

Token random_token() {
    Token t;
    for (std::size_t have = 0; have < t.size();) {
        const ssize_t n = ::getrandom(t.data() + have, t.size() - have, 0);
        if (n < 0 && errno != EINTR) std::abort();  // a token that can be guessed is worse than no migration
        if (n > 0) have += static_cast<std::size_t>(n);
    }
    return t;
}

}  // namespace proa::migrate
