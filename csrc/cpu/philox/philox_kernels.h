#pragma once

#include <cstdint>

#include "common/philox.h"
#include "cpu/levels.h"

namespace aimclr::cpu {

// Counters encrypted at once: enough for every vector length, few enough to stay in registers and
// the first-level cache.
constexpr int kPhiloxLanes = 64;

AIMCLR_EACH_LEVEL(
    // Encrypts the counters [begin, end) of a call.
    AIMCLR_LEVEL_ENTRY void philox4x32_range(const PhiloxCall& call, std::int64_t begin,
                                             std::int64_t end);

    // words[j][i] = word j of Philox4x32-10 of `counter`, whose first word goes up by i.
    AIMCLR_LEVEL_ENTRY void philox_lanes(Words4 counter, std::uint32_t key0, std::uint32_t key1,
                                         std::uint32_t (&words)[4][kPhiloxLanes]);)

}  // namespace aimclr::cpu
