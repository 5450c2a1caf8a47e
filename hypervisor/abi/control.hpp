// How user space in the control domain talks to proa-hv: one virtual PCI function per guest slot (and one
// for the host), its BAR0 registers, and a control area in proa-vm's own memory. docs/ARCHITECTURE.md
// "Control interface" tells the life of a guest in these terms.
#pragma once
#include <cstddef>
#include <cstdint>

#include "hypervisor/abi/platform.hpp"
#include "hypervisor/abi/state.hpp"

namespace proa::abi {

inline constexpr std::uint32_t kAbiVersion = 3;
inline constexpr std::uint64_t kMagic = 0x414f'5250;  // "PROA"

// PCI identity. Domain 1, bus 0; device 0 is the host function, devices 1..kGuestSlots the guest slots.
inline constexpr std::uint16_t kPciVendor = 0x1209;  // pid.codes, open hardware and software
inline constexpr std::uint16_t kPciHostDevice = 0x7070, kPciSlotDevice = 0x7071;
inline constexpr unsigned kPciDomain = 1, kGuestSlots = 16;
inline constexpr std::uint64_t kBarSize = 0x1'0000;

// BAR0 registers, 64-bit little endian, naturally aligned 64-bit accesses only.
namespace reg {
inline constexpr std::uint64_t Magic = 0x00;  // RO kMagic | kAbiVersion << 32
inline constexpr std::uint64_t Slot = 0x08;   // RO slot (0 = host function) | kGuestSlots << 32
inline constexpr std::uint64_t ControlArea =
    0x10;  // RW physical address of a ControlArea, 2 MiB aligned; 0 detaches; fixed while a guest exists
inline constexpr std::uint64_t Doorbell = 0x18;  // WO any value: run ControlArea::command, synchronously
inline constexpr std::uint64_t Resume = 0x20;    // WO vCPU index: its exit has been answered
inline constexpr std::uint64_t EventAck = 0x28;  // WO any value: lower INTx; call before reading the events
inline constexpr std::uint64_t IrqLine = 0x30;   // WO IrqLineWord: drive an SPI's input
inline constexpr std::uint64_t LatchSet =
    0x38;  // WO latch << 32 | bits: OR into a status latch, raise its line
// WO counter value (CNTPCT) at which the guest stops; 0: none. Any thread, at any time; see life::Fenced.
inline constexpr std::uint64_t Fence = 0x40;
}  // namespace reg

// IrqLine's value: INTID | level << 32. An edge interrupt latches on level 1.
constexpr std::uint64_t irq_line_word(std::uint32_t intid, bool level) {
    return intid | (level ? 1ull << 32 : 0);
}

enum class Op : std::uint32_t {
    None = 0,
    // Guest slots. args -> results are listed beside each.
    Create = 1,   // CreateArgs in `payload`
    Destroy = 2,  // frees all; Again until the last vCPU is out of its pCPU
    MapRam = 3,  // not running, log off: gpa, chunks (2 MiB each, <= kMaxMapChunks per call), PAs in `map_list`
    DefineNotify = 4,  // gpa, device (0..31): a 32-bit write there sets events.notify[device] bit (value & 63)
    DefineLatch =
        5,        // latch (0..31), gpa, intid: reads at gpa give the latch, 32-bit writes at gpa+4 clear bits
    Run = 6,      // start or resume; args[0] = 1: the guest's counter has gone on since it stopped
    Pause = 7,    // Again until every vCPU is stopped; then Ok, state is whole
    Reset = 8,    // paused only: vCPUs, GIC, timers, latches to power-on; mappings stay
    GetVcpu = 9,  // vcpu -> VcpuState in `payload` (paused only)
    SetVcpu = 10,
    GetGic = 11,  // GicState
    SetGic = 12,
    GetTime = 13,  // TimeState
    SetTime = 14,
    GetLatches = 15,  // LatchState
    SetLatches = 16,
    SetAffinity = 17,  // vcpu, mask of pCPUs
    SetWeight = 18,    // weight 1..65535, default 256
    SetThrottle = 19,  // percent of time 0..99 in which the guest's vCPUs are held off
    DirtyLog = 20,     // DirtyLogMode
    Harvest = 21,      // first page, pages -> count; ORs into `bitmap` (bit n = page n of RAM) and re-arms;
    // take the bits after it has returned: until then a TLB may still let a write pass unseen
    GuestStats = 22,  // GuestStats in `payload`
    GetPolicy = 23,   // CpuPolicy the guest was created with
    RaiseNmi = 24,    // reserved
    // Copy-on-write checkpoints (docs/ARCHITECTURE.md "Checkpoints").
    SetCopyPool = 25,  // chunks (0..kMaxCopyChunks), PAs of CopyChunks in `map_list`; Busy while pages are held
    Hold =
        26,  // paused, log on, pool given: first page, pages -> count. Pages whose bit in `bitmap` is set, and those
             // the log has (their bits are set now), are held: copied into the pool before the next write
    Release =
        27,  // first page, pages: not held any more; waiting vCPUs go on. pages 0: all, and the pool is empty again
    // first page, pages -> words that are not 0; ORs into `bitmap` the pages that the guest may have accessed since they were
    // mapped. Log on: what it writes later is in that
    Accessed = 28,
    // Host function.
    HostInfo = 64,     // HostInfo
    ReadLog = 65,      // from sequence -> bytes in payload, next sequence
    CpuStats = 66,     // PcpuStats[pcpus]
    ListGuests = 67,   // GuestStats[kGuestSlots], slot order; state None where empty
    CheckPolicy = 68,  // CpuPolicy in payload -> Ok, or Unsupported with {register index, field shift}
};

enum class Status : std::int32_t {
    Ok = 0,
    Again = 1,         // not finished: issue the same command again
    Invalid = -1,      // an argument is out of range; results[0] = its index
    NoMemory = -2,     // proa-hv's pool; results[0] = pages missing
    Busy = -3,         // wrong state for this command (running, already created)
    NotFound = -4,     // nothing created in this slot
    Unsupported = -5,  // version, feature or operation this host lacks
    Denied = -6,       // memory that is not the control domain's to give
    Fenced = -7,       // Run: the guest's fence has passed; move it or take it away
};

enum class DirtyLogMode : std::uint64_t { Off = 0, WriteProtect = 1, Hardware = 2 };

enum class GuestPhase : std::uint32_t { None = 0, Paused = 1, Running = 2, Pausing = 3, Stopped = 4 };

// Lifecycle bits in Events::lifecycle.
namespace life {
inline constexpr std::uint64_t PowerOff = 1 << 0;  // PSCI SYSTEM_OFF
inline constexpr std::uint64_t Reset = 1 << 1;     // PSCI SYSTEM_RESET: stopped, waits for Reset + Run
inline constexpr std::uint64_t Crash = 1 << 2;     // a vCPU did what cannot be resumed; see GuestStats::crash_*
inline constexpr std::uint64_t Paused = 1 << 3;
// The fence keeps the guest from running: it has stopped it (phase Stopped: Pause, then as any paused guest), or Run was
// refused. It stays so until Run finds no fence, or one in the future.
inline constexpr std::uint64_t Fenced = 1 << 4;
}  // namespace life

// An access that user space must answer. The vCPU waits in `Pending` until Resume is written.
struct VcpuExit {
    enum : std::uint32_t { None = 0, MmioRead = 1, MmioWrite = 2 };
    std::uint32_t kind;
    std::uint32_t size;  // 1, 2, 4 or 8 bytes
    std::uint64_t gpa;
    std::uint64_t value;  // write: what the guest stored; read: user space's answer, low `size` bytes used
    std::uint64_t count;  // of exits so far
    std::uint64_t reserved[4];
};
static_assert(sizeof(VcpuExit) == 64);

struct Command {
    Op op;
    Status status;
    std::uint64_t args[6];
    std::uint64_t results[4];
    std::uint64_t reserved[5];
};
static_assert(sizeof(Command) == 128);

// Bits are set by proa-hv with atomic OR and taken by user space with atomic exchange.
struct Events {
    std::uint64_t lifecycle;
    std::uint64_t exits;  // bit v: exits[v] is pending
    std::uint64_t notify[kVirtioSlots];
    std::uint64_t reserved[30];
};
static_assert(sizeof(Events) == 512);

inline constexpr std::uint64_t kMaxMapChunks = 4096;  // 8 GiB a call
inline constexpr std::uint64_t kPageSize = 4096, kChunkSize = 2ull << 20;
inline constexpr std::uint64_t kPayloadSize = 0xf000, kBitmapSize = (2ull << 20) - 0x2'0000;

// One 2 MiB huge page. Everything in it is input from user space until proa-hv has copied and checked it.
struct ControlArea {
    Command command;                        // 0x00000
    std::uint64_t reserved0[16];            // 0x00080
    Events events;                          // 0x00100
    std::uint64_t reserved1[32];            // 0x00300
    VcpuExit exits[kMaxVcpus];              // 0x00400
    std::uint64_t reserved2[320];           // 0x00600
    std::uint8_t payload[kPayloadSize];     // 0x01000
    std::uint64_t map_list[kMaxMapChunks];  // 0x10000
    std::uint64_t reserved3[4096];          // 0x18000
    std::uint64_t bitmap[kBitmapSize / 8];  // 0x20000, 1 bit a page: 61 GiB of guest RAM
};
static_assert(offsetof(ControlArea, events) == 0x100 && offsetof(ControlArea, exits) == 0x400);
static_assert(offsetof(ControlArea, payload) == 0x1000 && offsetof(ControlArea, map_list) == 0x1'0000);
static_assert(offsetof(ControlArea, bitmap) == 0x2'0000 && sizeof(ControlArea) == kChunkSize);

// A piece of the copy pool, 2 MiB of user space's. proa-hv writes it and reads nothing back. Copy i is there when
// `published` > i, and stays as it is until Release of all.
inline constexpr std::uint64_t kCopiesPerChunk = 511, kMaxCopyChunks = 64;
struct CopyChunk {
    std::uint64_t published;  // stored with release semantics after the copy, before its page may be written
    std::uint64_t page[kCopiesPerChunk];  // RAM page numbers, in the order of the copies
    std::uint8_t copy[kCopiesPerChunk][kPageSize];
};
static_assert(offsetof(CopyChunk, copy) == kPageSize && sizeof(CopyChunk) == kChunkSize);

struct CreateArgs {
    std::uint32_t abi_version;  // kAbiVersion
    std::uint32_t vcpus;        // 1..kMaxVcpus
    std::uint32_t weight;       // 1..65535
    std::uint32_t spis;         // multiple of 32, 32..kMaxSpis
    std::uint64_t ram_bytes;    // RAM starts at kRamBase; multiple of 2 MiB
    char name[48];              // NUL-terminated
    CpuPolicy policy;           // version 0: host default
};
static_assert(sizeof(CreateArgs) == 72 + sizeof(CpuPolicy));

struct HostInfo {
    std::uint32_t abi_version, pcpus;
    std::uint64_t cntfrq, counter;         // counter: CNTPCT now
    std::uint64_t boot_ticks;              // counter at entry
    std::uint64_t pool_pages, free_pages;  // proa-hv's own memory
    std::uint64_t image_bytes;
    std::uint32_t hardware_dirty, list_registers;
    std::uint32_t ipa_bits, guests;
    CpuPolicy policy;  // the most a guest can be shown here
    char version[32];
    std::uint64_t reserved[8];
};

struct PcpuStats {
    std::uint64_t busy_ticks, idle_ticks, switches, exits, ipis, interrupts;
    std::uint64_t reserved[2];
};
static_assert(sizeof(PcpuStats) == 64);

enum class ExitKind : std::uint32_t {
    Wfx,
    Hvc,
    Smc,
    SysReg,
    Stage2Fault,
    DirtyFault,
    Mmio,
    Notify,
    Gic,
    Irq,
    Fp,
    Other,
    Count
};

struct VcpuStats {
    std::uint64_t run_ticks;
    std::uint32_t power;  // PowerState
    std::uint32_t state;  // 0 off, 1 runnable, 2 running, 3 blocked (WFI), 4 waits for an exit, 5 paused,
                          // 6 waits for a free copy
    std::uint32_t pcpu, reserved0;
    std::uint64_t affinity;
};
static_assert(sizeof(VcpuStats) == 32);

struct GuestStats {
    GuestPhase phase;
    std::uint32_t vcpus;
    char name[48];
    std::uint64_t ram_bytes, created_ticks;
    std::uint64_t table_pages;  // stage-2 tables held
    std::uint64_t dirty_pages;  // harvested so far
    std::uint64_t dirty_log_mode;
    std::uint64_t crash_esr, crash_far, crash_pc;
    std::uint32_t weight, throttle;
    std::uint64_t copied_pages, copy_waits;  // before writes to held pages; writes that found the pool full
    std::uint64_t exits[static_cast<unsigned>(ExitKind::Count)];
    VcpuStats vcpu[kMaxVcpus];
};
static_assert(sizeof(GuestStats) * kGuestSlots <= kPayloadSize);

}  // namespace proa::abi
