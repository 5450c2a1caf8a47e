// Payloads of control records: the first byte chooses the decoder. What is accepted must survive being written again.
#include <cstddef>
#include <cstdlib>
#include <cstring>

#include "migrate/page_batch.hpp"
#include "migrate/stream.hpp"

using namespace proa::migrate;

namespace {

void must(bool b) {
    if (!b) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0) return 0;
    const View b(data + 1, size - 1);
    switch (data[0] % 9) {
        case 0:
            if (const auto r = decode_machine(b)) {
                must(!r->vcpus.empty() && r->vcpus.size() <= proa::abi::kMaxVcpus);
                must(r->gic.spi_count <= proa::abi::kMaxSpis && r->gic.vcpu_count == r->vcpus.size());
                const Bytes again = encode_machine(*r);
                const auto back = decode_machine(again);
                must(back && encode_machine(*back) == again);
            }
            break;
        case 1:
            if (const auto r = decode_device(b))
                must(r->name.size() <= 128 && r->state.size() <= kMaxDeviceState);
            break;
        case 2:
            if (const auto r = decode_hello(b)) must(r->channels <= kMaxChannels && r->channel <= r->channels);
            break;
        case 3:
            if (const auto r = decode_round(b)) must(decode_round(encode_round(*r)).value() == *r);
            break;
        case 4: (void)decode_complete(b); break;
        case 5: must(decode_abort(b).what.size() <= kMaxText); break;
        case 6:
            if (const auto r = decode_policy(b)) must(decode_policy(encode_policy(*r)).has_value());
            break;
        case 8:
            if (const auto r = decode_late(b))
                must(r->device.size() <= 128 && r->frame.size() <= kMaxLateFrame);
            break;
        case 7: {
            constexpr std::uint64_t kPages = 32;
            static std::vector<std::uint8_t> ram(kPages * kPageBytes), before;
            std::memset(ram.data(), 0x55, ram.size());
            before = ram;
            const auto r = apply_batch(b, ram);
            must(r ? r->zero + r->plain > 0 && r->zero + r->plain <= kPages : ram == before);
            break;
        }
    }
    return 0;
}
