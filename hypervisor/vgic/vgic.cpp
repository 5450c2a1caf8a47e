#include "hypervisor/vgic/vgic.hpp"

namespace proa::hv {
namespace {

template <class F>
void each_bit(std::uint64_t bits, F&& f) {
    for (; bits != 0; bits &= bits - 1) f(static_cast<unsigned>(__builtin_ctzll(bits)));
}
template <class W>
void assign(W& word, unsigned bit, bool on) {
    word = on ? word | W{1} << bit : word & ~(W{1} << bit);
}

}  // namespace

void Vgic::init(const Config& config, Irq* spis) {
    config_ = config;
    spi_ = spis;
    reset();
}

void Vgic::reset() {
    ctlr_ = 0;
    kicks_ = released_ = 0;
    for (unsigned v = 0; v < config_.vcpus; ++v) {
        for (unsigned i = 0; i < 32; ++i) {
            priv_[v][i] = Irq{};
            priv_[v][i].edge = i < 16;  // SGIs are edge-triggered
            priv_[v][i].enabled = i < 16;
        }
        priv_[v][abi::kVirtualTimerIntid].hw = true;
        waker_[v] = kWakerSleep;
    }
    for (unsigned i = 0; i < config_.spis; ++i) {
        spi_[i] = Irq{};
        spi_[i].hw = config_.hw != nullptr && i < config_.hw_spis;
    }
    recompute_all();
}

Irq* Vgic::find(unsigned vcpu, std::uint32_t intid) {
    if (intid < 32) return &priv_[vcpu][intid];
    return intid - 32 < config_.spis ? &spi_[intid - 32] : nullptr;
}

void Vgic::update(unsigned vcpu, std::uint32_t intid) {
    const Irq& q = *find(vcpu, intid);
    const bool ready = candidate(q);
    if (intid < 32) {
        if (ready) kicks_ |= 1u << vcpu;
        assign(priv_ready_[vcpu], intid, ready);
        assign(priv_active_[vcpu], intid, q.active);
    } else {
        const unsigned n = intid - 32;
        if (ready) kicks_ |= 1u << target_of(q);
        assign(spi_ready_[n / 64], n % 64, ready);
        assign(spi_active_[n / 64], n % 64, q.active);
    }
}

void Vgic::recompute_all() {
    for (unsigned v = 0; v < config_.vcpus; ++v)
        for (unsigned i = 0; i < 32; ++i) update(v, i);
    for (unsigned i = 0; i < config_.spis; ++i) update(0, 32 + i);
}

// The physical interrupt behind `q` was acknowledged at EL2 and waits for a deactivation that won't come from a list
// register any more.
void Vgic::drop_hw(unsigned vcpu, std::uint32_t intid, const Irq& q) {
    if (!q.hw) return;
    if (intid < 32)
        released_ |= 1u << vcpu,
            kicks_ |= 1u << vcpu;  // banked: only its own pCPU can, when it settles the timer
    else if (config_.hw != nullptr)
        config_.hw->deactivate(intid);
}

// A vCPU that runs with the interrupt in a list register must come out: only a sync and a flush can merge the change.
void Vgic::recall(const Irq& q) {
    if (q.in_lr) kicks_ |= 1u << q.active_on;
}

void Vgic::pend(unsigned vcpu, std::uint32_t intid, Irq& q) {
    q.latch = true;
    recall(q);
    update(vcpu, intid);
}

void Vgic::drive(unsigned vcpu, std::uint32_t intid, Irq& q, bool level) {
    if (q.line == level) return;
    q.line = level;
    if (q.edge && level) return pend(vcpu, intid, q);
    // A level that fell while it waits in a list register is withdrawn; one that rose while its interrupt is active is
    // found by the maintenance interrupt at its end.
    if (!q.edge && !level && !q.active) recall(q);
    update(vcpu, intid);
}

void Vgic::set_line(std::uint32_t intid, bool level) {
    if (intid >= 32 && intid - 32 < config_.spis) drive(0, intid, spi_[intid - 32], level);
}

void Vgic::set_private_line(unsigned vcpu, std::uint32_t intid, bool level) {
    drive(vcpu, intid, priv_[vcpu][intid], level);
}

void Vgic::hw_fired(std::uint32_t intid) {
    if (intid >= 32 && intid - 32 < config_.spis) pend(0, intid, spi_[intid - 32]);
}

bool Vgic::settle_timer(unsigned vcpu, bool met) {
    Irq& q = priv_[vcpu][abi::kVirtualTimerIntid];
    const bool withdrawn = q.line && !met && !q.active && !q.latch;
    if (!met) set_private_line(vcpu, abi::kVirtualTimerIntid, false);
    const bool owed = withdrawn || (released_ >> vcpu & 1) != 0;
    released_ &= ~(1u << vcpu);
    return owed && !q.active;
}

void Vgic::send_sgi(unsigned source, std::uint64_t v) {
    // ICC_SGI1R_EL1 (12.2.21): IRM [40], Aff3 [55:48], RS [47:44], Aff2 [39:32], INTID [27:24], Aff1 [23:16], list.
    const auto intid = static_cast<std::uint32_t>(v >> 24 & 15);
    const bool all_but_self = (v >> 40 & 1) != 0;
    const std::uint64_t cluster = (v >> 48 & 0xff) << 32 | (v >> 32 & 0xff) << 16 | (v >> 16 & 0xff) << 8;
    for (unsigned i = 0; i < config_.vcpus; ++i) {
        const std::uint64_t aff = config_.mpidr[i], aff0 = aff & 0xff;
        const bool hit = all_but_self ? i != source
                                      : (aff & 0xff'00ff'ff00) == cluster && aff0 / 16 == (v >> 44 & 15) &&
                                            (v >> (aff0 % 16) & 1) != 0;
        if (hit) pend(i, intid, priv_[i][intid]);
    }
}

// EOI of an interrupt that had no list register (more were active than there are): ICH_HCR_EL2.EOIcount counts it,
// and the priority drop order says it is the highest-priority active one.
void Vgic::deactivate_one(unsigned vcpu) {
    std::uint32_t best = 0;
    unsigned best_priority = 256;
    const auto consider = [&](std::uint32_t intid, const Irq& q) {
        if (q.active && !q.in_lr && q.active_on == vcpu && q.priority < best_priority) {
            best_priority = q.priority;
            best = intid;
        }
    };
    each_bit(priv_active_[vcpu], [&](unsigned i) { consider(i, priv_[vcpu][i]); });
    for (unsigned w = 0; w < kSpiWords; ++w)
        each_bit(spi_active_[w], [&](unsigned b) { consider(32 + w * 64 + b, spi_[w * 64 + b]); });
    if (best_priority == 256) return;
    Irq& q = *find(vcpu, best);
    q.active = false;
    drop_hw(vcpu, best, q);
    update(vcpu, best);
}

void Vgic::sync(unsigned vcpu, LrFile& file) {
    for (unsigned n = ich_hcr::eoi_count(file.hcr); n > 0; --n) deactivate_one(vcpu);
    for (unsigned i = 0; i < file.used; ++i) {
        const std::uint64_t v = file.lr[i];
        Irq* q = find(vcpu, lr::vintid(v));
        if (q == nullptr) continue;
        q->in_lr = false;
        q->active = (v & lr::Active) != 0;
        if ((v & lr::Pending) != 0 && q->from_latch) q->latch = true;
        q->from_latch = false;
        update(vcpu, lr::vintid(v));
    }
    file.used = 0;
    file.hcr = ich_hcr::En;
}

std::uint64_t Vgic::make_lr(std::uint32_t intid, const Irq& q) const {
    std::uint64_t v = intid | lr::priority(q.priority) | (q.group1 ? lr::Group1 : 0);
    if (q.hw)
        v |= lr::HW | lr::pintid(intid);
    else if (!q.edge)
        v |= lr::Eoi;
    if (!q.active) return v | lr::Pending;
    // An edge or an SGI that came again meanwhile: both, and the hardware delivers it after the EOI without us.
    return v | lr::Active | (comes_again(q) ? lr::Pending : 0);
}

void Vgic::flush(unsigned vcpu, LrFile& file) {
    const auto place = [&](std::uint32_t intid, Irq& q) {
        const bool taken = !q.active || comes_again(q);
        file.lr[file.used++] = make_lr(intid, q);
        if (taken) {
            q.from_latch = q.latch;
            q.latch = false;
        }
        q.in_lr = true;
        q.active_on = static_cast<std::uint8_t>(vcpu);
        update(vcpu, intid);
    };
    bool more_pending = false;
    // The `count` most urgent candidates, by insertion into a short sorted list.
    struct Pick {
        std::uint32_t intid;
        std::uint8_t priority;
    } picks[LrFile::kMax];
    unsigned picked = 0;
    const auto consider = [&](std::uint32_t intid, const Irq& q) {
        if (picked == file.count) {
            more_pending = true;
            if (picks[picked - 1].priority <= q.priority) return;
            --picked;
        }
        unsigned at = picked++;
        for (; at > 0 && picks[at - 1].priority > q.priority; --at) picks[at] = picks[at - 1];
        picks[at] = {intid, q.priority};
    };
    each_bit(priv_ready_[vcpu], [&](unsigned i) { consider(i, priv_[vcpu][i]); });
    const unsigned words = (config_.spis + 63) / 64;
    for (unsigned w = 0; w < words; ++w)
        each_bit(spi_ready_[w], [&](unsigned b) {
            const Irq& q = spi_[w * 64 + b];
            if (target_of(q) == vcpu) consider(32 + w * 64 + b, q);
        });

    // Active interrupts first: their deactivation must find them. One register is kept for what is pending.
    bool more_active = false;
    const unsigned room = picked != 0 ? file.count - 1 : file.count;
    const auto place_active = [&](std::uint32_t intid, Irq& q) {
        if (q.active_on != vcpu || q.in_lr) return;
        if (file.used < room)
            place(intid, q);
        else
            more_active = true;
    };
    each_bit(priv_active_[vcpu], [&](unsigned i) { place_active(i, priv_[vcpu][i]); });
    for (unsigned w = 0; w < words; ++w)
        each_bit(spi_active_[w], [&](unsigned b) { place_active(32 + w * 64 + b, spi_[w * 64 + b]); });
    for (unsigned i = 0; i < picked; ++i) {
        if (file.used == file.count) {
            more_pending = true;
            break;
        }
        place(picks[i].intid, *find(vcpu, picks[i].intid));
    }
    file.hcr = ich_hcr::En | (more_pending ? ich_hcr::Uie : 0) | (more_active ? ich_hcr::Lrenpie : 0);
}

bool Vgic::has_deliverable(unsigned vcpu) const {
    if (priv_ready_[vcpu] != 0) return true;
    for (unsigned w = 0; w < (config_.spis + 63) / 64; ++w) {
        bool found = false;
        each_bit(spi_ready_[w], [&](unsigned b) { found = found || target_of(spi_[w * 64 + b]) == vcpu; });
        if (found) return true;
    }
    return false;
}

bool Vgic::in_flight(unsigned vcpu, std::uint32_t intid) const {
    const Irq& q = priv_[vcpu][intid];
    return q.pending() || q.active || q.in_lr;
}

void Vgic::save(abi::GicState& s) const {
    const auto pack = [](const Irq& q) {
        using F = abi::IrqState;
        abi::IrqState o{};
        o.flags = static_cast<std::uint8_t>((q.enabled ? F::Enabled : 0) | (q.latch ? F::Pending : 0) |
                                            (q.line ? F::Level : 0) | (q.active ? F::Active : 0) |
                                            (q.group1 ? F::Group1 : 0) | (q.edge ? F::Edge : 0));
        o.priority = q.priority;
        o.target = q.active ? static_cast<std::uint16_t>(q.target) : q.target;
        return o;
    };
    s = {};
    s.version = abi::kStateVersion;
    s.spi_count = config_.spis;
    s.vcpu_count = config_.vcpus;
    s.gicd_ctlr = ctlr_;
    for (unsigned v = 0; v < config_.vcpus; ++v) {
        s.gicr_waker[v] = waker_[v];
        for (unsigned i = 0; i < 32; ++i) s.privates[v][i] = pack(priv_[v][i]);
        // The timer's own condition raises its interrupt again where it is loaded; only `active` is state.
        auto& timer = s.privates[v][abi::kVirtualTimerIntid];
        timer.flags = static_cast<std::uint8_t>(timer.flags & ~abi::IrqState::Level);
    }
    for (unsigned i = 0; i < config_.spis; ++i) {
        s.spis[i] = pack(spi_[i]);
        // An active SPI comes back on the vCPU that took it; the reserved byte of flags has no room, so it is its
        // target that says so. Software that retargets an interrupt while active is told nothing by the GIC either.
        if (spi_[i].active) s.spis[i].target = spi_[i].active_on;
    }
}

bool Vgic::load(const abi::GicState& s) {
    if (s.version != abi::kStateVersion || s.spi_count != config_.spis || s.vcpu_count != config_.vcpus)
        return false;
    for (unsigned i = 0; i < config_.spis; ++i)
        if (s.spis[i].target >= config_.vcpus && s.spis[i].target != kAny) return false;
    const auto unpack = [](const abi::IrqState& o, Irq& q) {
        using F = abi::IrqState;
        q.enabled = (o.flags & F::Enabled) != 0;
        q.latch = (o.flags & F::Pending) != 0;
        q.line = (o.flags & F::Level) != 0;
        q.active = (o.flags & F::Active) != 0;
        q.group1 = (o.flags & F::Group1) != 0;
        q.edge = (o.flags & F::Edge) != 0;
        q.priority = o.priority & 0xf8;
        q.in_lr = q.from_latch = false;
    };
    ctlr_ = s.gicd_ctlr & kEnableGrp1;
    for (unsigned v = 0; v < config_.vcpus; ++v) {
        waker_[v] = s.gicr_waker[v] & kWakerSleep;
        for (unsigned i = 0; i < 32; ++i) {
            unpack(s.privates[v][i], priv_[v][i]);
            priv_[v][i].active_on = static_cast<std::uint8_t>(v);
            if (i < 16) priv_[v][i].edge = true;
        }
        priv_[v][abi::kVirtualTimerIntid].line = false;
    }
    for (unsigned i = 0; i < config_.spis; ++i) {
        unpack(s.spis[i], spi_[i]);
        spi_[i].target = s.spis[i].target;
        spi_[i].active_on = static_cast<std::uint8_t>(s.spis[i].target == kAny ? 0 : s.spis[i].target);
    }
    recompute_all();
    kicks_ = (1u << config_.vcpus) - 1;
    return true;
}

}  // namespace proa::hv
