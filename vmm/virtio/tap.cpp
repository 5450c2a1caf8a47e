#include "vmm/virtio/tap.hpp"

#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>

// After net/if.h: both define the same flags.
#include <linux/sockios.h>

namespace proa::vmm {
namespace {

constexpr unsigned kCsum = 0, kGuestCsum = 1, kGuestTso4 = 7, kGuestTso6 = 8, kHostTso4 = 11, kHostTso6 = 12;
constexpr int kVnetHeader = 12;

// The tap is the guest's wire, not one of the host's interfaces: with an IPv6 address of its own, the host would send its
// neighbour discovery to the guest, and a guest that arrives would have to look at that first. A kernel without IPv6 has no
// such file.
void keep_host_ipv6_off(const std::string& tap) {
    std::ofstream("/proc/sys/net/ipv6/conf/" + tap + "/disable_ipv6") << 1;
}

Result<void> attach(const std::string& tap, const std::string& bridge) {
    const int s = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    ifreq r{};
    std::strncpy(r.ifr_name, tap.c_str(), IFNAMSIZ - 1);
    const auto done = [s](Result<void> result) {
        ::close(s);
        return result;
    };
    if (::ioctl(s, SIOCGIFFLAGS, &r) != 0)
        return done(fail("cannot read " + tap + ": " + std::strerror(errno)));
    r.ifr_flags = static_cast<short>(r.ifr_flags | IFF_UP);
    if (::ioctl(s, SIOCSIFFLAGS, &r) != 0)
        return done(fail("cannot bring " + tap + " up: " + std::strerror(errno)));
    if (!bridge.empty()) {
        ifreq b{};
        std::strncpy(b.ifr_name, bridge.c_str(), IFNAMSIZ - 1);
        b.ifr_ifindex = static_cast<int>(::if_nametoindex(tap.c_str()));
        if (::ioctl(s, SIOCBRADDIF, &b) != 0)
            return done(fail("cannot attach " + tap + " to bridge " + bridge + ": " + std::strerror(errno),
                             "create it (ip link add " + bridge + " type bridge) or name another in `vif`"));
    }
    return done({});
}

}  // namespace

Result<std::unique_ptr<TapPort>> TapPort::open(boost::asio::io_context& io, const std::string& name,
                                               const std::string& bridge) {
    const int fd = ::open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return fail(std::string("cannot open /dev/net/tun: ") + std::strerror(errno), "load the tun module");
    ifreq r{};
    std::strncpy(r.ifr_name, name.c_str(), IFNAMSIZ - 1);
    r.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
    const int header = kVnetHeader;
    if (::ioctl(fd, TUNSETIFF, &r) != 0 || ::ioctl(fd, TUNSETVNETHDRSZ, &header) != 0) {
        auto e = fail("cannot create tap " + name + ": " + std::strerror(errno));
        ::close(fd);
        return e;
    }
    auto port = std::make_unique<TapPort>(io, fd, r.ifr_name);
    keep_host_ipv6_off(port->name());  // before it is up
    if (auto a = attach(port->name(), bridge); !a) return tl::unexpected(a.error());
    return port;
}

TapPort::TapPort(boost::asio::io_context& io, int fd, std::string name) : fd_(io, fd), name_(std::move(name)) {}

void TapPort::on_input(std::function<void()> f) {
    input_ = std::move(f);
    arm();
}

void TapPort::arm() {
    if (armed_ || !wanted_ || !input_) return;
    armed_ = true;
    fd_.async_wait(boost::asio::posix::stream_descriptor::wait_read,
                   [this](const boost::system::error_code& e) {
                       if (e == boost::asio::error::operation_aborted) return;
                       armed_ = false;
                       if (wanted_) input_();
                       arm();
                   });
}

void TapPort::want_input(bool on) {
    wanted_ = on;
    arm();
}

// A full queue drops the packet, as a wire would.
void TapPort::send(std::span<const std::uint8_t> frame) {
    if (::write(fd_.native_handle(), frame.data(), frame.size()) < 0) return;
}

std::size_t TapPort::receive(std::span<std::uint8_t> frame) {
    const ssize_t n = ::read(fd_.native_handle(), frame.data(), frame.size());
    return n > 0 ? static_cast<std::size_t>(n) : 0;
}

std::uint64_t TapPort::offloads() const {
    return 1ull << kCsum | 1ull << kGuestCsum | 1ull << kGuestTso4 | 1ull << kGuestTso6 | 1ull << kHostTso4 |
           1ull << kHostTso6;
}

void TapPort::set_offloads(std::uint64_t f) {
    const auto has = [f](unsigned b) { return (f >> b & 1) != 0; };
    unsigned long flags = 0;
    if (has(kGuestCsum))
        flags |= TUN_F_CSUM | (has(kGuestTso4) ? TUN_F_TSO4 : 0u) | (has(kGuestTso6) ? TUN_F_TSO6 : 0u);
    ::ioctl(fd_.native_handle(), TUNSETOFFLOAD, flags);
}

}  // namespace proa::vmm
