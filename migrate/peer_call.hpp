// Questions between host daemons: one JSON object each way, over a channel of transport/.
#pragma once
#include <nlohmann/json.hpp>
#include <optional>

#include "migrate/stream.hpp"
#include "migrate/switchover.hpp"

namespace proa::migrate {

using Json = nlohmann::json;

transport::ChannelOptions channel_options(const Json& args);  // "keys" (directory) or "plaintext": true

// What a peer sent. Not an object, too long or nested too deep: nothing (nlohmann::json recurses as deep as its input).
inline constexpr std::size_t kMaxPeerJson = 1u << 20;
std::optional<Json> parse_peer_json(View b);

// One question to the daemon on `host`; its answer.
transport::Result<Json> ask_peer(const std::string& host, std::uint16_t port,
                                 const transport::ChannelOptions& o, const Json& request);

// Asks whether session `token` started there. Nothing if the host can't be reached or can't tell.
std::optional<SourceEvent> ask_outcome(const std::string& host, std::uint16_t port,
                                       const transport::ChannelOptions& o, const Token& token);

}  // namespace proa::migrate
