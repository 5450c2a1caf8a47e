// Errors of transport/ are values: what failed, what to do, and a kind that callers may act on.
#pragma once
#include <cstdint>
#include <string>
#include <tl/expected.hpp>
#include <utility>

namespace proa::transport {

enum class ErrorKind : std::uint8_t { Closed, Timeout, Refused, Protocol, Tls, Cancelled, Io };

struct Error {
    ErrorKind kind = ErrorKind::Io;
    std::string what, remedy;
};

template <class T>
using Result = tl::expected<T, Error>;

inline tl::unexpected<Error> fail(ErrorKind kind, std::string what, std::string remedy = {}) {
    return tl::unexpected<Error>(Error{kind, std::move(what), std::move(remedy)});
}

}  // namespace proa::transport
