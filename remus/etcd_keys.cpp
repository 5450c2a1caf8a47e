#include "remus/etcd_keys.hpp"

#include "vmm/json_lines.hpp"

namespace proa::remus {
namespace {

constexpr std::size_t kLongestName = 255;

tl::unexpected<vmm::Error> garbled() {
    return vmm::fail("etcd's answer to a transaction has not the form of one", "is it etcd 3.4 or later?");
}

Json get(const std::string& key) {
    return {{"request_range", {{"key", key}}}};
}

Json put(const std::string& key, const Holder& h, std::uint64_t lease) {
    Json p{{"key", key}, {"value", to_base64(EtcdKeys::value(h))}};
    if (lease != 0) p["lease"] = std::to_string(lease);
    return {{"request_put", std::move(p)}};
}

Json revision_is(const std::string& key, const char* target, const char* field, std::uint64_t revision) {
    return {{"key", key}, {"target", target}, {"result", "EQUAL"}, {field, std::to_string(revision)}};
}

bool read_name(const Json& object, const char* name, std::string& to) {
    const auto i = object.find(name);
    if (i == object.end() || !i->is_string()) return false;
    to = i->get<std::string>();
    return to.size() <= kLongestName;
}

}  // namespace

std::string EtcdKeys::name(const std::string& guest, const char* leaf) {
    return "/proa/guests/" + guest + "/" + leaf;
}

std::string EtcdKeys::value(const Holder& h) {
    Json v{{"host", h.host}, {"session", h.session}};
    if (h.settled) v["settled"] = true;
    if (h.term != 0) v["term"] = h.term;
    return v.dump();
}

EtcdKeys::EtcdKeys(EtcdCall& call, std::string guest)
    : call_(call),
      guest_(std::move(guest)),
      holder_(to_base64(name(guest_, "holder"))),
      last_(to_base64(name(guest_, "last"))),
      get_both_(Json::array({get(holder_), get(last_)})) {}

Json EtcdKeys::holder_created_at(std::uint64_t r) const {
    return revision_is(holder_, "CREATE", "create_revision", r);
}
Json EtcdKeys::holder_modified_at(std::uint64_t r) const {
    return revision_is(holder_, "MOD", "mod_revision", r);
}
Json EtcdKeys::last_modified_at(std::uint64_t r) const {
    return revision_is(last_, "MOD", "mod_revision", r);
}
Json EtcdKeys::put_holder(const Holder& h, std::uint64_t lease) const {
    return put(holder_, h, lease);
}
Json EtcdKeys::put_last(const Holder& h) const {
    return put(last_, h, 0);
}
Json EtcdKeys::delete_holder() const {
    return {{"request_delete_range", {{"key", holder_}}}};
}

vmm::Result<GuestKeys> EtcdKeys::read() {
    const auto answer = transact(Json::array(), get_both_, Json::array());
    return answer ? both_of(*answer) : tl::unexpected(answer.error());
}

vmm::Result<EtcdKeys::Outcome> EtcdKeys::change(const Json& conditions, const Json& changes) {
    const auto answer = transact(conditions, changes, get_both_);
    if (!answer) return tl::unexpected(answer.error());
    Outcome o;
    if (const auto i = answer->find("succeeded"); i != answer->end()) {  // false is left out
        if (!i->is_boolean()) return garbled();
        o.done = i->get<bool>();
    }
    if (!o.done) {
        auto seen = both_of(*answer);
        if (!seen) return tl::unexpected(seen.error());
        o.seen = std::move(*seen);
        return o;
    }
    const auto header = answer->find("header");
    if (header == answer->end() || !header->is_object()) return garbled();
    const auto revision = number_at(*header, "revision");
    if (!revision || *revision == 0) return garbled();
    o.revision = *revision;
    return o;
}

vmm::Result<Json> EtcdKeys::transact(const Json& conditions, const Json& then, const Json& otherwise) {
    auto answer =
        call_.post("/v3/kv/txn", {{"compare", conditions}, {"success", then}, {"failure", otherwise}});
    if (!answer) return tl::unexpected(answer.error());
    if (answer->not_found)
        return vmm::fail("the lease on guest " + guest_ + "'s key ran out before it was used",
                         "is etcd, or this host, overloaded?");
    return std::move(answer->body);
}

vmm::Result<GuestKeys> EtcdKeys::both_of(const Json& answer) const {
    const auto responses = answer.find("responses");
    if (responses == answer.end() || !responses->is_array() || responses->size() != 2) return garbled();
    auto holder = range_of((*responses)[0]);
    if (!holder) return tl::unexpected(holder.error());
    auto last = range_of((*responses)[1]);
    if (!last) return tl::unexpected(last.error());
    // `last` was created by the first claim of all; the one that it speaks of is the latest.
    if (*last && !(*last)->who.settled) (*last)->who.term = (*last)->modified;
    return GuestKeys{std::move(*holder), std::move(*last)};
}

vmm::Result<std::optional<EtcdEntry>> EtcdKeys::range_of(const Json& response) const {
    if (!response.is_object()) return garbled();
    const auto range = response.find("response_range");
    if (range == response.end() || !range->is_object()) return garbled();
    const auto kvs = range->find("kvs");
    if (kvs == range->end()) return std::nullopt;
    if (!kvs->is_array() || kvs->size() != 1 || !kvs->front().is_object()) return garbled();
    auto e = entry_of(kvs->front());
    if (!e) return tl::unexpected(e.error());
    return std::optional<EtcdEntry>(std::move(*e));
}

vmm::Result<EtcdEntry> EtcdKeys::entry_of(const Json& kv) const {
    const auto strange = [&](const char* what) {
        return vmm::fail("etcd's record of guest " + guest_ + " has " + what,
                         "has somebody else written below /proa/guests? docs/HA.md says how to clean up");
    };
    const auto created = number_at(kv, "create_revision"), modified = number_at(kv, "mod_revision");
    const auto lease = number_at(kv, "lease");
    if (!created || !modified || !lease || *created == 0 || *modified < *created) return strange("no revision");
    const auto value = kv.find("value");
    if (value == kv.end() || !value->is_string()) return strange("no value");
    const auto text = from_base64(value->get<std::string>());
    if (!text || vmm::nests_too_deep(*text)) return strange("an unreadable value");
    const Json j = Json::parse(*text, nullptr, false);
    if (!j.is_object()) return strange("an unreadable value");
    EtcdEntry e{{}, *created, *modified, *lease};
    if (!read_name(j, "host", e.who.host) || !read_name(j, "session", e.who.session))
        return strange("no host or no session");
    const auto settled = j.find("settled");
    if (settled != j.end() && !settled->is_boolean()) return strange("an unreadable value");
    e.who.settled = settled != j.end() && settled->get<bool>();
    // What continues a term, or settles it, says which; the revision of a new beginning is its term.
    const auto term = e.who.settled || j.contains("term") ? number_at(j, "term") : modified;
    if (!term || *term == 0) return strange("no term");
    e.who.term = *term;
    return e;
}

}  // namespace proa::remus
