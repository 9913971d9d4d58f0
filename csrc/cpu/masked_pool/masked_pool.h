#pragma once

#include <cstdint>

#include "common/dtypes.h"
#include "common/fields.h"
#include "common/status.h"

namespace aimclr::cpu {

// Means of a map over a region of frames and joints, and over the rest:
// aimclr_fast/reference/masked_pool.py.
//
// T is float, double, BFloat16 or Half; means and their gradients are RealOf<T>. Maps x and dx are
// [batch, channels, frames, joints], or [batch, frames, joints, channels] with `channels_last`.

struct MaskedPoolShape {
    std::int64_t batch, channels, frames, joints;
    bool channels_last;
    AIMCLR_FIELDS(batch, channels, frames, joints, channels_last)
};

template <typename T>
struct MaskedPoolForward {
    MaskedPoolShape shape;
    const T* x;
    const std::uint8_t* mask;  // [frames, joints], not 0 in the region
    RealOf<T>* inside;         // [batch, channels]
    RealOf<T>* outside;        // [batch, channels]
    AIMCLR_FIELDS(shape, x, mask, inside, outside)
};

// dx, the gradient of the map, from those of both means.
template <typename T>
struct MaskedPoolBackward {
    MaskedPoolShape shape;
    const RealOf<T>* grad_inside;
    const RealOf<T>* grad_outside;
    const std::uint8_t* mask;
    T* dx;
    AIMCLR_FIELDS(shape, grad_inside, grad_outside, mask, dx)
};

template <typename T>
Status masked_pool_forward(const MaskedPoolForward<T>& call, int threads);

template <typename T>
Status masked_pool_backward(const MaskedPoolBackward<T>& call, int threads);

}  // namespace aimclr::cpu
