// Which of TLS 1.3's cipher suites this CPU seals fastest. Bulk transfer is most of what hosts send each other, and without
// (or with emulated) AES and vector instructions the suites differ by a factor of ten.
#pragma once
#include <chrono>
#include <functional>
#include <string>
#include <vector>

namespace proa::transport {

struct CipherSuite {
    const char* suite;   // RFC 8446, B.4
    const char* cipher;  // OpenSSL's name of its AEAD
};
extern const std::vector<CipherSuite> kCipherSuites;

// How long it takes to seal a few records.
using SealTime = std::function<std::chrono::nanoseconds(const CipherSuite&)>;
std::chrono::nanoseconds seal_time(const CipherSuite& c);

// All of kCipherSuites as SSL_CTX_set_ciphersuites wants them, the fastest first: the dialler's order decides, and it is the
// source of a migration that has the most to send.
std::string fastest_first(const SealTime& time);
// Measured once a process, in a few milliseconds.
const std::string& cipher_suites();

}  // namespace proa::transport
