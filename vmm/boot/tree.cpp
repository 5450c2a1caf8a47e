// The guest's device tree: QEMU virt's map, as much of it as there is.
#include <libfdt.h>
#include <sys/random.h>

#include "vmm/boot/boot.hpp"

namespace proa::vmm {
namespace {

constexpr std::uint32_t kGicPhandle = 1, kClockPhandle = 2, kGpioPhandle = 3;
constexpr std::uint32_t kKeyPower = 116;  // linux/input-event-codes.h
constexpr std::uint32_t kSpi = 0, kPpi = 1, kLevelHigh = 4, kLevelLow = 8;

class Tree {
  public:
    explicit Tree(std::size_t size) : bytes_(size) {
        check(fdt_create(bytes_.data(), static_cast<int>(size)));
        check(fdt_finish_reservemap(bytes_.data()));
    }
    void begin(const std::string& name) { check(fdt_begin_node(bytes_.data(), name.c_str())); }
    void end() { check(fdt_end_node(bytes_.data())); }
    void cells(const char* name, std::initializer_list<std::uint32_t> v) {
        std::vector<fdt32_t> c;
        for (const auto x : v) c.push_back(cpu_to_fdt32(x));
        check(fdt_property(bytes_.data(), name, c.data(), static_cast<int>(c.size() * 4)));
    }
    void reg(std::uint64_t base, std::uint64_t size) { cells("reg", {hi(base), lo(base), hi(size), lo(size)}); }
    void reg2(std::uint64_t a, std::uint64_t as, std::uint64_t b, std::uint64_t bs) {
        cells("reg", {hi(a), lo(a), hi(as), lo(as), hi(b), lo(b), hi(bs), lo(bs)});
    }
    // A string, or several with their NULs inside.
    void text(const char* name, const std::string& v) {
        check(fdt_property(bytes_.data(), name, v.c_str(), static_cast<int>(v.size() + 1)));
    }
    void raw(const char* name, const void* p, std::size_t n) {
        check(fdt_property(bytes_.data(), name, p, static_cast<int>(n)));
    }
    void flag(const char* name) { check(fdt_property(bytes_.data(), name, nullptr, 0)); }
    Result<std::vector<std::uint8_t>> finish() {
        check(fdt_finish(bytes_.data()));
        if (error_ != 0)
            return fail(std::string("cannot build the guest's device tree: ") + fdt_strerror(error_));
        bytes_.resize(fdt_totalsize(bytes_.data()));
        return std::move(bytes_);
    }
    static std::uint32_t hi(std::uint64_t v) { return static_cast<std::uint32_t>(v >> 32); }
    static std::uint32_t lo(std::uint64_t v) { return static_cast<std::uint32_t>(v); }

