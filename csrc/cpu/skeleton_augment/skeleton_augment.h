#pragma once

#include <cstdint>

#include "common/skeleton_augment_call.h"
#include "common/status.h"

namespace aimclr::cpu {

// Writes the views, on up to `threads` threads.
Status skeleton_augment(const augment::DrawnCall& call, int threads);

// The drawn parameters of one view for positions offset to offset + n - 1, as
// integers[n, 4]: crop start, spatial flip, axis mask, temporal flip, and
// floats[n, 14]: the shear, the angles, the noise's std, the blur's sigma.
Status skeleton_augment_draws(const augment::Settings& settings, std::uint32_t key0,
                              std::uint32_t key1, std::uint32_t step, std::uint32_t offset,
                              std::uint32_t view, int padding, std::int64_t n,
                              std::int32_t* integers, float* floats);

}  // namespace aimclr::cpu
