// One running guest: memory, machine, devices, console, lifecycle. Everything happens on one io_context's thread.
#pragma once
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "vmm/boot/boot.hpp"
#include "vmm/config/guest_config.hpp"
#include "vmm/devices/gpio.hpp"
#include "vmm/devices/power_button.hpp"
#include "vmm/devices/uart.hpp"
#include "vmm/guest.hpp"
#include "vmm/hv/hv_machine.hpp"
#include "vmm/json_lines.hpp"
#include "vmm/process/console_log.hpp"
#include "vmm/process/console_stream.hpp"
#include "vmm/process/incoming_memory.hpp"
#include "vmm/process/mmio_bus.hpp"
#include "vmm/virtio/console.hpp"
#include "vmm/virtio/mmio.hpp"
#include "vmm/virtio/output_gate.hpp"

namespace proa::vmm {

struct GuestOptions {
    unsigned slot = 1;
    int memfd = -1;         // from proad; -1: make one
    bool incoming = false;  // wait for a migration instead of booting
    bool start_paused = false;
    abi::CpuPolicy policy{};  // incoming: what the guest was shown at its source
    std::string log_file;     // of the guest's console; empty: none
};

class GuestProcess final : public Guest, private MachineEvents {
  public:
    static Result<std::unique_ptr<GuestProcess>> create(boost::asio::io_context& io, GuestConfig config,
                                                        GuestOptions options);
    ~GuestProcess() override;

    boost::asio::io_context& io() override { return io_; }
    const std::string& name() const override { return config_.name; }
    const GuestConfig& config() const { return config_; }
    const GuestOptions& options() const { return options_; }
    Machine& machine() override { return *machine_; }
    GuestMemory& memory() override { return *memory_; }
    const std::vector<Device*>& devices() const override { return devices_; }
    GuestState state() const override { return state_; }
    void set_state(GuestState s) override { state_ = s; }
    Output* output() override { return &gates_; }
    std::vector<Disk*> disks() override { return disks_; }
    CommandRegistry& commands() { return commands_; }
    Json info();  // what the command `info` answers

    // Boot the kernel (not incoming). Incoming: run what was loaded.
    Result<void> start();
    Result<void> pause();
    Result<void> unpause();
    Result<void> reboot();  // at once, as a reset button would
    // Presses the guest's power button, or says that nothing in the guest listens to it.
    Result<void> press(PowerButton::Intent intent);
    void shut_down(int exit_code);  // ends io.run(); the guest is destroyed with this object

    Result<void> freeze() override;
    Result<void> thaw() override;
    Result<void> start_incoming() override;
    void begin_memory() override {
        if (incoming_memory_) incoming_memory_->begin();
    }
    Result<bool> has_memory(std::chrono::milliseconds within) override {
        return incoming_memory_ ? incoming_memory_->within(within) : Result<bool>(true);
    }
    void hear_events() override;
    Result<void> pause_briefly() override;
    Result<void> go_on() override;
    // What `unpause` does to a guest in doubt: a human vouches that it doesn't run at the destination.
    void when_doubt_ends(std::function<void()> f) { doubt_ends_ = std::move(f); }
    void when_ended(std::function<void()> f) { ended_ = std::move(f); }  // the guest stopped or left
    // What a service has to say about the guest: called with every `info`'s answer before it leaves.
    void describe_more(std::function<void(Json&)> f) { describe_more_ = std::move(f); }
    // The fence has stopped it. It is paused then; without a hook, until somebody unpauses it.
    void when_fenced(std::function<void()> f) { fenced_ = std::move(f); }
    int exit_code() const { return exit_code_; }
    // What keeps it from being moved, protected, paused or measured meanwhile: what it is ("protected"), and what who wants one
    // of those can do about it.
    void occupy(const std::string& is, std::string remedy) {
        occupied_ = Error{config_.name + " is " + is, std::move(remedy)};
    }
    void leave() { occupied_.reset(); }
    const std::optional<Error>& occupied() const { return occupied_; }
    // Why nothing else may use its dirty log now, if so: checkpoints of it are being measured.
    std::optional<Error> measured() const;

  private:
    GuestProcess(boost::asio::io_context& io, GuestConfig config, GuestOptions options);
    Result<void> build();
    Result<void> make_machine();
    Result<void> add_virtio(unsigned slot, std::unique_ptr<VirtioBackend> backend);
    Result<void> boot();
    void wait_for_events();
    void register_commands();
    void add_devices();
    void print(std::span<const std::uint8_t> b);  // the guest's console output
    void after(std::chrono::milliseconds delay, std::function<void()> f);
    void ended(OnEnd action, const char* what, GuestState left);

    std::uint64_t mmio_read(std::uint64_t gpa, unsigned size) override;
    void mmio_write(std::uint64_t gpa, unsigned size, std::uint64_t value) override;
    void notified(unsigned device, std::uint64_t queues) override;
    void powered_off() override;
    void reset_requested() override;
    void crashed(const std::string& why) override;
    void fenced() override;

    boost::asio::io_context& io_;
    GuestConfig config_;
    GuestOptions options_;
    std::unique_ptr<HugeMemory> huge_;
    std::unique_ptr<GuestMemory> memory_;
    std::unique_ptr<Machine> machine_;
    std::unique_ptr<IncomingMemory> incoming_memory_;
    OutputGates gates_;
    std::vector<Disk*> disks_;  // the writable ones
    std::vector<std::unique_ptr<Device>> owned_;
    std::vector<Device*> devices_;
    std::vector<VirtioMmio*> virtio_;
    Pl011* uart_ = nullptr;
    Pl061* gpio_ = nullptr;
    PowerButton* button_ = nullptr;
    ConsoleBackend* hvc_ = nullptr;
    MmioBus bus_;
    ConsoleStream console_;
    CommandRegistry commands_;
    boost::asio::posix::stream_descriptor events_;
    GuestState state_ = GuestState::Created;
    bool frozen_ = false;  // devices are quiesced
    std::function<void()> ended_, doubt_ends_, fenced_;
    std::function<void(Json&)> describe_more_;
    std::function<void()> ended_while_frozen_;  // what thaw() has to do instead of going on
    std::unique_ptr<ConsoleLog> log_;
    std::optional<Error> occupied_;
    int exit_code_ = 0;
};

}  // namespace proa::vmm
