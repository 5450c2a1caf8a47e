// The guest's power button: wired to a GPIO line, held for a moment so that a driver that debounces sees it (QEMU's
// gpio-key holds it as long). It remembers what the press was meant to lead to, so that a guest that powers off on
// another host than it was asked on still restarts if `proa reboot` asked it. Not on the bus: it has no registers.
#pragma once
#include <chrono>
#include <functional>

#include "vmm/blob.hpp"
#include "vmm/device.hpp"

namespace proa::vmm {

class PowerButton final : public Device {
  public:
    enum class Intent : std::uint8_t { None = 0, PowerOff = 1, Reboot = 2 };
    static constexpr std::chrono::milliseconds kHold{100};
    // Calls its argument after kHold, on the guest's strand.
    using After = std::function<void(std::function<void()>)>;

    PowerButton(std::function<void(bool)> line, After after)
        : line_(std::move(line)), after_(std::move(after)) {}
    std::string name() const override { return "power-button"; }
    std::uint64_t read(std::uint64_t, unsigned) override { return 0; }
    void write(std::uint64_t, unsigned, std::uint64_t) override {}

    void press(Intent i) {
        intent_ = i;
        if (!held_) line_(held_ = true);
        hold();
    }
    Intent intent() const { return intent_; }

    void reset() override {
        intent_ = Intent::None;
        release();
    }
    void quiesce() override {
        ++press_;
    }  // a release that comes due now must not change the GPIO's saved state
    void resume() override {
        if (held_) hold();
    }
    std::vector<std::uint8_t> save() const override {
        BlobWriter w;
        w.put(std::uint32_t{1});
        w.put(static_cast<std::uint8_t>(intent_));
        w.put(static_cast<std::uint8_t>(held_));
        return w.take();
    }
    Result<void> load(std::span<const std::uint8_t> state) override {
        BlobReader r(state);
        const auto version = r.get<std::uint32_t>();
        const auto intent = r.get<std::uint8_t>(), held = r.get<std::uint8_t>();
        if (!r.complete() || version != 1 || intent > 2 || held > 1)
            return fail("power-button: state refused: malformed");
        intent_ = static_cast<Intent>(intent);
        held_ = held != 0;
        return {};
    }

  private:
    void hold() {
        after_([this, n = ++press_] {
            if (n == press_) release();
        });
    }
    void release() {
        ++press_;
        if (held_) line_(held_ = false);
    }
    std::function<void(bool)> line_;
    After after_;
    Intent intent_ = Intent::None;
    bool held_ = false;
    std::uint32_t press_ = 0;  // a release belongs to the press it follows
};

}  // namespace proa::vmm
