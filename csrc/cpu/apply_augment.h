#pragma once

#include <cstdint>

#include "common/skeleton_augment.h"
#include "common/status.h"

namespace aimclr::cpu {

// Writes out[n, 3, frames, joints, bodies]: the given augmentation of x, of the same shape and
// type, as `stream`. `noise` is like x or null. Shear, angles and sigmas are double for double x,
// else float.
Status apply_augment(const void* x, const void* noise, void* out, int type, std::int64_t n,
                     const augment::GivenArrays& params, const augment::Chain& chain, int stream,
                     int threads);

// The gradients of the above: from grad, like out, to grad_x and grad_noise, either of them null.
Status apply_augment_backward(const void* grad, void* grad_x, void* grad_noise, int type,
                              std::int64_t n, const augment::GivenArrays& params,
                              const augment::Chain& chain, int stream, int threads);

}  // namespace aimclr::cpu
