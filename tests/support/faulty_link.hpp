// A plaintext link that knows frames: passes them on both ways, counts them, and does one bad thing to one of them.
#pragma once
#include <atomic>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "tests/support/socket.hpp"
#include "transport/frame.hpp"

namespace proa::test {

enum class Fault { None, Cut, Corrupt, Repeat };

class FaultyLink {
  public:
    // Frames are numbered as they pass, over all connections and both ways. `at`: which one suffers `fault`.
    FaultyLink(std::uint16_t to_port, Fault fault, int at)
        : to_port_(to_port), fault_(fault), at_(at), acceptor_([this] { accept(); }) {}
    ~FaultyLink() {
        cut();
        listener_.end();
        acceptor_.join();
        for (auto& t : pumps_) t.join();
    }
    std::uint16_t port() const { return listener_.port(); }
    int frames() const { return frames_; }
    // Type of the frame that suffered, 0 if none came so far.
    std::uint16_t victim() const { return victim_; }
    void cut() {
        std::lock_guard lock(mutex_);
        cut_ = true;
        for (auto& s : sockets_) s->end();
    }

  private:
    void accept() {
        while (auto in = listener_.accept()) {
            auto out = Socket::connect(to_port_);
            std::lock_guard lock(mutex_);
            if (cut_ || !out) {
                in->end();
                continue;
            }
            sockets_.push_back(in);
            sockets_.push_back(out);
            pumps_.emplace_back([this, in, out] { pump(*in, *out); });
            pumps_.emplace_back([this, in, out] { pump(*out, *in); });
        }
    }
    void pump(Socket& from, Socket& to) {
        transport::FrameHeader h;
        std::vector<std::uint8_t> frame;
        while (from.read(&h, sizeof(h))) {
            frame.resize(sizeof(h) + h.length);
            std::memcpy(frame.data(), &h, sizeof(h));
            if (!from.read(frame.data() + sizeof(h), h.length)) break;
            const int number = frames_++;
            if (number == at_ && fault_ != Fault::None) {
                victim_ = h.type;
                if (fault_ == Fault::Cut) return cut();
                if (fault_ == Fault::Corrupt) frame[frame.size() / 2] ^= 0x10;
                if (fault_ == Fault::Repeat) (void)to.write(frame.data(), frame.size());
            }
            if (!to.write(frame.data(), frame.size())) break;
        }
        to.end();
        from.end();
    }

    std::uint16_t to_port_;
    Fault fault_;
    int at_;
    std::atomic<int> frames_{0};
    std::atomic<std::uint16_t> victim_{0};
    std::mutex mutex_;
    bool cut_ = false;
    std::vector<std::shared_ptr<Socket>> sockets_;
    std::vector<std::thread> pumps_;
    ListeningSocket listener_;
    std::thread acceptor_;
};

}  // namespace proa::test
