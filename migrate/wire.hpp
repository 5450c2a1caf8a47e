// For the .cpp files that turn records into bytes and back: the generated messages, and the rule about what a reader
// doesn't know.
#pragma once
#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/wire_format_lite.h>

#include <span>
#include <string>
#include <vector>

#include "migrate/stream.pb.h"
#include "transport/error.hpp"

namespace proa::migrate::wire {

inline constexpr int kOptionalFrom = 1000;

inline tl::unexpected<transport::Error> refuse(const std::string& why) {
    return transport::fail(transport::ErrorKind::Protocol, "peer's stream refused: " + why);
}

// Whether everything in `unknown` (fields that this version has no name for) may be skipped.
inline bool skippable(const std::string& unknown) {
    google::protobuf::io::CodedInputStream in(reinterpret_cast<const std::uint8_t*>(unknown.data()),
                                              static_cast<int>(unknown.size()));
    while (const std::uint32_t tag = in.ReadTag()) {
        if (google::protobuf::internal::WireFormatLite::GetTagFieldNumber(tag) < kOptionalFrom) return false;
        if (!google::protobuf::internal::WireFormatLite::SkipField(&in, tag)) return false;
    }
    return true;
}

template <class M>
std::vector<std::uint8_t> bytes_of(const M& m) {
    std::vector<std::uint8_t> b(m.ByteSizeLong());
    m.SerializeWithCachedSizesToArray(b.data());
    return b;
}

// Without protobuf's own words on stderr when something required is missing.
template <class M>
bool read(M& m, std::span<const std::uint8_t> b) {
    return m.ParsePartialFromArray(b.data(), static_cast<int>(b.size())) && m.IsInitialized();
}

template <class M>
transport::Result<M> parse(std::span<const std::uint8_t> b, const char* what) {
    M m;
    if (!read(m, b)) return refuse(std::string("malformed ") + what);
    if (!skippable(m.unknown_fields()))
        return refuse(std::string(what) + " holds a mandatory field that this version doesn't know");
    return m;
}

}  // namespace proa::migrate::wire
