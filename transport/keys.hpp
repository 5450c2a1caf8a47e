// The credentials of mutual TLS: one CA, one certificate per host that names it. ECDSA P-256: small and quick.
#pragma once
#include <string>
#include <vector>

#include "transport/error.hpp"

namespace proa::transport {

// Writes DIR/ca.pem and DIR/ca.key (if there is no CA yet) and, for each host, DIR/HOST/{ca.pem,host.pem,host.key},
// ready to be copied to /etc/proa/keys there. A host that has a directory already is refused. Keys are mode 0600.
Result<void> init_keys(const std::string& directory, const std::vector<std::string>& hosts, int days = 3650);

}  // namespace proa::transport
