// Facts as text. Pure: JSON from proad in, what the terminal shows out.
#pragma once
#include <string>

#include "vmm/json_lines.hpp"

namespace proa::vmm::cli {

// printf into a string of at most 511 characters.
[[gnu::format(printf, 1, 2)]] std::string text(const char* format, ...);

// As xl list: r(unning) b(locked) p(aused) s(topped) c(rashed), d for one whose proa-vm does not answer; and w, in p's
// place, for a standby that waits for its primary's end.
std::string state_letters(const Json& guest);
std::string format_list(const Json& guests, double cntfrq);
std::string format_vcpus(const Json& guests, double cntfrq);
std::string format_cpu_list(std::uint64_t mask, unsigned pcpus);  // "0-2,5", "all"
std::string format_facts(const Json& facts);

// `proa top`: what changed between two samples of {"guests": [...], "host": {...}}.
Json usage(const Json& before, const Json& now);
std::string format_usage(const Json& usage, bool vcpus);

}  // namespace proa::vmm::cli
