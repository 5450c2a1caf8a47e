// A file system that remembers everything it was told, in order, and can be what a crash after any of it would leave: what was
// synced is there; of the rest any part may be, by sectors of 512 bytes, whatever the order it came in. Names too.
#pragma once
#include <algorithm>
#include <map>
#include <memory>
#include <random>
#include <variant>
#include <vector>

#include "remus/disk_files.hpp"

namespace proa::remus {

class CrashFiles final : public DiskFiles {
  public:
    using Bytes = std::vector<std::uint8_t>;
    using Node = std::size_t;

    vmm::Result<std::unique_ptr<DiskFile>> open(const std::string& path) override {
        const auto n = names_.find(path);
        if (n == names_.end()) return std::unique_ptr<DiskFile>();
        return std::make_unique<File>(*this, n->second);
    }
    vmm::Result<std::unique_ptr<DiskFile>> create(const std::string& path) override {
        if (const auto n = names_.find(path); n != names_.end()) {
            record(Resize{n->second, 0});
        } else {
            record(Create{path, nodes_.size()});
        }
        return open(path);
    }
    vmm::Result<void> rename(const std::string& from, const std::string& to) override {
        record(Rename{from, to, names_.at(from)});
        return {};
    }
    vmm::Result<void> sync_directory_of(const std::string&) override {
        record(SyncNames{});
        return {};
    }

    std::size_t operations() const { return log_.size(); }
    const Bytes* contents(const std::string& path) const {
        const auto n = names_.find(path);
        return n == names_.end() ? nullptr : &nodes_[n->second];
    }

    // What is left if the host stops after the first `done` operations, none of it synced unless it was before. `keep`: how much
    // of what wasn't synced survives, 0 to 1. Syncs of files whose name ends in `deaf` didn't do anything (".": of the directory).
    std::unique_ptr<CrashFiles> after(std::size_t done, double keep, std::mt19937& random,
                                      const std::string& deaf = "-") const;

  private:
    struct Create {
        std::string path;
        Node node;
    };
    struct Rename {
        std::string from, to;
        Node node;
    };
    struct SyncNames {};
    struct Write {
        Node node;
        std::uint64_t at;
        Bytes bytes;
    };
    struct Resize {
        Node node;
        std::uint64_t bytes;
    };
    struct Sync {
        Node node;
        std::string name;
    };
    using Operation = std::variant<Create, Rename, SyncNames, Write, Resize, Sync>;

    class File final : public DiskFile {
      public:
        File(CrashFiles& all, Node n) : all_(all), node_(n) {}
        vmm::Result<std::uint64_t> size() const override { return all_.nodes_[node_].size(); }
        std::uint64_t identity() const override { return 1; }  // inodes are used again
        vmm::Result<void> read(std::uint64_t at, std::span<std::uint8_t> to) const override {
            const Bytes& b = all_.nodes_[node_];
            if (at > b.size() || to.size() > b.size() - at) return vmm::fail("past the end");
            std::copy_n(b.begin() + static_cast<std::ptrdiff_t>(at), to.size(), to.begin());
            return {};
        }
        vmm::Result<void> write(std::uint64_t at, std::span<const std::uint8_t> from) override {
            all_.record(Write{node_, at, {from.begin(), from.end()}});
            return {};
        }
        vmm::Result<void> zero(std::uint64_t at, std::uint64_t length) override {
            all_.record(Write{node_, at, Bytes(length)});
            return {};
        }
        vmm::Result<void> resize(std::uint64_t bytes) override {
            all_.record(Resize{node_, bytes});
            return {};
        }
        vmm::Result<void> sync() override {
            all_.record(Sync{node_, all_.name_of(node_)});
            return {};
        }

      private:
        CrashFiles& all_;
        Node node_;
    };

    static void put(Bytes& to, std::uint64_t at, std::span<const std::uint8_t> from) {
        if (to.size() < at + from.size()) to.resize(at + from.size());
        std::copy(from.begin(), from.end(), to.begin() + static_cast<std::ptrdiff_t>(at));
    }
    std::string name_of(Node n) const {
        for (const auto& [name, node] : names_)
            if (node == n) return name;
        return {};
    }
    void record(Operation o) {
        if (const auto* c = std::get_if<Create>(&o)) {
            names_[c->path] = c->node;
            nodes_.emplace_back();
        } else if (const auto* r = std::get_if<Rename>(&o)) {
            names_.erase(r->from);
            names_[r->to] = r->node;
        } else if (const auto* w = std::get_if<Write>(&o)) {
            put(nodes_[w->node], w->at, w->bytes);
        } else if (const auto* z = std::get_if<Resize>(&o)) {
            nodes_[z->node].resize(z->bytes);
        }
        log_.push_back(std::move(o));
    }

    std::map<std::string, Node> names_, first_names_;  // first_: durable before the first operation
    std::vector<Bytes> nodes_, first_nodes_;
    std::vector<Operation> log_;
};

inline std::unique_ptr<CrashFiles> CrashFiles::after(std::size_t done, double keep, std::mt19937& random,
                                                     const std::string& deaf) const {
    auto left = std::make_unique<CrashFiles>();
    auto& names = left->first_names_ = first_names_;
    auto& nodes = left->first_nodes_ = first_nodes_;
    nodes.resize(nodes_.size());
    std::vector<const Operation*> waiting;  // for a sync
    std::bernoulli_distribution lucky(keep);
    const auto node_of = [](const Operation& o) -> const Node* {
        if (const auto* w = std::get_if<Write>(&o)) return &w->node;
        if (const auto* z = std::get_if<Resize>(&o)) return &z->node;
        return nullptr;
    };
    const auto carry_out = [&](const Operation& o, bool all) {
        const auto survives = [&] { return all || lucky(random); };
        if (const auto* c = std::get_if<Create>(&o)) {
            if (survives()) names[c->path] = c->node;
        } else if (const auto* r = std::get_if<Rename>(&o)) {
            if (!survives()) return;
            names.erase(r->from);
            names[r->to] = r->node;
        } else if (const auto* z = std::get_if<Resize>(&o)) {
            if (survives()) nodes[z->node].resize(z->bytes);
        } else if (const auto* w = std::get_if<Write>(&o)) {
            for (std::size_t from = 0; from < w->bytes.size(); from += 512)
                if (survives())
                    put(nodes[w->node], w->at + from,
                        std::span(w->bytes).subspan(from, std::min<std::size_t>(512, w->bytes.size() - from)));
        }
    };
    const auto settle = [&](auto&& which) {
        std::vector<const Operation*> rest;
        for (const auto* o : waiting)
            if (which(*o))
                carry_out(*o, true);
            else
                rest.push_back(o);
        waiting = std::move(rest);
    };
    for (std::size_t i = 0; i < done; ++i) {
        const Operation& o = log_[i];
        if (const auto* s = std::get_if<Sync>(&o)) {
            if (!s->name.ends_with(deaf))
                settle([&](const Operation& w) { return node_of(w) != nullptr && *node_of(w) == s->node; });
        } else if (std::holds_alternative<SyncNames>(o)) {
            if (deaf != ".") settle([&](const Operation& w) { return node_of(w) == nullptr; });
        } else {
            waiting.push_back(&o);
        }
    }
    for (const auto* o : waiting) carry_out(*o, false);
    left->names_ = names;
    left->nodes_ = nodes;
    return left;
}

}  // namespace proa::remus
