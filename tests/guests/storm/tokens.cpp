// Two tokens go round the CPUs in opposite directions, each as one SGI in flight: a second one, or one at the wrong CPU, is
// a duplicate, and a token that rests is a loss. The fast one is handed on from its own handler, before the EOI: with two
// CPUs it comes back while its interrupt is still active. The slow one waits for a timer tick in between.
#include "tests/guests/storm/storm.hpp"

namespace guest::storm {
namespace {

struct alignas(64) Token {
    std::uint32_t holder = kNobody;  // whose interrupt is next
    std::uint32_t parked = kNobody;  // who has it and waits for a tick
    std::uint64_t hops = 0, seen_hops = 0, seen_at = 0;
    static constexpr std::uint32_t kNobody = 99;
};
Token fast, slow;

struct alignas(64) PerCpu {
    std::uint64_t broadcasts = 0;
};
PerCpu per_cpu[kMaxCpus];
std::uint64_t broadcasts_sent, broadcast_at;

void hand_on(Token& t, std::uint32_t sgi, unsigned to) {
    __atomic_fetch_add(&t.hops, 1, __ATOMIC_RELAXED);
    __atomic_store_n(&t.holder, to, __ATOMIC_RELEASE);
    send_sgi(sgi, machine().mpidr[to]);
}

bool arrive(Token& t, std::uint32_t sgi) {
    const std::uint32_t holder = __atomic_exchange_n(&t.holder, Token::kNobody, __ATOMIC_ACQUIRE);
    if (holder == cpu_index()) return true;
    bad("STORM BAD SGI {} on CPU {} is a duplicate or strayed: CPU {} was to get it", sgi, cpu_index(), holder);
    return false;
}

void park(Token& t) {
    __atomic_store_n(&t.parked, cpu_index(), __ATOMIC_RELEASE);
}

void unpark(Token& t, std::uint32_t sgi, unsigned to) {
    if (__atomic_load_n(&t.parked, __ATOMIC_ACQUIRE) != cpu_index()) return;
    __atomic_store_n(&t.parked, Token::kNobody, __ATOMIC_RELAXED);
    hand_on(t, sgi, to);
}

void check(Token& t, std::uint32_t sgi) {
    const std::uint64_t now = counter(), hops = __atomic_load_n(&t.hops, __ATOMIC_RELAXED);
    if (hops != t.seen_hops) {
        t.seen_hops = hops;
        t.seen_at = now;
    } else if (now - t.seen_at > settings.patience) {
        bad("STORM BAD SGI {} is lost: CPU {} never got it ({} hops)", sgi, t.holder, hops);
        t.seen_at = now;
    }
}

void check_broadcast() {
    const std::uint64_t now = counter();
    for (unsigned i = 1; i < machine().cpus; ++i) {
        const std::uint64_t got = __atomic_load_n(&per_cpu[i].broadcasts, __ATOMIC_ACQUIRE);
        if (got == broadcasts_sent) continue;
        if (got > broadcasts_sent) bad("STORM BAD CPU {} got {} broadcast SGIs of {}", i, got, broadcasts_sent);
        if (now - broadcast_at > settings.patience)
            bad("STORM BAD broadcast SGI lost: CPU {} got {} of {}", i, got, broadcasts_sent);
        return;
    }
    if (now - broadcast_at < frequency() / 50) return;
    broadcast_at = now;
    ++broadcasts_sent;
    send_sgi_to_others(kBroadcastSgi);
}

}  // namespace

void start_tokens() {
    fast.seen_at = slow.seen_at = broadcast_at = counter();
    hand_on(fast, kTokenSgi, machine().cpus > 1 ? 1 : 0);
    hand_on(slow, kSlowTokenSgi, machine().cpus - 1);
}

bool token_irq(std::uint32_t intid) {
    const unsigned self = cpu_index(), n = machine().cpus;
    switch (intid) {
        case kTokenSgi:
            if (!arrive(fast, intid)) return true;
            if (n > 1)
                hand_on(fast, intid, (self + 1) % n);
            else
                park(fast);  // a CPU alone would do nothing else any more
            return true;
        case kSlowTokenSgi:
            if (arrive(slow, intid)) park(slow);
            return true;
        case kBroadcastSgi: __atomic_fetch_add(&per_cpu[self].broadcasts, 1, __ATOMIC_RELEASE); return true;
        default: return false;
    }
}

void forward_parked_tokens() {
    const unsigned self = cpu_index(), n = machine().cpus;
    unpark(slow, kSlowTokenSgi, (self + n - 1) % n);
    unpark(fast, kTokenSgi, (self + 1) % n);
}

void check_tokens() {
    check(fast, kTokenSgi);
    check(slow, kSlowTokenSgi);
    if (machine().cpus > 1) check_broadcast();
}

std::uint64_t total_hops() {
    return fast.hops + slow.hops;
}

}  // namespace guest::storm
