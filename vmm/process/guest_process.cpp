#include "vmm/process/guest_process.hpp"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <cstdio>
#include <iterator>

#include "vmm/process/mac.hpp"
#include "vmm/virtio/block.hpp"
#include "vmm/virtio/tap.hpp"

namespace proa::vmm {

const char* name_of(GuestState s) {
    static const char* const names[] = {"created",  "running", "paused",   "migrating", "switching",
                                        "incoming", "standby", "in-doubt", "stopped",   "crashed"};
    static_assert(std::size(names) == static_cast<unsigned>(GuestState::Crashed) + 1);
    return names[static_cast<unsigned>(s)];
}

Result<std::unique_ptr<GuestProcess>> GuestProcess::create(boost::asio::io_context& io, GuestConfig config,
                                                           GuestOptions options) {
    std::unique_ptr<GuestProcess> p(new GuestProcess(io, std::move(config), std::move(options)));
    if (auto r = p->build(); !r) return tl::unexpected(r.error());
    p->register_commands();
    p->wait_for_events();
    return p;
}

GuestProcess::GuestProcess(boost::asio::io_context& io, GuestConfig config, GuestOptions options)
    : io_(io),
      config_(std::move(config)),
      options_(std::move(options)),
      console_([this](std::span<const std::uint8_t> b) {
          if (hvc_ != nullptr && hvc_->active())
              hvc_->input(b);
          else
              uart_->input(b);
      }),
      events_(io) {}

GuestProcess::~GuestProcess() {
    if (events_.is_open()) events_.release();  // the machine's
    for (Device* d : devices_) d->quiesce();
    incoming_memory_.reset();
    machine_.reset();
}

Result<void> GuestProcess::build() {
    const std::uint64_t ram = config_.memory_mib << 20, all = ram + HugeMemory::kChunk;
    int fd = options_.memfd;
    if (fd < 0) {
        auto made = create_huge_memfd(config_.name, all);
        if (!made) return tl::unexpected(made.error());
        fd = *made;
    }
    auto huge = HugeMemory::map(fd, all);
    if (!huge) return tl::unexpected(huge.error());
    huge_ = std::move(*huge);
    memory_ = std::make_unique<GuestMemory>(huge_->bytes().first(ram));
    if (options_.incoming) memory_->mark_all_written();  // by the one that brings it
    if (!options_.log_file.empty()) log_ = std::make_unique<ConsoleLog>(options_.log_file);

    if (auto r = make_machine(); !r) return r;
    add_devices();
    unsigned slot = 0;
    const Post post = [this](std::function<void()> f) { io_.post(std::move(f)); };
    for (const auto& d : config_.disks) {
        auto b = BlockBackend::open(d.path, d.read_only, post);
        if (!b) return tl::unexpected(b.error());
        if (!d.read_only) disks_.push_back(b->get());
        if (auto r = add_virtio(slot++, std::move(*b)); !r) return r;
    }
    for (std::size_t i = 0; i < config_.vifs.size(); ++i) {
        const auto& v = config_.vifs[i];
        auto tap = TapPort::open(
            io_, v.name.empty() ? "vif" + std::to_string(options_.slot) + "." + std::to_string(i) : v.name,
            v.bridge);
        if (!tap) return tl::unexpected(tap.error());
        TapPort* port = tap->get();
        auto gate = gates_.gate(std::move(*tap));
        OutputGate* const output = gate.get();
        auto net = std::make_unique<NetBackend>(
            std::move(gate), mac_for(config_.name, i, v.mac),
            [this](std::chrono::milliseconds delay, std::function<void()> f) { after(delay, std::move(f)); });
        NetBackend* backend = net.get();
        if (auto r = add_virtio(slot++, std::move(net)); !r) return r;
        port->on_input([backend] { backend->input(); });
        output->on_room([backend] { backend->output(); });
    }
    auto hvc = std::make_unique<ConsoleBackend>([this](auto b) { print(b); });
    hvc_ = hvc.get();
    if (auto r = add_virtio(slot++, std::move(hvc)); !r) return r;
    if (auto r = add_virtio(slot++, std::make_unique<RngBackend>()); !r) return r;
    if (options_.incoming) state_ = GuestState::Incoming;
    return {};
}

Result<void> GuestProcess::make_machine() {
    const std::uint64_t chunks = memory_->size() / HugeMemory::kChunk;
    if (auto r = huge_->populate(chunks, 1); !r) return r;  // the control area
    MachineConfig mc;
    mc.name = config_.name;
    mc.vcpus = config_.vcpus;
    mc.weight = config_.weight;
    mc.memory = memory_.get();
    mc.policy = options_.policy;
    auto m = HvMachine::create(options_.slot, *huge_, mc);
    if (!m) return tl::unexpected(m.error());
    HvMachine* const machine = m->get();
    machine_ = std::move(*m);
    if (config_.pcpus != ~0ull)
        for (unsigned v = 0; v < config_.vcpus; ++v)
            if (auto r = machine_->set_affinity(v, config_.pcpus); !r) return r;
    const auto populate = [this](std::uint64_t chunk) { return huge_->populate(chunk, 1); };
    const auto present = [machine] { return machine->map_ram(); };
    if (options_.incoming) {
        incoming_memory_ = std::make_unique<IncomingMemory>(io_, chunks, populate, present);
        return {};
    }
    if (auto r = huge_->populate(0, chunks); !r) return r;
    return machine->map_ram();
}

void GuestProcess::print(std::span<const std::uint8_t> b) {
    console_.output(b);
    if (log_) log_->write(b);
}

void GuestProcess::add_devices() {
    const auto line = [this](std::uint32_t intid) {
        return [this, intid, last = false](bool level) mutable {
            if (level != last) machine_->set_irq(intid, last = level);
        };
    };
    const auto add = [this](auto device, std::uint64_t base, std::uint64_t size) {
        auto* d = device.get();
        if (size != 0) bus_.add(base, size, *d);
        devices_.push_back(d);
        owned_.push_back(std::move(device));
        return d;
    };
    uart_ = add(std::make_unique<Pl011>([this](auto b) { print(b); }, line(abi::kUartIntid)), abi::kUartBase,
                abi::kUartSize);
    add(std::make_unique<Pl031>(), abi::kRtcBase, abi::kRtcSize);
    gpio_ = add(std::make_unique<Pl061>(line(abi::kGpioIntid)), abi::kGpioBase, abi::kGpioSize);
    button_ = add(std::make_unique<PowerButton>(
                      [this](bool down) { gpio_->set_input(abi::kPowerButtonPin, down); },
                      [this](std::function<void()> f) { after(PowerButton::kHold, std::move(f)); }),
                  0, 0);
}

void GuestProcess::after(std::chrono::milliseconds delay, std::function<void()> f) {
    auto timer = std::make_shared<boost::asio::steady_timer>(io_, delay);
    timer->async_wait([timer, f = std::move(f)](auto e) {
        if (!e) f();
    });
}

Result<void> GuestProcess::add_virtio(unsigned slot, std::unique_ptr<VirtioBackend> backend) {
    if (slot >= abi::kVirtioSlots) return fail("too many devices: there are 32 virtio slots");
    const std::uint64_t base = abi::kVirtioBase + slot * abi::kVirtioStride;
    auto d = std::make_unique<VirtioMmio>(slot, *memory_, std::move(backend), [this, slot](std::uint32_t bits) {
        machine_->set_latch(slot, bits);
    });
    if (auto r = machine_->define_notify(base + 0x50, slot); !r) return r;
    if (auto r = machine_->define_latch(slot, base + 0x60, abi::kVirtioIntid0 + slot); !r) return r;
    bus_.add(base, abi::kVirtioStride, *d);
    virtio_.push_back(d.get());
    devices_.push_back(d.get());
    owned_.push_back(std::move(d));
    return {};
}

Result<void> GuestProcess::boot() {
    BootRequest b;
    b.kernel = config_.kernel;
    b.ramdisk = config_.ramdisk;
    b.command_line = config_.extra;
    b.vcpus = config_.vcpus;
    for (const VirtioMmio* v : virtio_) b.virtio_slots.push_back(v->slot());
    auto plan = load_guest(*memory_, b);
    if (!plan) return tl::unexpected(plan.error());
    auto s = machine_->save();
    if (!s) return tl::unexpected(s.error());
    abi::VcpuState& v = s->vcpus[0];
    v.power = abi::PowerState::On;
    v.pc = plan->entry;
    v.x[0] = plan->tree;
    return machine_->load(*s);
}

Result<void> GuestProcess::start() {
    if (auto r = boot(); !r) return r;
    if (options_.start_paused) {
        state_ = GuestState::Paused;
        return {};
    }
    auto r = machine_->run();
    if (r && state_ != GuestState::Migrating) state_ = GuestState::Running;
    return r;
}

Result<void> GuestProcess::pause() {
    auto r = machine_->pause();
    if (r) state_ = GuestState::Paused;
    return r;
}

Result<void> GuestProcess::unpause() {
    if (std::exchange(frozen_, false)) {  // a move that ended here, maybe by hand after one in doubt
        for (Device* d : devices_) d->resume();
        if (ended_while_frozen_) {
            std::exchange(ended_while_frozen_, {})();
            return {};
        }
    }
    auto r = machine_->run();
    if (r && state_ != GuestState::Migrating) state_ = GuestState::Running;  // a reboot does not end a move
    return r;
}

Result<void> GuestProcess::reboot() {
    if (auto r = machine_->pause(); !r) return r;
    for (Device* d : devices_) d->reset();
    if (auto r = machine_->reset(); !r) return r;
    spdlog::info("{}: rebooting", config_.name);
    if (auto r = boot(); !r) return r;
    return unpause();
}

Result<void> GuestProcess::press(PowerButton::Intent intent) {
    if (!gpio_->watched(abi::kPowerButtonPin))
        return fail(
            "nothing in " + config_.name + " listens to its power button",
            "its kernel needs gpio-keys (or a program that watches line 3 of gpiochip0); without: poweroff in "
            "its console, or proa destroy");
    button_->press(intent);
    return {};
}

Result<void> GuestProcess::freeze() {
    if (auto r = machine_->pause(); !r) return r;
    frozen_ = true;
    state_ = GuestState::Switching;
    machine_->dispatch(*this);  // exits and notifies from before the pause
    for (Device* d : devices_) d->quiesce();
    if (ended_while_frozen_)
        return fail(config_.name + " stopped by itself at the moment it should have moved",
                    "proa list tells whether it runs");
    return {};
}

void GuestProcess::hear_events() {
    machine_->dispatch(*this);
}

Result<void> GuestProcess::thaw() {
    return unpause();
}

// As freeze(): a guest that ends at this moment does what that asks for in go_on().
Result<void> GuestProcess::pause_briefly() {
    if (frozen_) return fail(config_.name + " stands still already");
    if (auto r = machine_->pause(); !r) return r;
    frozen_ = true;
    machine_->dispatch(*this);
    for (Device* d : devices_) d->quiesce();
    if (ended_while_frozen_)
        return fail(config_.name + " stopped by itself at the moment of a checkpoint",
                    "proa list tells whether it runs");
    return {};
}

Result<void> GuestProcess::go_on() {
    if (!std::exchange(frozen_, false)) return {};  // a reboot came in between: it runs
    for (Device* d : devices_) d->resume();
    if (ended_while_frozen_) {
        std::exchange(ended_while_frozen_, {})();
        return {};
    }
    if (state_ != GuestState::Running) return {};  // somebody paused it meanwhile, or its fence has passed
    return machine_->checkpoints()->resume();
}

Result<void> GuestProcess::start_incoming() {
    if (incoming_memory_ && !incoming_memory_->ready()) return fail(name() + ": its memory is not all there");
    // First: where CPUs are few, a guest that runs takes them from what it waits for.
    for (Device* d : devices_) d->arrive();
    if (auto r = machine_->run(); !r) return r;
    for (Device* d : devices_) d->resume();
    state_ = GuestState::Running;
    return {};
}

void GuestProcess::shut_down(int code) {
    exit_code_ = code;
    state_ = GuestState::Stopped;
    if (incoming_memory_) incoming_memory_->stop();
    if (ended_) std::exchange(ended_, {})();
    io_.stop();
}

void GuestProcess::wait_for_events() {
    events_.assign(machine_->event_fd());
    const auto loop = [this](auto&& self) -> void {
        events_.async_wait(boost::asio::posix::stream_descriptor::wait_read,
                           [this, self](const boost::system::error_code& e) {
                               if (e) return;
                               machine_->dispatch(*this);
                               self(self);
                           });
    };
    loop(loop);
}

std::uint64_t GuestProcess::mmio_read(std::uint64_t gpa, unsigned size) {
    return bus_.read(gpa, size);
}
void GuestProcess::mmio_write(std::uint64_t gpa, unsigned size, std::uint64_t value) {
    bus_.write(gpa, size, value);
}
void GuestProcess::notified(unsigned device, std::uint64_t queues) {
    if (device < virtio_.size()) virtio_[device]->notified(queues);
}

// A guest that ends while it is frozen for its move must neither restart nor vanish under the engine: it waits for
// thaw(). (A destination never sees it: freeze() fails.)
void GuestProcess::ended(OnEnd action, const char* what, GuestState left) {
    if (frozen_) {
        ended_while_frozen_ = [=, this] { ended(action, what, left); };
        return;
    }
    spdlog::info("{}: {}", config_.name, what);
    switch (action) {
        case OnEnd::Destroy: return shut_down(0);
        case OnEnd::Preserve: state_ = left; return;
        case OnEnd::Restart:
            if (auto r = reboot(); !r) {
                spdlog::error("{}: cannot restart: {}", config_.name, r.error().what);
                shut_down(1);
            }
    }
}
void GuestProcess::powered_off() {
    if (button_->intent() == PowerButton::Intent::Reboot)
        return ended(config_.on_reboot, "the guest shut down for a reboot", GuestState::Stopped);
    ended(config_.on_poweroff, "the guest powered off", GuestState::Stopped);
}
void GuestProcess::reset_requested() {
    ended(config_.on_reboot, "the guest asked for a reboot", GuestState::Stopped);
}
void GuestProcess::crashed(const std::string& why) {
    spdlog::error("{}: crashed: {}", config_.name, why);
    ended(config_.on_crash, "the guest crashed", GuestState::Crashed);
}

void GuestProcess::fenced() {
    // The machine stands; this makes it a paused one, whose clock stands too.
    if (auto r = machine_->pause(); !r) spdlog::error("{}: {}", config_.name, r.error().what);
    if (state_ == GuestState::Running || state_ == GuestState::Migrating) state_ = GuestState::Paused;
    if (fenced_) return fenced_();
    spdlog::warn("{}: its fence has passed: paused", config_.name);
}

}  // namespace proa::vmm
