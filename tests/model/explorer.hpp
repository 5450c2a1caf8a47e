// Visits every state that can be reached from a first one, breadth first, and remembers how it got there, so that what a
// test finds wrong is told as the shortest story that leads to it.
#pragma once
#include <deque>
#include <map>
#include <string>
#include <vector>

namespace proa::model {

// State: ordered by <. Next: f(state, visit) calls visit(state after, "what happened") for each possible next thing.
template <class State>
class Explorer {
  public:
    template <class Next>
    Explorer(const State& first, Next&& next) : Explorer(first, next, [](const State&) { return false; }) {}

    // Goes no further once a state is `enough`: the last one then.
    template <class Next, class Enough>
    Explorer(const State& first, Next&& next, Enough&& enough) {
        states_.push_back({first, 0, "start"});
        index_[first] = 0;
        for (std::size_t at = 0; at < states_.size() && !enough(states_.back().state); ++at) {
            const State here = states_[at].state;
            bool over = false;
            next(here, [&](const State& to, const char* what) {
                if (over || !index_.try_emplace(to, states_.size()).second) return;
                states_.push_back({to, at, what});
                over = enough(to);
            });
        }
    }

    std::size_t size() const { return states_.size(); }
    const State& operator[](std::size_t i) const { return states_[i].state; }

    // The states from which no walk leads to one that is `good`.
    template <class Good, class Walk>
    std::vector<std::size_t> cannot_reach(Good&& good, Walk&& walk) const {
        std::vector<std::vector<std::size_t>> back(states_.size());
        for (std::size_t i = 0; i < states_.size(); ++i)
            walk(states_[i].state, [&](const State& to, const char*) {
                if (const auto j = index_.find(to); j != index_.end()) back[j->second].push_back(i);
            });
        std::vector<bool> can(states_.size());
        std::deque<std::size_t> todo;
        const auto mark = [&](std::size_t i) {
            if (!can[i]) todo.push_back(i);
            can[i] = true;
        };
        for (std::size_t i = 0; i < states_.size(); ++i)
            if (good(states_[i].state)) mark(i);
        for (; !todo.empty(); todo.pop_front())
            for (const std::size_t from : back[todo.front()]) mark(from);
        std::vector<std::size_t> stuck;
        for (std::size_t i = 0; i < states_.size(); ++i)
            if (!can[i]) stuck.push_back(i);
        return stuck;
    }

    std::string story(std::size_t i) const {
        std::string s;
        for (; i != 0; i = states_[i].from) s = std::string("\n  ") + states_[i].what + s;
        return s;
    }

  private:
    struct Node {
        State state;
        std::size_t from;
        const char* what;
    };
    std::vector<Node> states_;
    std::map<State, std::size_t> index_;
};

}  // namespace proa::model
