// Errors of vmm/ are values: what failed, on what, and what to do about it.
#pragma once
#include <string>
#include <tl/expected.hpp>
#include <utility>

namespace proa::vmm {

struct Error {
    std::string what;    // "cannot open disk /dev/vg0/web: No such file or directory"
    std::string remedy;  // "create the volume or correct `disk` in web.cfg"; may be empty
};

template <class T>
using Result = tl::expected<T, Error>;

inline tl::unexpected<Error> fail(std::string what, std::string remedy = {}) {
    return tl::unexpected<Error>(Error{std::move(what), std::move(remedy)});
}

}  // namespace proa::vmm
