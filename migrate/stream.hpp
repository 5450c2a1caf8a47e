// Records of the migration stream: frame types and their payloads (docs/STREAM.md is the reference, stream.proto the
// schema). Everything a peer sends is refused unless it has the shape written there.
#pragma once
#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "transport/channel.hpp"
#include "vmm/machine.hpp"

namespace proa::migrate {

inline constexpr std::uint32_t kStreamVersion = 2;
using Token = std::array<std::uint8_t, 32>;

enum class Record : std::uint16_t {
    Hello = transport::kMandatory | 1,          // source, first on each channel: HelloRecord
    Welcome = transport::kMandatory | 2,        // destination's answer: empty
    Pages = transport::kMandatory | 3,          // data channels: page_batch.hpp
    RoundEnd = transport::kMandatory | 4,       // data channels: round
    RoundAck = transport::kMandatory | 5,       // control: every channel's RoundEnd came and is applied
    Machine = transport::kMandatory | 6,        // control: encode_machine()
    Device = transport::kMandatory | 7,         // control: DeviceState
    StateComplete = transport::kMandatory | 8,  // control: CompleteRecord
    Ready = transport::kMandatory | 9,
    Commit = transport::kMandatory | 10,
    Started = transport::kMandatory | 11,
    Abort = transport::kMandatory | 12,  // either way: AbortRecord
    LateFrame = 13,                      // control, from Ready on: what still came to the source; optional
    PeerRequest = transport::kMandatory | 32,  // between daemons: a JSON object
    PeerAnswer = transport::kMandatory | 33,
};

struct HelloRecord {
    std::uint32_t version = kStreamVersion;
    std::uint32_t channel = 0;   // 0: control; 1..: data
    std::uint32_t channels = 0;  // data channels in all
    Token token{};
};
struct DeviceState {
    std::string name;
    std::vector<std::uint8_t> state;
};
struct LateFrame {
    std::string device;
    std::vector<std::uint8_t> frame;
};
struct CompleteRecord {
    std::uint32_t final_round = 0, devices = 0;
};
struct AbortRecord {
    std::string what, remedy;
};

inline constexpr std::uint32_t kMaxChannels = 8;
inline constexpr std::size_t kMaxDevices = 64;
inline constexpr std::size_t kMaxDeviceState = 1 << 20;
inline constexpr std::size_t kMaxText = 1024;
inline constexpr std::size_t kMaxLateFrames = 256, kMaxLateFrame = 128u << 10, kMaxLateBytes = 4u << 20;
inline constexpr unsigned kMaxSkipped = 64;  // unknown optional records in a row

using Bytes = std::vector<std::uint8_t>;
using View = std::span<const std::uint8_t>;

Bytes encode_hello(const HelloRecord& h);
transport::Result<HelloRecord> decode_hello(View b);
Bytes encode_round(std::uint32_t round);
transport::Result<std::uint32_t> decode_round(View b);
Bytes encode_machine(const vmm::MachineState& s);
transport::Result<vmm::MachineState> decode_machine(View b);
Bytes encode_policy(const abi::CpuPolicy& p);
transport::Result<abi::CpuPolicy> decode_policy(View b);
Bytes encode_device(const DeviceState& d);
transport::Result<DeviceState> decode_device(View b);
Bytes encode_late(const LateFrame& f);
transport::Result<LateFrame> decode_late(View b);
Bytes encode_complete(const CompleteRecord& r);
transport::Result<CompleteRecord> decode_complete(View b);
Bytes encode_abort(const AbortRecord& a);
AbortRecord decode_abort(View b);  // whatever it holds: the peer has given up

transport::Result<void> send(transport::Channel& c, Record r, View payload = {});
// In one write, in this order.
using Records = std::vector<std::pair<Record, Bytes>>;
transport::Result<void> send(transport::Channel& c, const Records& records);
// The next record. Unknown optional types are skipped, unknown mandatory ones refused. Into `f`: see Channel::receive().
transport::Result<void> receive(transport::Channel& c, transport::Frame& f,
                                transport::Patience p = transport::Patience::Bounded);
transport::Result<transport::Frame> receive(transport::Channel& c,
                                            transport::Patience p = transport::Patience::Bounded);
// The next record, which must be of type `want`. An Abort becomes an error that carries its reason.
transport::Result<Bytes> expect(transport::Channel& c, Record want,
                                transport::Patience p = transport::Patience::Bounded);
inline bool is(const transport::Frame& f, Record r) {
    return f.type == static_cast<std::uint16_t>(r);
}
transport::Error unexpected_record(const transport::Frame& f);

std::string to_hex(View bytes);
bool from_hex(const std::string& s, std::span<std::uint8_t> exactly);
bool from_hex(const std::string& s, Bytes& any);
bool same_token(const Token& a, const Token& b);  // in constant time
Token random_token();

}  // namespace proa::migrate
