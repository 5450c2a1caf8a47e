#include "migrate/peer_requests.hpp"

#include <memory>
#include <utility>

#include "vmm/json_lines.hpp"

namespace proa::migrate {
namespace {

class Once {
  public:
    explicit Once(std::function<void(std::string)> send) : send_(std::move(send)) {}
    Once(const Once&) = delete;
    Once& operator=(const Once&) = delete;
    ~Once() { answer(refusal({"the request ended without an answer", "proad's log there may say why"})); }
    void answer(const Json& j) {
        if (send_) std::exchange(send_, {})(j.dump(-1, ' ', false, Json::error_handler_t::replace));
    }

  private:
    std::function<void(std::string)> send_;
};

}  // namespace

Json refusal(const vmm::Error& e) {
    return {{"ok", false}, {"what", e.what}, {"remedy", e.remedy}};
}

void PeerRequests::answer(const std::string& text, const std::string& from,
                          std::function<void(std::string)> done) const {
    const auto once = std::make_shared<Once>(std::move(done));
    if (vmm::nests_too_deep(text))
        return once->answer(refusal({"malformed request: it nests deeper than any of ours", ""}));
    const Json request = Json::parse(text, nullptr, false);
    try {
        const std::string command = request.at("cmd");
        const auto i = handlers_.find(command);
        if (i == handlers_.end())
            return once->answer(
                refusal({"unknown request " + command, "install the same version of proa on both hosts"}));
        i->second(request, from, [once](const Json& j) { once->answer(j); });
    } catch (const std::exception& e) {
        once->answer(refusal({std::string("malformed request: ") + e.what(), ""}));
    }
}

}  // namespace proa::migrate
