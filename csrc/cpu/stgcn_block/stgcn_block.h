#pragma once

#include <cstdint>

#include "common/dtypes.h"
#include "common/fields.h"
#include "common/status.h"

namespace aimclr::cpu {

// One block of aimclr_fast/reference/stgcn_block.py and its gradients. Maps are [B, T, V, C] in
// memory, weights and norms as in PyTorch, all contiguous; see aimclr_fast/ops/stgcn_block.py for
// the shapes. T is float or double, and M the element of maps: T, or BFloat16 beside a T of float;
// then sums, norms and statistics are float, and products take bfloat16. Results do not depend on
// `threads`.

struct StgcnShape {
    std::int64_t batch, in, out, frames, joints, parts, taps, stride;
    AIMCLR_FIELDS(batch, in, out, frames, joints, parts, taps, stride)

    std::int64_t shorter() const {
        return (frames + stride - 1) / stride;
    }
};

// What both passes read.
template <typename T, typename M = T>
struct StgcnBlock {
    StgcnShape shape;
    const M* x;
    const T* adjacency;
    const T *spatial_weight, *spatial_bias, *temporal_weight, *temporal_bias;
    const T* norms;
    const T *residual_weight, *residual_bias;  // null without a residual convolution
    const T* running;                          // null in training: the batch's statistics
    const std::uint8_t* keep;                  // null to keep all
    std::int64_t keep_bytes;                   // of bits; 0 where each element has a byte
    bool identity;
    double scale, eps;
    void* workspace;  // stgcn_block_workspace() bytes, aligned to 64
    AIMCLR_FIELDS(shape, x, adjacency, spatial_weight, spatial_bias, temporal_weight, temporal_bias,
                  norms, residual_weight, residual_bias, running, keep, keep_bytes, identity, scale,
                  eps, workspace)
};

// What the forward pass writes, and the backward pass reads. In evaluation `spatial`, `temporal`
// and `shortcut` are null where nothing need be kept.
template <typename T, typename M = T>
struct StgcnMaps {
    M* y;
    T* statistics;
    M *spatial, *temporal, *shortcut;
    AIMCLR_FIELDS(y, statistics, spatial, temporal, shortcut)
};

// Each as the input it is the gradient of; null for those of an absent residual convolution.
template <typename T, typename M = T>
struct StgcnGradients {
    M* d_x;
    T* d_adjacency;
    T *d_spatial_weight, *d_spatial_bias, *d_temporal_weight, *d_temporal_bias;
    T* d_norms;
    T *d_residual_weight, *d_residual_bias;
    AIMCLR_FIELDS(d_x, d_adjacency, d_spatial_weight, d_spatial_bias, d_temporal_weight,
                  d_temporal_bias, d_norms, d_residual_weight, d_residual_bias)
};

template <typename T, typename M>
Status stgcn_block_forward(const StgcnBlock<T, M>& block, const StgcnMaps<T, M>& to, int threads);

template <typename T, typename M>
Status stgcn_block_backward(const M* grad_y, const StgcnBlock<T, M>& block,
                            const StgcnMaps<T, M>& saved, const StgcnGradients<T, M>& to,
                            int threads);

template <>
Status stgcn_block_forward(const StgcnBlock<float, BFloat16>& block,
                           const StgcnMaps<float, BFloat16>& to, int threads);
template <>
Status stgcn_block_backward(const BFloat16* grad_y, const StgcnBlock<float, BFloat16>& block,
                            const StgcnMaps<float, BFloat16>& saved,
                            const StgcnGradients<float, BFloat16>& to, int threads);

// Bytes of workspace for maps of `element_bytes`: 2 (BFloat16), 4 or 8.
Status stgcn_block_workspace(const StgcnShape& shape, bool residual, bool backward,
                             std::int64_t element_bytes, int threads, std::int64_t& bytes);

}  // namespace aimclr::cpu
