// The loops over samples that eadm_pool has for each instruction set.
#pragma once

#include <cstdint>

#include "cpu/eadm_pool/eadm_pool_math.h"
#include "cpu/levels.h"

namespace aimclr::cpu {

// A call for one batch; `R` is what sums are kept in.
template <typename T, typename R = Real<T>>
struct PoolForward {
    const T* x;
    std::int64_t channels, frames, joints;
    bool channels_last;
    R keep_prob, logit_limit, e_lambda;
    R* pooled;
    R* pooled_drop;
    std::uint8_t* bits;
    std::uint8_t* kept_joints;

    std::int64_t elements() const {
        return frames * joints;
    }
    std::int64_t octets() const {
        return (frames + 7) / 8;
    }
};

struct PoolKept {
    std::int64_t elements, joints;
};

// One sample. Its gradient has two values per channel: where an element was dropped and where it
// was kept. `Word` holds either without regard to its type.
template <typename Word>
struct PoolBackward {
    const Word* dropped;  // [channels]
    const Word* kept;
    const std::uint8_t* bits;
    const std::uint8_t* kept_joints;
    std::int64_t channels, frames, joints;
    Word* dx;
};

AIMCLR_EACH_LEVEL(
    // Samples [begin, end), with a thread's scratch.
    template <typename T>
    AIMCLR_LEVEL_ENTRY PoolKept forward_samples(const PoolForward<T>& call, std::int64_t begin,
                                                std::int64_t end, std::uint8_t* scratch);

    template <typename Word>
    AIMCLR_LEVEL_ENTRY void backward_sample(const PoolBackward<Word>& call, bool channels_last,
                                            std::uint8_t* octet, std::uint8_t* selected);)

}  // namespace aimclr::cpu
