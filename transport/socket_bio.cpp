#include "transport/socket_bio.hpp"

#include <sys/socket.h>

#include <cerrno>
#include <cstdint>

namespace proa::transport {
namespace {

int fd_of(BIO* b) {
    return static_cast<int>(reinterpret_cast<std::intptr_t>(BIO_get_data(b)));
}
bool again() {
    return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
}

int write_bytes(BIO* b, const char* from, int n) {
    BIO_clear_retry_flags(b);
    const auto r =
        static_cast<int>(::send(fd_of(b), from, static_cast<std::size_t>(n), MSG_NOSIGNAL | MSG_DONTWAIT));
    if (r < 0 && again()) BIO_set_retry_write(b);
    return r;
}

int read_bytes(BIO* b, char* to, int n) {
    BIO_clear_retry_flags(b);
    const auto r = static_cast<int>(::recv(fd_of(b), to, static_cast<std::size_t>(n), MSG_DONTWAIT));
    if (r < 0 && again()) BIO_set_retry_read(b);
    if (r == 0) BIO_set_flags(b, BIO_FLAGS_IN_EOF);
    return r;
}

long control(BIO* b, int command, long, void*) {
    switch (command) {
        case BIO_CTRL_FLUSH: return 1;
        case BIO_CTRL_EOF: return BIO_test_flags(b, BIO_FLAGS_IN_EOF) != 0 ? 1 : 0;
        default: return 0;
    }
}

const BIO_METHOD* method() {
    static const BIO_METHOD* const m = [] {
        BIO_METHOD* made = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "proa socket");
        BIO_meth_set_write(made, write_bytes);
        BIO_meth_set_read(made, read_bytes);
        BIO_meth_set_ctrl(made, control);
        return made;
    }();
    return m;
}

}  // namespace

BIO* socket_bio(int fd) {
    BIO* b = BIO_new(method());
    BIO_set_data(b, reinterpret_cast<void*>(static_cast<std::intptr_t>(fd)));
    BIO_set_init(b, 1);
    return b;
}

}  // namespace proa::transport
