#pragma once

#include <cstdint>

namespace aimclr::cpu {

// Counters encrypted at once: enough for every vector length, few enough to stay in registers and
// the first-level cache.
constexpr int kPhiloxLanes = 64;

// words[j][i] = word j of Philox4x32-10 of the counter (first + i, c1, c2, c3).
void philox_lanes(std::uint32_t first, std::uint32_t c1, std::uint32_t c2, std::uint32_t c3,
                  std::uint32_t key0, std::uint32_t key1, std::uint32_t (&words)[4][kPhiloxLanes]);

}  // namespace aimclr::cpu
