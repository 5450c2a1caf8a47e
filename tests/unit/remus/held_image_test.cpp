// The image of a checkpoint, read while vCPUs and device models write.
#include "remus/held_image.hpp"

#include <gtest/gtest.h>

#include "migrate/on_guest.hpp"
#include "tests/support/fake_guest.hpp"

namespace proa::remus {
namespace {

struct Checkpoint {
    explicit Checkpoint(test::FakeGuest& g) : guest(g), image(g.memory(), *g.machine().checkpoints()) {}

    // Pauses, holds everything that was written, and lets the guest go on.
    void take() {
        migrate::on_guest(guest, [this] {
            EXPECT_TRUE(guest.pause_briefly());
            dirtylog::Bitmap dirty(guest.memory().pages());
            guest.memory().take_device_writes(dirty);
            EXPECT_TRUE(guest.machine().checkpoints()->hold(dirty));
            std::vector<std::uint64_t> words(dirty.words());
            dirty.drain([&](std::uint64_t w, std::uint64_t bits) { words[w] = bits; });
            const auto ram = guest.memory().bytes();
            was.assign(ram.begin(), ram.end());
            image.begin(std::move(words));
            guest.memory().watch(&image);
            EXPECT_TRUE(guest.go_on());
            return 0;
        });
    }
    std::uint64_t wrong_pages() {
        std::vector<std::uint8_t> staging(64 * 4096);
        std::uint64_t wrong = 0;
        for (std::uint64_t w = 0; w < image.words().size(); ++w) {
            if (image.words()[w] == 0) continue;
            image.read(w, staging);
            for (unsigned i = 0; i < 64; ++i)
                if ((image.words()[w] >> i & 1) != 0)
                    wrong +=
                        std::memcmp(staging.data() + i * 4096, was.data() + (w * 64 + i) * 4096, 4096) != 0;
        }
        return wrong;
    }
    void end() {
        migrate::on_guest(guest, [this] {
            guest.memory().watch(nullptr);
            image.end();
            return guest.machine().checkpoints()->release_all().has_value();
        });
    }
    test::FakeGuest& guest;
    HeldImage image;
    std::vector<std::uint8_t> was;
};

// As a device model stores: announced, then done.
void store(test::FakeGuest& g, std::uint64_t page, std::uint8_t value) {
    const std::uint64_t gpa = abi::kRamBase + page * 4096 + 8;
    g.memory().before_write(gpa, 4);
    std::memset(g.memory().slice(gpa, 4)->data(), value, 4);
    g.memory().mark_dirty(gpa, 4);
}

TEST(HeldImage, ReadsWhatWasThereAtThePauseWhoeverWritesMeanwhile) {
    test::FakeGuest guest(4u << 20, 3, vmm::GuestState::Running);
    guest.machine().pages_per_ms = 200;
    migrate::on_guest(guest, [&] {
        EXPECT_TRUE(guest.machine().checkpoints()->start(abi::DirtyLogMode::WriteProtect));
        return guest.machine().run().has_value();
    });
    Checkpoint c(guest);
    std::uint64_t copied = 0;
    for (unsigned round = 0; round < 30; ++round) {
        const std::uint64_t so_far = guest.machine().writes();
        while (guest.machine().writes() < so_far + 300) std::this_thread::yield();
        migrate::on_guest(guest, [&] {
            for (std::uint64_t p = 0; p < 64; ++p) store(guest, p * 11 % guest.memory().pages(), 1);
            return 0;
        });
        c.take();
        const std::uint64_t at_pause = guest.machine().writes();
        while (guest.machine().writes() < at_pause + 100)
            std::this_thread::yield();  // vCPUs are ahead of the reader
        migrate::on_guest(guest, [&] {
            for (std::uint64_t p = 0; p < 64; ++p)
                store(guest, p * 7 % guest.memory().pages(), static_cast<std::uint8_t>(round));
            return 0;
        });
        EXPECT_EQ(c.wrong_pages(), 0u) << "in round " << round;
        copied += c.image.copied();
        c.end();
    }
    EXPECT_GT(copied, 100u) << "nobody wrote to held pages: this test looked at nothing";
}

TEST(HeldImage, ADeviceThatWritesFirstIsCopiedBeforeTheVcpuWrites) {
    test::FakeGuest guest(2u << 20, 3, vmm::GuestState::Paused);
    migrate::on_guest(guest, [&] {
        return guest.machine().checkpoints()->start(abi::DirtyLogMode::WriteProtect).has_value();
    });
    store(guest, 5, 0x11);
    Checkpoint c(guest);
    c.take();
    store(guest, 5, 0x22);
    EXPECT_EQ(c.image.copied(), 1u);
    store(guest, 5, 0x33);
    EXPECT_EQ(c.image.copied(), 1u) << "once is enough";
    EXPECT_EQ(c.wrong_pages(), 0u);
    store(guest, 5, 0x44);
    EXPECT_EQ(c.image.copied(), 1u) << "what was read needs no copy";
    c.end();
}

}  // namespace
}  // namespace proa::remus
