// The power button's way into the guest: a PL061 driven as Linux drives it, and the button that is wired to it.
#include <gtest/gtest.h>

#include <deque>

#include "vmm/devices/gpio.hpp"
#include "vmm/devices/power_button.hpp"

namespace proa::vmm {
namespace {

constexpr std::uint64_t kDir = 0x400, kIs = 0x404, kIbe = 0x408, kIev = 0x40c, kIe = 0x410, kRis = 0x414,
                        kMis = 0x418, kIc = 0x41c;
constexpr std::uint64_t data(unsigned mask) {
    return mask << 2;
}

struct Gpio {
    bool line = false;
    Pl061 device{[this](bool level) { line = level; }};
    void write(std::uint64_t at, std::uint64_t v) { device.write(at, 4, v); }
    std::uint64_t read(std::uint64_t at) { return device.read(at, 4); }
};

TEST(Pl061, TheAddressOfAnAccessMasksTheLinesItTouches) {
    Gpio g;
    g.write(kDir, 0x0f);
    g.write(data(0x05), 0xff);
    EXPECT_EQ(g.read(data(0xff)), 0x05u);
    g.write(data(0x01), 0x00);
    EXPECT_EQ(g.read(data(0xff)), 0x04u);
    EXPECT_EQ(g.read(data(0x04)), 0x04u);
    EXPECT_EQ(g.read(data(0x03)), 0x00u);
    g.device.set_input(7, true);
    EXPECT_EQ(g.read(data(0xff)), 0x84u) << "inputs show beside outputs";
}

TEST(Pl061, ARisingEdgeLatchesUntilItIsCleared) {
    Gpio g;
    g.write(kIev, 1 << 3);
    g.write(kIe, 1 << 3);
    g.device.set_input(3, true);
    EXPECT_TRUE(g.line);
    g.device.set_input(3, false);
    EXPECT_TRUE(g.line) << "the edge is remembered";
    EXPECT_EQ(g.read(kMis), 8u);
    g.write(kIc, 1 << 3);
    EXPECT_FALSE(g.line);
}

TEST(Pl061, EdgesCountAsConfigured) {
    struct {
        std::uint64_t both, rising;
        bool on_rise, on_fall;
    } const rows[] = {{0, 8, true, false}, {0, 0, false, true}, {8, 0, true, true}, {8, 8, true, true}};
    for (const auto& r : rows) {
        Gpio g;
        g.write(kIbe, r.both);
        g.write(kIev, r.rising);
        g.write(kIe, 8);
        g.device.set_input(3, true);
        EXPECT_EQ(g.line, r.on_rise);
        g.write(kIc, 8);
        g.device.set_input(3, false);
        EXPECT_EQ(g.line, r.on_fall);
    }
}

TEST(Pl061, ALevelInterruptFollowsItsLine) {
    Gpio g;
    g.write(kIs, 8);
    g.write(kIev, 8);
    g.write(kIe, 8);
    EXPECT_FALSE(g.line);
    g.device.set_input(3, true);
    EXPECT_TRUE(g.line);
    g.write(kIc, 8);
    EXPECT_TRUE(g.line) << "GPIOIC does not clear a level";
    g.device.set_input(3, false);
    EXPECT_FALSE(g.line);
    g.write(kIev, 0);
    EXPECT_TRUE(g.line) << "low is active now";
}

TEST(Pl061, AnInterruptThatIsOffIsRawOnlyAndIdentifiesItself) {
    Gpio g;
    g.write(kIev, 8);
    g.device.set_input(3, true);
    EXPECT_FALSE(g.line);
    EXPECT_EQ(g.read(kRis), 8u);
    EXPECT_EQ(g.read(kMis), 0u);
    EXPECT_FALSE(g.device.watched(3));
    g.write(kIe, 8);
    EXPECT_TRUE(g.line);
    EXPECT_TRUE(g.device.watched(3));
    const std::uint8_t id[8] = {0x61, 0x10, 0x04, 0x00, 0x0d, 0xf0, 0x05, 0xb1};
    for (unsigned i = 0; i < 8; ++i) EXPECT_EQ(g.read(0xfe0 + 4 * i), id[i]);
}

TEST(Pl061, StateGoesOnElsewhereAndBadStateChangesNothing) {
    Gpio a;
    a.write(kIev, 8);
    a.write(kIe, 8);
    a.device.set_input(3, true);
    const auto state = a.device.save();
    Gpio b;
    for (std::size_t cut = 0; cut < state.size(); ++cut)
        EXPECT_FALSE(b.device.load(std::span(state).first(cut)));
    EXPECT_EQ(b.read(kRis), 0u);
    ASSERT_TRUE(b.device.load(state));
    EXPECT_FALSE(b.line) << "nothing moves before resume()";
    b.device.resume();
    EXPECT_TRUE(b.line);
    EXPECT_EQ(b.read(data(8)), 8u);
    b.device.reset();
    EXPECT_FALSE(b.line);
    EXPECT_EQ(b.read(data(8)), 8u) << "a reset of the guest does not release what is pressed outside";
}

struct Button {
    bool down = false;
    std::deque<std::function<void()>> timers;
    PowerButton device{[this](bool d) { down = d; },
                       [this](std::function<void()> f) { timers.push_back(std::move(f)); }};
    void elapse() {
        auto f = std::move(timers.front());
        timers.pop_front();
        f();
    }
};

TEST(PowerButton, IsHeldForAMomentAndASecondPressHoldsItLonger) {
    Button b;
    b.device.press(PowerButton::Intent::PowerOff);
    EXPECT_TRUE(b.down);
    b.device.press(PowerButton::Intent::Reboot);
    b.elapse();
    EXPECT_TRUE(b.down) << "the first press's release is not the second's";
    b.elapse();
    EXPECT_FALSE(b.down);
    EXPECT_EQ(b.device.intent(), PowerButton::Intent::Reboot) << "what the guest does next is still due to it";
    b.device.reset();
    EXPECT_EQ(b.device.intent(), PowerButton::Intent::None);
}

TEST(PowerButton, IsReleasedOnTheHostItMovedTo) {
    Button a, b;
    a.device.press(PowerButton::Intent::Reboot);
    a.device.quiesce();
    a.elapse();
    EXPECT_TRUE(a.down) << "nothing changes once state is being saved";
    ASSERT_TRUE(b.device.load(a.device.save()));
    b.device.resume();
    EXPECT_EQ(b.device.intent(), PowerButton::Intent::Reboot);
    b.down = true;  // the PL061's own state says so
    b.elapse();
    EXPECT_FALSE(b.down);
    a.device.resume();  // or the move failed: the source releases it
    a.elapse();
    EXPECT_FALSE(a.down);
    EXPECT_FALSE(b.device.load(std::vector<std::uint8_t>{1, 0, 0, 0, 9, 0}));
}

}  // namespace
}  // namespace proa::vmm
