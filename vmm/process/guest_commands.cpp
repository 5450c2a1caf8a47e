// The commands every guest answers on its socket.
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <iterator>

#include "vmm/process/checkpoint_probe.hpp"
#include "vmm/process/guest_process.hpp"

namespace proa::vmm {
namespace {

void answer(const Reply& reply, const Result<void>& r) {
    if (r)
        reply.ok();
    else
        reply.fail("failed", r.error());
}

}  // namespace

Json GuestProcess::info() {
    Json j{{"name", config_.name},
           {"slot", options_.slot},
           {"pid", ::getpid()},
           {"state", name_of(state_)},
           {"memory_mib", config_.memory_mib},
           {"vcpus", config_.vcpus},
           {"protection", ""}};  // describe_more() knows better
    if (auto s = machine_->stats()) {
        std::uint64_t ticks = 0;
        Json list = Json::array();
        static const char* const states[] = {"off", "runnable", "running", "blocked", "exit", "paused", "copy"};
        for (unsigned i = 0; i < s->vcpus; ++i) {
            ticks += s->vcpu[i].run_ticks;
            list.push_back({{"vcpu", i},
                            {"pcpu", s->vcpu[i].pcpu},
                            {"state", states[s->vcpu[i].state % std::size(states)]},
                            {"run_ticks", s->vcpu[i].run_ticks},
                            {"affinity", s->vcpu[i].affinity}});
        }
        static const char* const kinds[] = {"wfx",  "hvc",    "smc", "sysreg", "stage2_fault", "dirty_fault",
                                            "mmio", "notify", "gic", "irq",    "fp",           "other"};
        Json exits = Json::object();
        for (unsigned k = 0; k < static_cast<unsigned>(abi::ExitKind::Count); ++k)
            exits[kinds[k]] = s->exits[k];
        j["vcpu_list"] = list;
        j["exits"] = exits;
        j["run_ticks"] = ticks;
        j["table_pages"] = s->table_pages;
        j["dirty_log_mode"] = s->dirty_log_mode;
        j["throttle"] = s->throttle;
        j["copied_pages"] = s->copied_pages;
        j["copy_waits"] = s->copy_waits;
    }
    Json disks = Json::array(), vifs = Json::array();
    for (const auto& d : config_.disks) disks.push_back({{"path", d.path}, {"read_only", d.read_only}});
    for (const auto& v : config_.vifs) vifs.push_back({{"bridge", v.bridge}});
    j["disks"] = disks;
    j["vifs"] = vifs;
    if (describe_more_) describe_more_(j);
    return j;
}

std::optional<Error> GuestProcess::measured() const {
    const Checkpointer* c = machine_->checkpoints();
    if (occupied_ || c == nullptr || !c->started()) return {};
    return Error{"checkpoints of " + config_.name + " are being measured",
                 "wait for the end of proa dirty-log " + config_.name + " checkpoint"};
}

void GuestProcess::register_commands() {
    commands_.add("info", [this](const Json&, const Reply& r) { r.ok(info()); });
    const auto busy = [this](const Reply& r) {
        if (occupied_) r.fail("refused", *occupied_);
        return occupied_.has_value();
    };
    commands_.add("pause", [this, busy](const Json&, const Reply& r) {
        if (busy(r)) return;
        if (state_ != GuestState::Running)
            return r.fail("refused", {config_.name + " is " + name_of(state_) + ", not running", ""});
        answer(r, pause());
    });
    commands_.add("unpause", [this](const Json&, const Reply& r) {
        if (state_ == GuestState::InDoubt && doubt_ends_) {
            doubt_ends_();
            return r.ok();
        }
        if (state_ != GuestState::Paused)
            return r.fail("refused", {config_.name + " is " + name_of(state_) + ", not paused", ""});
        answer(r, unpause());
    });
    // Both by the power button, so that file systems are unmounted; reboot remembers to start it again. {"force": true}
    // is the reset button.
    const auto press = [this](PowerButton::Intent intent, const Reply& r) {
        if (state_ != GuestState::Running && state_ != GuestState::Migrating)
            return r.fail("refused", {config_.name + " is " + name_of(state_) + ", not running",
                                      state_ == GuestState::Paused ? "proa unpause it first" : ""});
        if (auto p = this->press(intent); !p) return r.fail("refused", p.error());
        r.ok();
    };
    commands_.add("shutdown",
                  [press](const Json&, const Reply& r) { press(PowerButton::Intent::PowerOff, r); });
    commands_.add("reboot", [this, press](const Json& a, const Reply& r) {
        if (!a.value("force", false)) return press(PowerButton::Intent::Reboot, r);
        if (state_ != GuestState::Running && state_ != GuestState::Stopped && state_ != GuestState::Crashed)
            return r.fail("refused", {config_.name + " is " + name_of(state_), ""});
        answer(r, reboot());
    });
    commands_.add("destroy", [this](const Json&, const Reply& r) {
        r.ok();
        io_.post([this] { shut_down(0); });
    });
    commands_.add("vcpu-pin", [this](const Json& a, const Reply& r) {
        std::uint64_t mask = 0;
        if (!parse_cpu_list(a.at("cpus"), mask))
            return r.fail("invalid",
                          {"not a CPU list: " + a.at("cpus").get<std::string>(), "write 0-3,^1 or all"});
        const std::string which = a.at("vcpu");
        for (unsigned v = 0; v < config_.vcpus; ++v) {
            if (which != "all" && which != std::to_string(v)) continue;
            if (auto e = machine_->set_affinity(v, mask); !e) return r.fail("invalid", e.error());
            if (which != "all") return r.ok();
        }
        if (which == "all") return r.ok();
        r.fail("invalid", {"no vCPU " + which, "proa vcpu-list shows them"});
    });
    // For measurements (the bench guest): what tracking costs without a migration around it.
    commands_.add("dirty-log", [this, busy](const Json& a, const Reply& r) {
        if (busy(r)) return;
        const std::string mode = a.at("mode");
        if (mode == "fence") return probe_fence(*machine_, a, r);  // of a guest that it has stopped, too
        if (state_ != GuestState::Running)
            return r.fail("refused", {config_.name + " is " + name_of(state_) + ", not running", ""});
        if (const auto no = measured()) return r.fail("refused", *no);
        if (mode == "checkpoint") return probe_checkpoints(*this, a, r);
        if (mode == "harvest") {
            dirtylog::Bitmap dirty(memory().pages());
            const auto start = std::chrono::steady_clock::now();
            if (auto n = machine_->harvest(dirty); !n) return r.fail("failed", n.error());
            const std::chrono::nanoseconds took = std::chrono::steady_clock::now() - start;
            return r.ok({{"pages", dirty.count()}, {"ns", took.count()}});
        }
        answer(r, machine_->dirty_log(mode == "hardware"        ? abi::DirtyLogMode::Hardware
                                      : mode == "write-protect" ? abi::DirtyLogMode::WriteProtect
                                                                : abi::DirtyLogMode::Off));
    });
    // {"columns": c, "rows": r}: the client's terminal; the last one that says so counts.
    const auto resize = [this](const Json& a) {
        const auto columns = a.value("columns", 0u), rows = a.value("rows", 0u);
        if (columns > 0 && columns < 1000 && rows > 0 && rows < 1000)
            hvc_->resize(static_cast<std::uint16_t>(columns), static_cast<std::uint16_t>(rows));
    };
    commands_.add("console-size", [resize](const Json& a, const Reply& r) {
        resize(a);
        r.ok();
    });
    commands_.add("console", [this, resize](const Json& a, const Reply& r) {
        resize(a);
        r.upgrade(Json::object(),
                  [this](boost::asio::local::stream_protocol::socket s) { console_.attach(std::move(s)); });
    });
    commands_.add("console-history", [this](const Json&, const Reply& r) {
        r.ok({{"text", console_.history()}});
    });
    commands_.add("config", [this](const Json&, const Reply& r) { r.ok({{"text", config_.text}}); });
}

}  // namespace proa::vmm
