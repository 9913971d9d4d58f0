#pragma once

#include <cstdint>

#include "common/status.h"
#include "cpu/eadm_pool/eadm_pool_math.h"

namespace aimclr::cpu {

// Energy-based attention-guided drop and pooling: aimclr_fast/reference/eadm_pool.py.
//
// T is float, double, BFloat16 or Float16; pooled values, their gradients and `scale` are Real<T>.
// Maps x and dx are [batch, channels, frames, joints], or [batch, frames, joints, channels] with
// `channels_last`. `bits` holds eight frames a byte, the first in the lowest bit:
// [batch, channels, octets, joints], or [batch, octets, joints, channels].

// Bytes of scratch that one thread needs, a multiple of 64.
std::int64_t eadm_pool_scratch_bytes(std::int64_t channels, std::int64_t frames,
                                     std::int64_t joints, std::int64_t real_bytes);

// pooled, pooled_drop [batch, channels]; bits as above, set where an element's attention is below
// keep_prob; kept_joints [batch, joints], 1 where the joint's mean attention is; scale [1], the
// product of both rescalings. Scratch is `threads` times eadm_pool_scratch_bytes, 64-byte aligned.
template <typename T>
Status eadm_pool_forward(const T* x, std::int64_t batch, std::int64_t channels, std::int64_t frames,
                         std::int64_t joints, bool channels_last, double keep_prob, double e_lambda,
                         Real<T>* pooled, Real<T>* pooled_drop, std::uint8_t* bits,
                         std::uint8_t* kept_joints, Real<T>* scale, std::uint8_t* scratch,
                         int threads);

// dx, the gradient of the map, from the gradients of pooled and pooled_drop.
template <typename T>
Status eadm_pool_backward(const Real<T>* grad_pooled, const Real<T>* grad_drop,
                          const std::uint8_t* bits, const std::uint8_t* kept_joints,
                          const Real<T>* scale, std::int64_t batch, std::int64_t channels,
                          std::int64_t frames, std::int64_t joints, bool channels_last, T* dx,
                          std::uint8_t* scratch, int threads);

}  // namespace aimclr::cpu
