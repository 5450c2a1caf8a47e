// etcd's v3 JSON gateway over HTTP: one request, one JSON object. What comes back is from outside: bounded, checked, and an
// error if it isn't what it should be; nothing here throws.
#pragma once
#include <atomic>
#include <boost/asio/ip/tcp.hpp>
#include <chrono>
#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "vmm/error.hpp"

namespace proa::remus {

using Json = nlohmann::json;

inline constexpr std::size_t kLongestAnswer = 64 << 10;  // bytes of an HTTP body; ours have a few hundred

// Where etcd listens: several members of one cluster, any of which will do.
class EtcdEndpoints {
  public:
    struct Endpoint {
        boost::asio::ip::tcp::endpoint address;
        std::string name;  // as the operator wrote it
    };
    // "etcd://host:port[,host:port...]". Names are resolved here, once: failing over must not wait for a name server.
    static vmm::Result<std::unique_ptr<EtcdEndpoints>> parse(const std::string& spec);

    std::size_t count() const { return all_.size(); }
    const Endpoint& at(std::size_t i) const { return all_[i % all_.size()]; }
    // The one that answered last: asked first.
    std::size_t preferred() const { return preferred_; }
    void prefer(std::size_t i) { preferred_ = i % all_.size(); }

  private:
    std::vector<Endpoint> all_;
    std::atomic<std::size_t> preferred_{0};
};

// One caller's conversation: some requests, all of them together within `timeout`. Not for more than one thread.
class EtcdCall {
  public:
    EtcdCall(EtcdEndpoints& endpoints, std::chrono::milliseconds timeout);
    ~EtcdCall();

    // The answer to a POST. An endpoint that gives none is left for the next, so a request may take effect twice.
    struct Answer {
        Json body;               // an object
        bool not_found = false;  // etcd knows no such lease: `body` says nothing more
    };
    vmm::Result<Answer> post(const std::string& path, const Json& request);

  private:
    struct Connection;
    vmm::Result<Answer> ask(const EtcdEndpoints::Endpoint& e, std::chrono::steady_clock::time_point until,
                            const std::string& path, const std::string& body);
    EtcdEndpoints& endpoints_;
    const std::chrono::steady_clock::time_point deadline_;
    std::unique_ptr<Connection> connection_;
};

std::string to_base64(const std::string& bytes);
std::optional<std::string> from_base64(const std::string& text);
// A 64-bit integer as proto3's JSON writes it: a string (or a number); 0 if it isn't there. Nothing: it is something else.
std::optional<std::uint64_t> number_at(const Json& object, const char* name);

}  // namespace proa::remus
