// The destination's durable memory of one migration: did the guest start here, or is it promised that it never will?
// The moves are switchover.hpp's; here is how they survive: the state is the NAME of a file (TOKEN.open, TOKEN.starting,
// TOKEN.started, TOKEN.never), a move is one rename(2), which the kernel lets exactly one of two processes make, and the
// directory is synced before anyone acts on it. Used by proa-vm (to claim the start) and proad (to answer).
#pragma once
#include <chrono>
#include <string>

#include "migrate/stream.hpp"
#include "migrate/switchover.hpp"
#include "vmm/error.hpp"

namespace proa::migrate {

class Session {
  public:
    Session(std::string directory, const Token& token) : path_(std::move(directory) + "/" + to_hex(token)) {}

    // Feeds `e` to the record and returns its answer once the move is durable. An error means that nothing is known to
    // have moved: treat it as Denied or DontKnow.
    vmm::Result<SessionAnswer> apply(SessionEvent e) const;
    SessionState state() const;
    // Makes a move of a file that means nothing, so that the real one finds everything at hand and the directory synced.
    void rehearse() const;

    // Records of migrations that ended long ago. Asked about later, they are Unknown.
    static void prune(const std::string& directory, std::chrono::hours older_than);

  private:
    std::string file(SessionState s) const;
    vmm::Result<void> sync() const;
    std::string path_;  // without the state's ending
};

}  // namespace proa::migrate
