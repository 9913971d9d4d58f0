#include <algorithm>

#include "cpu/eadm_pool/eadm_pool_kernels.h"

namespace aimclr::cpu::AIMCLR_LEVEL {
namespace {

// Channels follow each other. `octet` and `selected` have kLanes of slack: blocks of joints are
// written whole, and what runs on into the next frame is overwritten by it.
template <typename Word>
AIMCLR_INLINE void backward_rows(const PoolBackward<Word>& call, std::uint8_t* octet,
                                 std::uint8_t* selected) {
    const std::int64_t frames = call.frames, joints = call.joints, n = frames * joints;
    const std::uint8_t* bits = call.bits;
    Word* to = call.dx;
    for (std::int64_t c = 0; c < call.channels; ++c, to += n) {
        for (std::int64_t start = 0; start < frames; start += 8, bits += joints) {
            for (std::int64_t v = 0; v < joints; ++v) {
                octet[v] = call.kept_joints[v] ? bits[v] : std::uint8_t{0};
            }
            for (std::int64_t t = start; t < std::min(frames, start + 8); ++t) {
                const auto bit = static_cast<std::uint8_t>(1 << (t - start));
                for (std::int64_t first = 0; first < joints; first += kLanes) {
                    for (std::int64_t j = first; j < first + kLanes; ++j) {
                        selected[t * joints + j] = octet[j] & bit;
                    }
                }
            }
        }
        const Word dropped = call.dropped[c], kept = call.kept[c];
        for (std::int64_t i = 0; i < n; ++i) {
            to[i] = selected[i] ? kept : dropped;
        }
    }
}

// Channels-last format.
template <typename Word>
AIMCLR_INLINE void backward_columns(const PoolBackward<Word>& call) {
    const std::int64_t channels = call.channels, joints = call.joints;
    const Word* __restrict__ where_kept = call.kept;
    const Word* __restrict__ where_dropped = call.dropped;
    Word* __restrict__ to = call.dx;
    for (std::int64_t t = 0; t < call.frames; ++t) {
        for (std::int64_t v = 0; v < joints; ++v, to += channels) {
            const std::uint8_t* __restrict__ octet = call.bits + (t / 8 * joints + v) * channels;
            const auto bit = static_cast<std::uint8_t>((call.kept_joints[v] != 0) << t % 8);
            for (std::int64_t c = 0; c < channels; ++c) {
                const Word kept = where_kept[c], dropped = where_dropped[c];
                to[c] = octet[c] & bit ? kept : dropped;
            }
        }
    }
}

}  // namespace

template <typename Word>
void backward_sample(const PoolBackward<Word>& call, bool channels_last, std::uint8_t* octet,
                     std::uint8_t* selected) {
    if (channels_last) {
        backward_columns(call);
    } else {
        backward_rows(call, octet, selected);
    }
}

template void backward_sample(const PoolBackward<float>&, bool, std::uint8_t*, std::uint8_t*);
template void backward_sample(const PoolBackward<double>&, bool, std::uint8_t*, std::uint8_t*);
template void backward_sample(const PoolBackward<std::uint16_t>&, bool, std::uint8_t*,
                              std::uint8_t*);

}  // namespace aimclr::cpu::AIMCLR_LEVEL
