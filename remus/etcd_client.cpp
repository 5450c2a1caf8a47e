#include "remus/etcd_client.hpp"

#include <openssl/evp.h>

#include <algorithm>
#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <charconv>

#include "vmm/json_lines.hpp"

namespace proa::remus {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using Clock = std::chrono::steady_clock;

constexpr char kScheme[] = "etcd://";
constexpr std::uint32_t kLongestHeader = 8 << 10;
constexpr int kNotFound = 5;  // gRPC's status code
constexpr char kSpelling[] = "write it as etcd://HOST:PORT[,HOST:PORT...], or none";

std::string remedy_for(const std::string& name) {
    return "is etcd running at " + name + ", and can this host reach it?";
}

// "host:port" or "[v6]:port".
bool split(const std::string& text, std::string& host, std::string& port) {
    const auto colon = text.rfind(':');
    if (colon == std::string::npos) return false;
    host = text.substr(0, colon);
    port = text.substr(colon + 1);
    if (host.size() > 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
    unsigned n = 0;
    const auto [end, e] = std::from_chars(port.data(), port.data() + port.size(), n);
    return !host.empty() && host.find('/') == std::string::npos && e == std::errc{} &&
           end == port.data() + port.size() && n > 0 && n < 65536;
}

// Somebody else's words, fit for a log.
std::string printable(std::string text) {
    text.resize(std::min<std::size_t>(text.size(), 200));
    for (auto& c : text)
        if (c < ' ' || c > '~') c = ' ';
    return text;
}

}  // namespace

vmm::Result<std::unique_ptr<EtcdEndpoints>> EtcdEndpoints::parse(const std::string& spec) {
    if (spec.rfind(kScheme, 0) != 0) return vmm::fail("witness '" + spec + "' is not understood", kSpelling);
    auto result = std::make_unique<EtcdEndpoints>();
    asio::io_context io;
    asio::ip::tcp::resolver resolver(io);
    for (std::size_t at = sizeof(kScheme) - 1; at <= spec.size();) {
        const auto comma = std::min(spec.find(',', at), spec.size());
        const std::string one = spec.substr(at, comma - at);
        at = comma + 1;
        std::string host, port;
        if (!split(one, host, port))
            return vmm::fail("witness '" + spec + "': '" + one + "' is not HOST:PORT", kSpelling);
        beast::error_code e;
        const auto found = resolver.resolve(host, port, asio::ip::resolver_base::numeric_service, e);
        if (e)
            return vmm::fail("witness '" + spec + "': cannot resolve " + host + ": " + e.message(),
                             "use addresses, or put the name into /etc/hosts");
        for (const auto& r : found) result->all_.push_back({r.endpoint(), one});
    }
    return result;
}

struct EtcdCall::Connection {
    asio::io_context io{1};
    beast::tcp_stream stream{io};
    beast::flat_buffer buffer{kLongestHeader + kLongestAnswer};
    const EtcdEndpoints::Endpoint* to = nullptr;  // null: not connected

