// Records of the migration stream: frame types and their payloads (docs/STREAM.md is the reference). Everything a peer
// sends is refused unless it has exactly the shape written here.
#pragma once
#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "transport/channel.hpp"
#include "vmm/machine.hpp"

namespace proa::migrate {

inline constexpr std::uint32_t kStreamVersion = 1;
using Token = std::array<std::uint8_t, 32>;

enum class Record : std::uint16_t {
    Hello = transport::kMandatory | 1,     // source, first on each channel: HelloRecord
    Welcome = transport::kMandatory | 2,   // destination's answer: empty
    Pages = transport::kMandatory | 3,     // data channels: page_batch.hpp
    RoundEnd = transport::kMandatory | 4,  // data channels: u32 round
    RoundAck = transport::kMandatory | 5,  // control: u32 round, every channel's RoundEnd came and is applied
    Machine = transport::kMandatory | 6,   // control: encode_machine()
    Device = transport::kMandatory | 7,    // control: u32 name length, name, state
    StateComplete = transport::kMandatory | 8,  // control: u32 final round, u32 device count
    Ready = transport::kMandatory | 9,
    Commit = transport::kMandatory | 10,
    Started = transport::kMandatory | 11,
    Abort = transport::kMandatory | 12,        // either way: reason as text, up to 1024 bytes
    PeerRequest = transport::kMandatory | 32,  // between daemons: a JSON object
    PeerAnswer = transport::kMandatory | 33,
};

struct HelloRecord {
    std::uint32_t version = kStreamVersion;
    std::uint32_t channel = 0;   // 0: control; 1..: data
    std::uint32_t channels = 0;  // data channels in all
    std::uint32_t reserved = 0;
    Token token{};
};
static_assert(sizeof(HelloRecord) == 48);

inline constexpr std::uint32_t kMaxChannels = 8;
inline constexpr std::size_t kMaxDevices = 64;

transport::Result<void> send(transport::Channel& c, Record r, std::span<const std::uint8_t> payload = {});
template <class T>
transport::Result<void> send_value(transport::Channel& c, Record r, const T& t) {
    return send(c, r, {reinterpret_cast<const std::uint8_t*>(&t), sizeof(t)});
}
// The next frame, which must be of type `want`. An Abort becomes an error that carries its reason.
transport::Result<std::vector<std::uint8_t>> expect(transport::Channel& c, Record want);
transport::Error unexpected_record(const transport::Frame& f);

std::vector<std::uint8_t> encode_machine(const vmm::MachineState& s);
transport::Result<vmm::MachineState> decode_machine(std::span<const std::uint8_t> b);

struct DeviceState {
    std::string name;
    std::vector<std::uint8_t> state;
};
std::vector<std::uint8_t> encode_device(const DeviceState& d);
transport::Result<DeviceState> decode_device(std::span<const std::uint8_t> b);

std::string to_hex(const Token& t);
bool from_hex(const std::string& s, Token& t);
bool same_token(const Token& a, const Token& b);  // in constant time
Token random_token();

}  // namespace proa::migrate
