#pragma once

#include <cstdint>

#include "common/skeleton_augment.h"
#include "common/status.h"

namespace aimclr::cpu {

// Writes the views of `outputs`, of type `out_type`, for samples 0 to n - 1: sequence index[i] of
// data [sequences, 3, frames, joints, bodies], of type `data_type`, with the draws of position
// offset + i. `index_bytes` is 4 or 8; `data_scale` turns stored units to metres.
Status skeleton_augment(const void* data, int data_type, float data_scale, std::int64_t sequences,
                        const void* index, int index_bytes, std::int64_t n,
                        const augment::Outputs& outputs, int out_type, const augment::Chain& chain,
                        const augment::Settings& settings, std::uint32_t key0, std::uint32_t key1,
                        std::uint32_t step, std::uint32_t offset, int threads);

// The drawn parameters of one view for positions offset to offset + n - 1, as
// integers[n, 4]: crop start, spatial flip, axis mask, temporal flip, and
// floats[n, 14]: the shear, the angles, the noise's std, the blur's sigma.
Status skeleton_augment_draws(const augment::Settings& settings, std::uint32_t key0,
                              std::uint32_t key1, std::uint32_t step, std::uint32_t offset,
                              std::uint32_t view, int padding, std::int64_t n,
                              std::int32_t* integers, float* floats);

}  // namespace aimclr::cpu
