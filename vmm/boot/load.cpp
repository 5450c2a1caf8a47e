#include <zlib.h>

#include <cstring>
#include <fstream>
#include <iterator>

#include "vmm/boot/boot.hpp"

namespace proa::vmm {
namespace {

constexpr std::uint64_t kChunk = 2ull << 20, kFlatOffset = 0x8'0000;
constexpr std::uint32_t kImageMagic = 0x644d'5241;

struct ImageHeader {
    std::uint32_t code[2];
    std::uint64_t text_offset, image_size, flags, reserved[3];
    std::uint32_t magic, pe;
};
static_assert(sizeof(ImageHeader) == 64);

Result<std::vector<std::uint8_t>> read_file(const std::string& path, const char* what) {
    std::ifstream f(path, std::ios::binary);
    if (!f)
        return fail(std::string("cannot read ") + what + " " + path,
                    std::string("correct `") + what + "` in the config");
    return std::vector<std::uint8_t>(std::istreambuf_iterator<char>(f), {});
}

Result<std::vector<std::uint8_t>> gunzip(const std::vector<std::uint8_t>& in, std::uint64_t most) {
    std::vector<std::uint8_t> out(most);
    z_stream z{};
    if (inflateInit2(&z, 16 + MAX_WBITS) != Z_OK) return fail("zlib cannot start");
    z.next_in = const_cast<Bytef*>(in.data());
    z.avail_in = static_cast<uInt>(in.size());
    z.next_out = out.data();
    z.avail_out = static_cast<uInt>(out.size());
    const int e = inflate(&z, Z_FINISH);
    out.resize(z.total_out);
    inflateEnd(&z);
    if (e != Z_STREAM_END) return fail("the compressed kernel is damaged, or too large for the guest's memory");
    return out;
}

Result<void> put(GuestMemory& m, std::uint64_t gpa, std::span<const std::uint8_t> bytes, const char* what) {
    auto to = m.slice(gpa, bytes.size());
    if (!to) return fail(std::string(what) + " does not fit into the guest's memory", "raise `memory`");
    m.before_write(gpa, bytes.size());  // a reboot under protection
    std::memcpy(to->data(), bytes.data(), bytes.size());
    m.mark_dirty(gpa, bytes.size());
    return {};
}

}  // namespace

Result<BootPlan> load_guest(GuestMemory& memory, const BootRequest& request) {
    auto kernel = read_file(request.kernel, "kernel");
    if (!kernel) return tl::unexpected(kernel.error());
    if (kernel->size() > 2 && (*kernel)[0] == 0x1f && (*kernel)[1] == 0x8b) {
        kernel = gunzip(*kernel, memory.size());
        if (!kernel) return tl::unexpected(kernel.error());
    }
    BootPlan plan;
    std::uint64_t end = 0;
    ImageHeader h{};
    if (kernel->size() >= sizeof(h)) std::memcpy(&h, kernel->data(), sizeof(h));
    if (h.magic == kImageMagic) {
        const std::uint64_t offset = h.image_size != 0 ? h.text_offset : kFlatOffset;
        if (offset >= memory.size())
            return fail("kernel " + request.kernel + ": text_offset outside of memory");
        plan.entry = abi::kRamBase + offset;
        end = plan.entry + std::max<std::uint64_t>(h.image_size, kernel->size());
    } else {
        plan.entry = abi::kRamBase + kFlatOffset;
        end = plan.entry + kernel->size();
    }
    if (end > abi::kRamBase + memory.size() || end < plan.entry)
        return fail("kernel " + request.kernel + " needs " + std::to_string((end - abi::kRamBase) >> 20) +
                        " MiB, the guest has " + std::to_string(memory.size() >> 20),
                    "raise `memory`");
    if (auto p = put(memory, plan.entry, *kernel, "kernel"); !p) return tl::unexpected(p.error());

    std::uint64_t initrd = 0, initrd_end = 0;
    if (!request.ramdisk.empty()) {
        auto ramdisk = read_file(request.ramdisk, "ramdisk");
        if (!ramdisk) return tl::unexpected(ramdisk.error());
        initrd = (end + kChunk - 1) & ~(kChunk - 1);
        initrd_end = initrd + ramdisk->size();
        if (auto p = put(memory, initrd, *ramdisk, "ramdisk"); !p) return tl::unexpected(p.error());
        end = initrd_end;
    }
    auto tree = make_tree(request, memory.size(), initrd, initrd_end);
    if (!tree) return tl::unexpected(tree.error());
    plan.tree = (end + kChunk - 1) & ~(kChunk - 1);
    if (auto p = put(memory, plan.tree, *tree, "device tree"); !p) return tl::unexpected(p.error());
    return plan;
}

}  // namespace proa::vmm
