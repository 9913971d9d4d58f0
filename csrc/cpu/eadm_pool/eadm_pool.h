#pragma once

#include <cstdint>

#include "common/fields.h"
#include "common/status.h"
#include "cpu/eadm_pool/eadm_pool_math.h"

namespace aimclr::cpu {

// Energy-based attention-guided drop and pooling: aimclr_fast/reference/eadm_pool.py.
//
// T is float, double, BFloat16 or Float16; pooled values, their gradients and `scale` are Real<T>.
// Maps x and dx are [batch, channels, frames, joints], or [batch, frames, joints, channels] with
// `channels_last`. `bits` holds eight frames a byte, the first in the lowest bit:
// [batch, channels, octets, joints], or [batch, octets, joints, channels].

struct EadmPoolShape {
    std::int64_t batch, channels, frames, joints;
    bool channels_last;
    AIMCLR_FIELDS(batch, channels, frames, joints, channels_last)
};

template <typename T>
struct EadmPoolForward {
    EadmPoolShape shape;
    double keep_prob, e_lambda;
    const T* x;
    Real<T>* pooled;            // [batch, channels]
    Real<T>* pooled_drop;       // [batch, channels]
    std::uint8_t* bits;         // set where an element's attention is below keep_prob
    std::uint8_t* kept_joints;  // [batch, joints], 1 where the joint's mean attention is
    Real<T>* scale;             // [1], the product of both rescalings
    void* workspace;            // eadm_pool_workspace() bytes, 64-byte aligned
    AIMCLR_FIELDS(shape, keep_prob, e_lambda, x, pooled, pooled_drop, bits, kept_joints, scale,
                  workspace)
};

// dx, the gradient of the map, from the gradients of pooled and pooled_drop.
template <typename T>
struct EadmPoolBackward {
    EadmPoolShape shape;
    const Real<T>* grad_pooled;
    const Real<T>* grad_drop;
    const std::uint8_t* bits;
    const std::uint8_t* kept_joints;
    const Real<T>* scale;
    T* dx;
    void* workspace;
    AIMCLR_FIELDS(shape, grad_pooled, grad_drop, bits, kept_joints, scale, dx, workspace)
};

// Bytes of workspace for sums of `real_bytes`, 4 or 8.
Status eadm_pool_workspace(const EadmPoolShape& shape, std::int64_t real_bytes, int threads,
                           std::int64_t& bytes);

template <typename T>
Status eadm_pool_forward(const EadmPoolForward<T>& call, int threads);

template <typename T>
Status eadm_pool_backward(const EadmPoolBackward<T>& call, int threads);

// What one thread needs of the workspace, a multiple of 64.
std::int64_t eadm_pool_thread_bytes(const EadmPoolShape& shape, std::int64_t real_bytes);

Status eadm_pool_check(const EadmPoolShape& shape, int threads);

}  // namespace aimclr::cpu
