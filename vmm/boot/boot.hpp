// Puts a kernel, a ramdisk and a device tree into a guest's RAM, where QEMU's virt machine would (hw/arm/boot.c).
#pragma once
#include <string>
#include <vector>

#include "vmm/error.hpp"
#include "vmm/guest_memory.hpp"

namespace proa::vmm {

struct BootRequest {
    std::string kernel, ramdisk, command_line;
    unsigned vcpus = 1;
    std::vector<unsigned> virtio_slots;
};
struct BootPlan {
    std::uint64_t entry = 0, tree = 0;  // x0 = tree
};

// arm64 Image (booting.rst), also gzip-compressed; or a flat binary, loaded 512 KiB into RAM as QEMU does.
Result<BootPlan> load_guest(GuestMemory& memory, const BootRequest& request);

// The tree alone; `initrd` empty if there is none.
Result<std::vector<std::uint8_t>> make_tree(const BootRequest& request, std::uint64_t ram_bytes,
                                            std::uint64_t initrd, std::uint64_t initrd_end);

}  // namespace proa::vmm
