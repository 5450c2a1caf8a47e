// A connection to a peer host that carries frames: TCP with mutual TLS 1.3, or plain TCP where the caller says so
// explicitly. Blocking, for use by one sending and one receiving thread at a time; cancel() may come from any thread
// and makes both return. Deadlines bound every wait, so a dead peer or a cut link ends in an error.
#pragma once
#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "transport/frame.hpp"

namespace proa::transport {

struct Credentials {  // PEM files, as `proa keys init` writes them
    std::string ca, certificate, key;
    static Credentials in(const std::string& directory);  // ca.pem, host.pem, host.key
    bool operator==(const Credentials&) const = default;
};

struct ChannelOptions {
    std::optional<Credentials> tls;  // none: plaintext
    std::chrono::milliseconds connect_timeout{5000};
    std::chrono::milliseconds io_timeout{10000};  // no progress for so long: the peer is gone
};

// A byte stream under a channel; implemented over TCP, TLS and, in tests, memory.
class ByteStream {
  public:
    virtual ~ByteStream() = default;
    virtual Result<void> read(std::span<std::uint8_t> to) = 0;  // all of it
    virtual Result<void> wait() = 0;  // until there is something to read, or the connection has ended
    virtual Result<void> write(std::span<const std::uint8_t> a, std::span<const std::uint8_t> b) = 0;
    virtual void cancel() = 0;
};

// One of several frames that leave together.
struct OutgoingFrame {
    std::uint16_t type = 0;
    std::span<const std::uint8_t> payload;
};

// How long to wait for a frame to begin. Idle: as long as the connection lives (TCP keep-alive finds a dead peer);
// once its first byte is there the deadline counts again.
enum class Patience : std::uint8_t { Bounded, Idle };

class Channel {
  public:
    explicit Channel(std::unique_ptr<ByteStream> s, std::string peer)
        : stream_(std::move(s)), peer_(std::move(peer)) {}

    Result<void> send(std::uint16_t type, std::span<const std::uint8_t> payload);
    // In one write: what must arrive together shouldn't cross the link in one packet for each.
    Result<void> send(std::span<const OutgoingFrame> frames);
    Result<void> send_compressed(std::uint16_t type, std::span<const std::uint8_t> wire,
                                 std::uint32_t raw_length);
    // Into `f`, whose memory is used again: for whoever receives many large ones. After an error it holds nothing of use.
    Result<void> receive(Frame& f, Patience patience = Patience::Bounded);
    Result<Frame> receive(Patience patience = Patience::Bounded);
    void cancel() { stream_->cancel(); }

    const std::string& peer() const { return peer_; }
    std::uint64_t bytes_sent() const { return sent_; }
    std::uint64_t bytes_received() const { return received_; }

  private:
    friend class Gathering;
    static constexpr std::size_t kGathered = 32 << 10;
    Result<void> put(const FrameHeader& h, std::span<const std::uint8_t> payload);
    std::unique_ptr<ByteStream> stream_;
    bool gathering_ = false;
    std::vector<std::uint8_t> gathered_;
    std::vector<std::uint8_t> compressed_;  // as the last compressed frame came
    std::string peer_;
    std::uint64_t next_send_ = 0, next_receive_ = 0;
    std::atomic<std::uint64_t> sent_{0}, received_{0};  // read by whoever reports progress
};

// While it lives the frames that a thread sends wait for each other: they leave when they make kGathered bytes, with a large
// payload, and at its end. flush() is that end with an answer.
class Gathering {
  public:
    explicit Gathering(Channel& c) : channel_(c) { c.gathering_ = true; }
    Gathering(const Gathering&) = delete;
    Gathering& operator=(const Gathering&) = delete;
    ~Gathering() { (void)flush(); }
    Result<void> flush();

  private:
    Channel& channel_;
};

// `host` is a name or address, IPv4 or IPv6. With TLS the peer's certificate must name it.
Result<std::unique_ptr<Channel>> dial(const std::string& host, std::uint16_t port,
                                      const ChannelOptions& options);

// An empty address means all of this host's, IPv4 and IPv6. Accepts on a thread of its own; each connection is handed over after its TLS handshake, on a thread of its own. More
// than kMostConnections at once are closed unread: an unknown peer can't make this host run out of threads.
inline constexpr unsigned kMostConnections = 64;
class Listener {
  public:
    using Handler = std::function<void(std::unique_ptr<Channel>)>;
    using Refused = std::function<void(const Error&)>;
    static Result<std::unique_ptr<Listener>> listen(const std::string& address, std::uint16_t port,
                                                    const ChannelOptions& options, Handler handler,
                                                    Refused refused = {});
    ~Listener();  // stops accepting and waits for handlers that are still running
    std::uint16_t port() const;

  private:
    struct Impl;
    explicit Listener(std::unique_ptr<Impl> i);
    std::unique_ptr<Impl> impl_;
};

}  // namespace proa::transport
