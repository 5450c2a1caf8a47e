#include "migrate/peer_call.hpp"

#include "vmm/json_lines.hpp"

namespace proa::migrate {

transport::ChannelOptions channel_options(const Json& a) {
    transport::ChannelOptions o;
    if (!a.value("plaintext", false)) o.tls = transport::Credentials::in(a.value("keys", "/etc/proa/keys"));
    return o;
}

std::optional<Json> parse_peer_json(View b) {
    if (b.size() > kMaxPeerJson) return {};
    const std::string text(b.begin(), b.end());
    if (vmm::nests_too_deep(text)) return {};
    Json j = Json::parse(text, nullptr, false);
    if (!j.is_object()) return {};
    return j;
}

transport::Result<Json> ask_peer(const std::string& host, std::uint16_t port,
                                 const transport::ChannelOptions& o, const Json& request) {
    auto c = transport::dial(host, port, o);
    if (!c) return tl::unexpected(c.error());
    const std::string text = request.dump();
    if (auto r =
            send(**c, Record::PeerRequest, {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()});
        !r)
        return tl::unexpected(r.error());
    auto b = expect(**c, Record::PeerAnswer);
    if (!b) return tl::unexpected(b.error());
    auto j = parse_peer_json(*b);
    if (!j)
        return transport::fail(transport::ErrorKind::Protocol,
                               host + " answered with something that isn't a JSON object of a sane size");
    return std::move(*j);
}

std::optional<SourceEvent> ask_outcome(const std::string& host, std::uint16_t port,
                                       const transport::ChannelOptions& o, const Token& token) {
    const auto j = ask_peer(host, port, o, {{"cmd", "outcome"}, {"session", to_hex(token)}});
    if (!j) return {};
    const auto said = j->find("outcome");
    if (said == j->end() || !said->is_string()) return {};
    if (*said == "started") return SourceEvent::AnswerStarted;
    if (*said == "never") return SourceEvent::AnswerNever;
    return {};
}

}  // namespace proa::migrate
