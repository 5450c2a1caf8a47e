// TLS over a connected socket. For transport/ only.
#pragma once
#include <memory>
#include <string>

#include "transport/tcp.hpp"

namespace proa::transport {

// Whether these files can be used at all; asked before anyone listens with them.
Result<void> check_credentials(const Credentials& c);

// `tcp` as it is if the options say plaintext, else after a handshake. As a client: `host` is who must be there.
Result<std::unique_ptr<ByteStream>> secure(std::unique_ptr<TcpStream> tcp, const ChannelOptions& options,
                                           bool client, const std::string& host);

}  // namespace proa::transport