  private:
    void check(int e) {
        if (e < 0 && error_ == 0) error_ = e;
    }
    std::vector<std::uint8_t> bytes_;
    int error_ = 0;
};

std::string at(const char* name, std::uint64_t address) {
    char b[64];
    std::snprintf(b, sizeof(b), "%s@%llx", name, static_cast<unsigned long long>(address));
    return b;
}

void chosen(Tree& t, const BootRequest& r, std::uint64_t initrd, std::uint64_t initrd_end) {
    t.begin("chosen");
    t.text("bootargs", r.command_line);
    t.text("stdout-path", at("/pl011", abi::kUartBase));
    if (initrd_end > initrd) {
        t.cells("linux,initrd-start", {Tree::hi(initrd), Tree::lo(initrd)});
        t.cells("linux,initrd-end", {Tree::hi(initrd_end), Tree::lo(initrd_end)});
    }
    std::uint8_t seed[40];
    if (::getrandom(seed, sizeof(seed), 0) == sizeof(seed)) {
        t.raw("rng-seed", seed, 32);
        t.raw("kaslr-seed", seed + 32, 8);
    }
    t.end();
}

void cpus(Tree& t, unsigned count) {
    t.begin("cpus");
    t.cells("#address-cells", {1});
    t.cells("#size-cells", {0});
    for (unsigned i = 0; i < count; ++i) {
        t.begin("cpu@" + std::to_string(i));
        t.text("device_type", "cpu");
        t.text("compatible", "arm,armv8");
        t.cells("reg", {i});
        t.text("enable-method", "psci");
        t.end();
    }
    t.end();
    t.begin("psci");
    t.text("compatible", std::string("arm,psci-1.0\0arm,psci-0.2", 25));
    t.text("method", "hvc");
    t.end();
}

void interrupts(Tree& t, unsigned vcpus) {
    t.begin(at("intc", abi::kGicdBase));
    t.text("compatible", "arm,gic-v3");
    t.cells("#interrupt-cells", {3});
    t.flag("interrupt-controller");
    t.cells("#redistributor-regions", {1});
    t.reg2(abi::kGicdBase, abi::kGicdSize, abi::kGicrBase, abi::kGicrStride * vcpus);
    t.cells("phandle", {kGicPhandle});
    t.end();
    t.begin("timer");
    t.text("compatible", std::string("arm,armv8-timer\0arm,armv7-timer", 31));
    t.cells("interrupts", {kPpi, 13, kLevelLow, kPpi, 14, kLevelLow, kPpi, 11, kLevelLow, kPpi, 10, kLevelLow});
    t.flag("always-on");
    t.end();
}

void board(Tree& t) {
    t.begin("apb-pclk");
    t.text("compatible", "fixed-clock");
    t.cells("#clock-cells", {0});
    t.cells("clock-frequency", {24'000'000});
    t.text("clock-output-names", "clk24mhz");
    t.cells("phandle", {kClockPhandle});
    t.end();
    t.begin(at("pl011", abi::kUartBase));
    t.text("compatible", std::string("arm,pl011\0arm,primecell", 23));
    t.reg(abi::kUartBase, abi::kUartSize);
    t.cells("interrupts", {kSpi, abi::kUartIntid - 32, kLevelHigh});
    t.cells("clocks", {kClockPhandle, kClockPhandle});
    t.text("clock-names", std::string("uartclk\0apb_pclk", 16));
    t.end();
    t.begin(at("pl031", abi::kRtcBase));
    t.text("compatible", std::string("arm,pl031\0arm,primecell", 23));
    t.reg(abi::kRtcBase, abi::kRtcSize);
    t.cells("interrupts", {kSpi, abi::kRtcIntid - 32, kLevelHigh});
    t.cells("clocks", {kClockPhandle});
    t.text("clock-names", "apb_pclk");
    t.end();
    t.begin(at("pl061", abi::kGpioBase));
    t.text("compatible", std::string("arm,pl061\0arm,primecell", 23));
    t.reg(abi::kGpioBase, abi::kGpioSize);
    t.cells("interrupts", {kSpi, abi::kGpioIntid - 32, kLevelHigh});
    t.flag("gpio-controller");
    t.cells("#gpio-cells", {2});
    t.flag("interrupt-controller");
    t.cells("#interrupt-cells", {2});
    t.cells("clocks", {kClockPhandle});
    t.text("clock-names", "apb_pclk");
    t.cells("phandle", {kGpioPhandle});
    t.end();
    t.begin("gpio-keys");
    t.text("compatible", "gpio-keys");
    t.begin("poweroff");
    t.text("label", "Power button");
    t.cells("linux,code", {kKeyPower});
    t.cells("gpios", {kGpioPhandle, abi::kPowerButtonPin, 0});
    t.end();
    t.end();
}

}  // namespace

Result<std::vector<std::uint8_t>> make_tree(const BootRequest& request, std::uint64_t ram_bytes,
                                            std::uint64_t initrd, std::uint64_t initrd_end) {
    Tree t(64 * 1024 + request.command_line.size());
    t.begin("");
    t.text("compatible", "linux,dummy-virt");
    t.text("model", "proa guest (QEMU virt compatible)");
    t.cells("#address-cells", {2});
    t.cells("#size-cells", {2});
    t.cells("interrupt-parent", {kGicPhandle});
    chosen(t, request, initrd, initrd_end);
    t.begin(at("memory", abi::kRamBase));
    t.text("device_type", "memory");
    t.reg(abi::kRamBase, ram_bytes);
    t.end();
    cpus(t, request.vcpus);
    interrupts(t, request.vcpus);
    board(t);
    for (const unsigned slot : request.virtio_slots) {
        const std::uint64_t base = abi::kVirtioBase + slot * abi::kVirtioStride;
        t.begin(at("virtio_mmio", base));
        t.text("compatible", "virtio,mmio");
        t.reg(base, abi::kVirtioStride);
        t.cells("interrupts", {kSpi, abi::kVirtioIntid0 - 32 + slot, kLevelHigh});
        t.flag("dma-coherent");
        t.end();
    }
    t.end();
    return t.finish();
}

}  // namespace proa::vmm