    // Starts an operation, and returns when it is done or `until` has come.
    template <class F>
    beast::error_code finish(Clock::time_point until, F&& start) {
        beast::error_code result = asio::error::operation_aborted;
        stream.expires_at(until);
        start([&](beast::error_code e, auto&&...) { result = e; });
        io.restart();
        io.run();
        return result;
    }
    void drop() {
        beast::error_code ignored;
        stream.socket().close(ignored);
        buffer.clear();
        to = nullptr;
    }
};

EtcdCall::EtcdCall(EtcdEndpoints& endpoints, std::chrono::milliseconds timeout)
    : endpoints_(endpoints), deadline_(Clock::now() + timeout) {}
EtcdCall::~EtcdCall() = default;

vmm::Result<EtcdCall::Answer> EtcdCall::post(const std::string& path, const Json& request) {
    vmm::Error last;
    const std::size_t first = endpoints_.preferred(), count = endpoints_.count();
    for (std::size_t i = 0; i < count; ++i) {
        const auto now = Clock::now();
        // What is left, shared among those not asked yet: one that swallows packets doesn't use up the others' time.
        const auto until =
            now + std::max(Clock::duration::zero(), deadline_ - now) / static_cast<long>(count - i);
        const auto& endpoint = endpoints_.at(first + i);
        try {
            auto answer = ask(endpoint, until, path, request.dump());
            if (answer) {
                endpoints_.prefer(first + i);
                return answer;
            }
            last = answer.error();
        } catch (const std::exception& e) {  // no descriptor for the io_context, no memory
            last = {"asking etcd at " + endpoint.name + ": " + e.what(), remedy_for(endpoint.name)};
        }
        connection_.reset();
    }
    return tl::unexpected(last);
}

vmm::Result<EtcdCall::Answer> EtcdCall::ask(const EtcdEndpoints::Endpoint& e, Clock::time_point until,
                                            const std::string& path, const std::string& body) {
    const auto failed = [&](const char* doing, const beast::error_code& code) {
        const bool late = code == beast::error::timeout;
        return vmm::fail(
            std::string(doing) + " etcd at " + e.name + ": " + (late ? "no answer in time" : code.message()),
            remedy_for(e.name));
    };
    const auto garbled = [&](const std::string& what) {
        return vmm::fail("etcd at " + e.name + " answered " + path + " with " + what,
                         "is it really etcd (3.4 or later) that listens there?");
    };
    if (!connection_) connection_ = std::make_unique<Connection>();
    Connection& c = *connection_;
    if (c.to != &e) {
        c.drop();
        if (auto code = c.finish(until, [&](auto done) { c.stream.async_connect(e.address, done); }); code)
            return failed("connecting to", code);
        beast::error_code ignored;
        c.stream.socket().set_option(asio::ip::tcp::no_delay(true), ignored);
        c.to = &e;
    }
    http::request<http::string_body> request(http::verb::post, path, 11);
    request.set(http::field::host, e.name);
    request.set(http::field::content_type, "application/json");
    request.body() = body;
    request.prepare_payload();
    if (auto code = c.finish(until, [&](auto done) { http::async_write(c.stream, request, done); }); code)
        return failed("writing to", code);

    http::response_parser<http::string_body> parser;
    parser.header_limit(kLongestHeader);
    parser.body_limit(kLongestAnswer);
    const auto unread = [&](const beast::error_code& code) -> tl::unexpected<vmm::Error> {
        const bool cut_off = code == http::error::end_of_stream || code == http::error::partial_message;
        if (cut_off || code.category() != make_error_code(http::error::bad_version).category())
            return failed("reading from", code);
        return garbled("what is not HTTP, or too long: " + code.message());
    };
    // In two steps: Beast would take memory for as many bytes as the header promises before it looks at its limit.
    if (auto code =
            c.finish(until, [&](auto done) { http::async_read_header(c.stream, c.buffer, parser, done); });
        code)
        return unread(code);
    if (parser.content_length().value_or(0) > kLongestAnswer) return garbled("too long a body");
    if (auto code = c.finish(until, [&](auto done) { http::async_read(c.stream, c.buffer, parser, done); });
        code)
        return unread(code);
    const auto& response = parser.get();
    if (!response.keep_alive()) c.drop();
    if (vmm::nests_too_deep(response.body())) return garbled("JSON that nests too deep");
    Answer answer;
    answer.body = Json::parse(response.body(), nullptr, false);
    const std::string status = "HTTP status " + std::to_string(response.result_int());
    if (!answer.body.is_object()) return garbled(status + " and what is not a JSON object");
    if (response.result() == http::status::ok && !answer.body.contains("error")) return answer;

    // {"error":"etcdserver: requested lease not found","message":"...","code":5}; of a stream, an object in "error".
    const Json* said = &answer.body;
    if (const auto inner = said->find("error"); inner != said->end() && inner->is_object()) said = &*inner;
    if (const auto code = said->find("code"); code != said->end() && *code == kNotFound) {
        answer.not_found = true;
        return answer;
    }
    const auto text = said->find("message");
    return vmm::fail(
        "etcd at " + e.name + " refused " + path + ": " +
            (text != said->end() && text->is_string() ? printable(text->get<std::string>()) : status),
        "has its cluster a leader (etcdctl endpoint status), and may this host write there?");
}

std::string to_base64(const std::string& bytes) {
    std::string text(4 * ((bytes.size() + 2) / 3) + 1, '\0');
    const int n =
        EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data()),
                        reinterpret_cast<const unsigned char*>(bytes.data()), static_cast<int>(bytes.size()));
    text.resize(static_cast<std::size_t>(n));
    return text;
}

std::optional<std::string> from_base64(const std::string& text) {
    if (text.size() % 4 != 0) return {};
    std::string bytes(text.size() / 4 * 3 + 1, '\0');
    const int n =
        EVP_DecodeBlock(reinterpret_cast<unsigned char*>(bytes.data()),
                        reinterpret_cast<const unsigned char*>(text.data()), static_cast<int>(text.size()));
    if (n < 0) return {};
    bytes.resize(static_cast<std::size_t>(n));  // which counts the padding
    for (std::size_t i = text.size();
         i > text.size() - std::min<std::size_t>(2, text.size()) && text[i - 1] == '='; --i)
        bytes.pop_back();
    return bytes;
}

std::optional<std::uint64_t> number_at(const Json& object, const char* name) {
    const auto i = object.find(name);
    if (i == object.end()) return 0;
    if (i->is_number_unsigned()) return i->get<std::uint64_t>();
    if (!i->is_string()) return {};
    const auto& text = i->get_ref<const std::string&>();
    std::uint64_t n = 0;
    const auto [end, e] = std::from_chars(text.data(), text.data() + text.size(), n);
    if (text.empty() || e != std::errc{} || end != text.data() + text.size()) return {};
    return n;
}

}  // namespace proa::remus
