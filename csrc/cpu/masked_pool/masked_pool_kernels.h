// The loops over samples that masked_pool has for each instruction set.
#pragma once

#include <cstdint>

#include "cpu/levels.h"
#include "cpu/masked_pool/masked_pool.h"

namespace aimclr::cpu {

// How many elements of a map are in the region, and how many are not.
struct MaskCounts {
    std::int64_t inside, outside;
};

AIMCLR_EACH_LEVEL(
    // Samples [begin, end).
    template <typename T>
    AIMCLR_LEVEL_ENTRY void pool_samples(const MaskedPoolForward<T>& call, MaskCounts counts,
                                         std::int64_t begin, std::int64_t end);

    template <typename T>
    AIMCLR_LEVEL_ENTRY void spread_samples(const MaskedPoolBackward<T>& call, MaskCounts counts,
                                           std::int64_t begin, std::int64_t end);)

}  // namespace aimclr::cpu
