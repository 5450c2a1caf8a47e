#include "vmm/hv/function.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <iterator>
#include <thread>

namespace proa::vmm {
namespace {

constexpr std::uint16_t kMemory = 1 << 1, kBusMaster = 1 << 2;
constexpr off_t kCommand = 4;

bool write_file(const std::string& path, const std::string& text) {
    const int fd = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
    if (fd < 0) return false;
    const bool ok = ::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size());
    ::close(fd);
    return ok;
}

// Plain 64-bit loads and stores: proa-hv decodes the syndrome of exactly these.
std::uint64_t load64(const std::uint8_t* at) {
#ifdef __aarch64__
    std::uint64_t v;
    asm volatile("ldr %0, [%1]" : "=r"(v) : "r"(at) : "memory");
    return v;
#else
    return *reinterpret_cast<const volatile std::uint64_t*>(at);
#endif
}
void store64(std::uint8_t* at, std::uint64_t v) {
#ifdef __aarch64__
    asm volatile("dsb ishst\n str %0, [%1]" ::"r"(v), "r"(at) : "memory");
#else
    *reinterpret_cast<volatile std::uint64_t*>(at) = v;
#endif
}

std::string status_text(abi::Status s, const abi::Command& c) {
    switch (s) {
        case abi::Status::Ok: return "done";
        case abi::Status::Again: return "still not finished after ten seconds";
        case abi::Status::Invalid: return "argument " + std::to_string(c.results[0]) + " is out of range";
        case abi::Status::NoMemory: return "proa-hv's memory pool is exhausted";
        case abi::Status::Busy: return "the guest is in the wrong state for it";
        case abi::Status::NotFound: return "there is no guest in this slot";
        case abi::Status::Unsupported: return "this host does not support it";
        case abi::Status::Denied: return "memory was offered that is not the control domain's";
        case abi::Status::Fenced: return "the guest's fence has passed: its right to run here has ended";
    }
    return "unknown status " + std::to_string(static_cast<int>(s));
}

}  // namespace

Result<std::unique_ptr<ControlFunction>> ControlFunction::open(unsigned slot, abi::ControlArea& area,
                                                               std::uint64_t pa) {
    std::unique_ptr<ControlFunction> f(new ControlFunction(slot, area));
    char path[64];
    std::snprintf(path, sizeof(path), "/sys/bus/pci/devices/%04x:00:%02x.0", abi::kPciDomain, slot);
    f->path_ = path;
    if (auto r = f->bind(); !r) return tl::unexpected(r.error());
    if (auto r = f->attach(pa); !r) return tl::unexpected(r.error());
    return f;
}

ControlFunction::~ControlFunction() {
    if (bar_ != nullptr) {
        write(abi::reg::ControlArea, 0);
        ::munmap(bar_, abi::kBarSize);
    }
    if (config_ >= 0) ::close(config_);
    if (uio_ >= 0) ::close(uio_);  // the kernel clears Bus Master: proa-hv frees what is left of the guest
}

Result<void> ControlFunction::bind() {
    if (::access(path_.c_str(), F_OK) != 0)
        return fail("no control function " + path_,
                    "this kernel does not run on proa-hv, or has no pci-host-generic");
    if (::access((path_ + "/uio").c_str(), F_OK) != 0) {
        write_file(path_ + "/driver_override", "uio_pci_generic");
        write_file("/sys/bus/pci/drivers_probe", path_.substr(path_.rfind('/') + 1));
    }
    std::string node;
    if (DIR* d = ::opendir((path_ + "/uio").c_str())) {
        while (const dirent* e = ::readdir(d))
            if (std::strncmp(e->d_name, "uio", 3) == 0) node = std::string("/dev/") + e->d_name;
        ::closedir(d);
    }
    if (node.empty())
        return fail("cannot bind " + path_ + " to uio_pci_generic", "modprobe uio_pci_generic; run as root");
    uio_ = ::open(node.c_str(), O_RDWR | O_CLOEXEC | O_NONBLOCK);
    config_ = ::open((path_ + "/config").c_str(), O_RDWR | O_CLOEXEC);
    if (uio_ < 0 || config_ < 0)
        return fail("cannot open " + node + ": " + std::strerror(errno), "run as root");
    return {};
}

void ControlFunction::set_command(std::uint16_t bits) {
    (void)!::pwrite(config_, &bits, sizeof(bits), kCommand);
}

Result<void> ControlFunction::attach(std::uint64_t pa) {
    const int fd = ::open((path_ + "/resource0").c_str(), O_RDWR | O_CLOEXEC | O_SYNC);
    void* p = fd < 0 ? MAP_FAILED : ::mmap(nullptr, abi::kBarSize, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (fd >= 0) ::close(fd);
    if (p == MAP_FAILED) return fail("cannot map " + path_ + "/resource0: " + std::strerror(errno));
    bar_ = static_cast<std::uint8_t*>(p);
    set_command(kMemory | kBusMaster);
    const std::uint64_t magic = read(abi::reg::Magic);
    if ((magic & 0xffff'ffff) != abi::kMagic) return fail(path_ + " is not a proa-hv control function");
    if (magic >> 32 != abi::kAbiVersion)
        return fail("proa-hv speaks control ABI " + std::to_string(magic >> 32) + ", this program " +
                        std::to_string(abi::kAbiVersion),
                    "install matching versions");
    write(abi::reg::ControlArea, pa);
    if (read(abi::reg::ControlArea) != pa) return fail("proa-hv refused the control area");
    return {};
}

void ControlFunction::write(std::uint64_t reg, std::uint64_t value) {
    store64(bar_ + reg, value);
}
std::uint64_t ControlFunction::read(std::uint64_t reg) const {
    return load64(bar_ + reg);
}

void ControlFunction::acknowledge() {
    std::int32_t count = 0;
    (void)!::read(uio_, &count, sizeof(count));
    write(abi::reg::EventAck, 0);
    set_command(kMemory | kBusMaster);  // the kernel's handler has set INTX_DISABLE
}

Result<abi::Command> ControlFunction::run(abi::Op op, const char* what,
                                          std::initializer_list<std::uint64_t> args) {
    abi::Command& c = area_.command;
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    for (;;) {
        c.op = op;
        c.status = abi::Status::Unsupported;
        unsigned i = 0;
        for (const std::uint64_t a : args) c.args[i++] = a;
        while (i < std::size(c.args)) c.args[i++] = 0;
        write(abi::reg::Doorbell, 0);
        abi::Status s;
        __atomic_load(&c.status, &s, __ATOMIC_ACQUIRE);
        if (s == abi::Status::Ok) return c;
        if (s != abi::Status::Again || std::chrono::steady_clock::now() > deadline)
            return fail(std::string("proa-hv: ") + what + ": " + status_text(s, c));
        std::this_thread::yield();
    }
}

}  // namespace proa::vmm
