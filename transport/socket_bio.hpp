// OpenSSL's view of a connected socket. Its own (SSL_set_fd) writes with write(2): a peer that closes at the wrong moment
// would end this process, and with it a guest, by SIGPIPE. This one also never waits, whatever the socket's mode.
#pragma once
#include <openssl/bio.h>

namespace proa::transport {

// Owned by the SSL object it is given to; `fd` is not closed.
BIO* socket_bio(int fd);

}  // namespace proa::transport
