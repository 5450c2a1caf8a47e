#include "migrate/stream.hpp"

#include <sys/random.h>

#include <cstring>

#include "vmm/blob.hpp"

namespace proa::migrate {
namespace {

tl::unexpected<transport::Error> refuse(const std::string& why) {
    return transport::fail(transport::ErrorKind::Protocol, "peer's stream refused: " + why);
}

}  // namespace

transport::Result<void> send(transport::Channel& c, Record r, std::span<const std::uint8_t> payload) {
    return c.send(static_cast<std::uint16_t>(r), payload);
}

transport::Error unexpected_record(const transport::Frame& f) {
    if (f.type == static_cast<std::uint16_t>(Record::Abort))
        return {transport::ErrorKind::Refused,
                "the peer gave up: " +
                    std::string(f.payload.begin(),
                                f.payload.begin() +
                                    static_cast<std::ptrdiff_t>(std::min<std::size_t>(f.payload.size(), 1024))),
                ""};
    return {transport::ErrorKind::Protocol,
            "peer's stream refused: record " + std::to_string(f.type & 0x7fff) + " where it doesn't belong",
            ""};
}

transport::Result<std::vector<std::uint8_t>> expect(transport::Channel& c, Record want) {
    auto f = c.receive();
    if (!f) return tl::unexpected(f.error());
    if (f->type != static_cast<std::uint16_t>(want)) return tl::unexpected(unexpected_record(*f));
    return std::move(f->payload);
}

std::vector<std::uint8_t> encode_machine(const vmm::MachineState& s) {
    vmm::BlobWriter w;
    w.put(kStreamVersion);
    w.put(static_cast<std::uint32_t>(s.vcpus.size()));
    for (const auto& v : s.vcpus) w.put(v);
    w.put(s.gic);
    w.put(s.time);
    w.put(s.latches);
    w.put(s.policy);
    return w.take();
}

transport::Result<vmm::MachineState> decode_machine(std::span<const std::uint8_t> b) {
    vmm::BlobReader r(b);
    vmm::MachineState s;
    if (r.get<std::uint32_t>() != kStreamVersion) return refuse("machine state of another version");
    const auto n = r.get<std::uint32_t>();
    if (n == 0 || n > abi::kMaxVcpus) return refuse("vCPU count out of range");
    for (std::uint32_t i = 0; i < n; ++i) s.vcpus.push_back(r.get<abi::VcpuState>());
    s.gic = r.get<abi::GicState>();
    s.time = r.get<abi::TimeState>();
    s.latches = r.get<abi::LatchState>();
    s.policy = r.get<abi::CpuPolicy>();
    if (!r.complete()) return refuse("machine state of a wrong length");
    return s;
}

std::vector<std::uint8_t> encode_device(const DeviceState& d) {
    vmm::BlobWriter w;
    w.put_bytes({reinterpret_cast<const std::uint8_t*>(d.name.data()), d.name.size()});
    w.put_bytes(d.state);
    return w.take();
}

transport::Result<DeviceState> decode_device(std::span<const std::uint8_t> b) {
    vmm::BlobReader r(b);
    const auto name = r.get_bytes(128);
    DeviceState d{{name.begin(), name.end()}, r.get_bytes(1 << 20)};
    if (!r.complete()) return refuse("malformed device state");
    return d;
}

std::string to_hex(const Token& t) {
    std::string s;
    for (const std::uint8_t b : t) {
        s += "0123456789abcdef"[b >> 4];
        s += "0123456789abcdef"[b & 15];
    }
    return s;
}

bool from_hex(const std::string& s, Token& t) {
    if (s.size() != 2 * t.size()) return false;
    for (std::size_t i = 0; i < s.size(); ++i) {
        const char c = s[i];
        const int d = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
        if (d < 0) return false;
        t[i / 2] = static_cast<std::uint8_t>(i % 2 == 0 ? d << 4 : t[i / 2] | d);
    }
    return true;
}

bool same_token(const Token& a, const Token& b) {
    unsigned diff = 0;
    for (std::size_t i = 0; i < a.size(); ++i) diff |= a[i] ^ b[i];
    return diff == 0;
}

Token random_token() {
    Token t;
    (void)!::getrandom(t.data(), t.size(), 0);
    return t;
}

}  // namespace proa::migrate
