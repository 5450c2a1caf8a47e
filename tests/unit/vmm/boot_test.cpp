#include <gtest/gtest.h>
#include <libfdt.h>
#include <unistd.h>

#include <cstring>
#include <fstream>

#include "vmm/boot/boot.hpp"

namespace proa::vmm {
namespace {

class BootTest : public ::testing::Test {
  protected:
    std::string file(const std::string& name, const std::string& content) {
        const std::string path = ::testing::TempDir() + "proa-boot-" + std::to_string(::getpid()) + name;
        std::ofstream(path, std::ios::binary) << content;
        files.push_back(path);
        return path;
    }
    static std::string image(std::uint64_t text_offset, std::uint64_t size) {
        std::string s(4096, '\0');
        std::memcpy(s.data() + 8, &text_offset, 8);
        std::memcpy(s.data() + 16, &size, 8);
        std::memcpy(s.data() + 56, "ARM\x64", 4);
        return s;
    }
    void TearDown() override {
        for (const auto& f : files) ::unlink(f.c_str());
    }
    std::vector<std::string> files;
    std::vector<std::uint8_t> ram = std::vector<std::uint8_t>(16u << 20);
    GuestMemory memory{ram};
};

TEST_F(BootTest, AnImageGoesWhereItsHeaderSays) {
    const auto p = load_guest(
        memory, {file("k", image(0x8'0000, 0x10'0000)), file("r", "ramdisk"), "console=hvc0", 2, {0, 3}});
    ASSERT_TRUE(p) << p.error().what;
    EXPECT_EQ(p->entry, abi::kRamBase + 0x8'0000);
    const void* t = memory.slice(p->tree, 4096)->data();
    ASSERT_EQ(fdt_check_header(t), 0);
    const int chosen = fdt_path_offset(t, "/chosen");
    EXPECT_STREQ(static_cast<const char*>(fdt_getprop(t, chosen, "bootargs", nullptr)), "console=hvc0");
    EXPECT_GE(fdt_path_offset(t, "/cpus/cpu@1"), 0);
    EXPECT_LT(fdt_path_offset(t, "/cpus/cpu@2"), 0);
    EXPECT_GE(fdt_path_offset(t, "/virtio_mmio@a000600"), 0);
    EXPECT_GE(fdt_node_offset_by_compatible(t, -1, "arm,gic-v3"), 0);
    const int gpio = fdt_path_offset(t, "/pl061@9030000"), key = fdt_path_offset(t, "/gpio-keys/poweroff");
    auto* wire = static_cast<const fdt32_t*>(fdt_getprop(t, key, "gpios", nullptr));
    ASSERT_NE(wire, nullptr);
    EXPECT_EQ(fdt32_to_cpu(wire[0]), fdt_get_phandle(t, gpio)) << "the power button is a line of the GPIO";
    EXPECT_EQ(fdt32_to_cpu(wire[1]), 3u);
    EXPECT_GE(fdt_node_offset_by_compatible(t, -1, "arm,psci-0.2"), 0);
    auto* start = static_cast<const fdt64_t*>(fdt_getprop(t, chosen, "linux,initrd-start", nullptr));
    ASSERT_NE(start, nullptr);
    EXPECT_EQ(std::memcmp(memory.slice(fdt64_to_cpu(*start), 7)->data(), "ramdisk", 7), 0);
}

TEST_F(BootTest, AFlatBinaryLoadsWhereQemuPutsIt) {
    const auto p = load_guest(memory, {file("k", std::string(4096, 'x')), "", "", 1, {}});
    ASSERT_TRUE(p);
    EXPECT_EQ(p->entry, abi::kRamBase + 0x8'0000);
}

TEST_F(BootTest, WhatDoesNotFitIsRefusedByName) {
    const auto big = load_guest(memory, {file("k", image(0, 64u << 20)), "", "", 1, {}});
    ASSERT_FALSE(big);
    EXPECT_NE(big.error().what.find("needs 64 MiB"), std::string::npos) << big.error().what;
    EXPECT_FALSE(load_guest(memory, {file("k2", image(~0ull - 4096, 1)), "", "", 1, {}}));
    EXPECT_FALSE(load_guest(memory, {"/nonexistent", "", "", 1, {}}));
    EXPECT_FALSE(
        load_guest(memory, {file("k3", std::string("\x1f\x8b") + std::string(100, 'x')), "", "", 1, {}}));
}

}  // namespace
}  // namespace proa::vmm
