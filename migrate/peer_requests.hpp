// What other hosts' daemons may ask of this one, by command. Every request gets exactly one answer, whatever it holds and
// whatever its handler does: nothing a peer sends may end proad.
#pragma once
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "vmm/error.hpp"

namespace proa::migrate {

using Json = nlohmann::json;

// Takes the answer, once; what comes after the first one is dropped. Dropping the last copy unanswered refuses.
using PeerReply = std::function<void(Json)>;
// On the daemon's thread; `from` is the peer's address. May throw (a wrong JSON type in the request is a refusal), but
// only before it returns.
using PeerHandler = std::function<void(const Json& request, const std::string& from, PeerReply done)>;

Json refusal(const vmm::Error& e);  // {"ok": false, "what", "remedy"}

class PeerRequests {
  public:
    void on(const std::string& command, PeerHandler handler) { handlers_[command] = std::move(handler); }
    // `text` is what came; `done` gets what goes back.
    void answer(const std::string& text, const std::string& from, std::function<void(std::string)> done) const;

  private:
    std::map<std::string, PeerHandler> handlers_;
};

}  // namespace proa::migrate
