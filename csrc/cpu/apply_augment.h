#pragma once

#include <cstdint>

#include "common/status.h"

namespace aimclr::cpu {

// Writes out[n, 3, frames, joints, bodies]: the given augmentation of x, of the same shape and
// type. `noise` is like x or null. The parameters are as in augment::GivenParams; shear, angles and
// sigmas are double for double x, else float.
Status apply_augment(const void* x, const void* noise, void* out, int type,
                     const std::int64_t* crop_start, const void* shear, const bool* spatial_flip,
                     const void* angles, const void* blur_sigma, const std::int64_t* axis_mask,
                     const bool* temporal_flip, const std::int32_t* swap,
                     const std::int32_t* parents, int stream, int crop_ratio, int blur_taps,
                     bool blur_normalize, std::int64_t n, int frames, int joints, int bodies,
                     int threads);

// The gradients of the above: from grad, like out, to grad_x and grad_noise, either of them null.
Status apply_augment_backward(const void* grad, void* grad_x, void* grad_noise, int type,
                              const std::int64_t* crop_start, const void* shear,
                              const bool* spatial_flip, const void* angles, const void* blur_sigma,
                              const std::int64_t* axis_mask, const bool* temporal_flip,
                              const std::int32_t* swap, const std::int32_t* parents, int stream,
                              int crop_ratio, int blur_taps, bool blur_normalize, std::int64_t n,
                              int frames, int joints, int bodies, int threads);

}  // namespace aimclr::cpu
