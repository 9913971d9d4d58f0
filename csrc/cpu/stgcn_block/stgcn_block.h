#pragma once

#include <cstdint>

#include "common/status.h"

namespace aimclr::cpu {

// One block of aimclr_fast/reference/stgcn_block.py and its gradients. Maps are [B, T, V, C] in
// memory, weights and norms as in PyTorch, all contiguous; see aimclr_fast/ops/stgcn_block.py for
// the shapes. T is float or double. Results do not depend on `threads`.

struct StgcnShape {
    std::int64_t batch, in, out, frames, joints, parts, taps, stride;

    std::int64_t shorter() const {
        return (frames + stride - 1) / stride;
    }
};

//   running: null in training, when the batch's statistics normalise
//   residual_weight, residual_bias: null without a residual convolution
//   keep: null to keep all
//   spatial, temporal, shortcut: null where nothing need be kept (in evaluation only)
//   workspace: stgcn_block_workspace() bytes, aligned to 64
//   vector_bytes: 0, or the widest vectors to use (64: AVX-512, 32: AVX2, 16: baseline)
template <typename T>
Status stgcn_block_forward(const T* x, const T* adjacency, const T* spatial_weight,
                           const T* spatial_bias, const T* temporal_weight, const T* temporal_bias,
                           const T* norms, const T* residual_weight, const T* residual_bias,
                           const T* running, const std::uint8_t* keep, std::int64_t batch,
                           std::int64_t in, std::int64_t out, std::int64_t frames,
                           std::int64_t joints, std::int64_t parts, std::int64_t taps,
                           std::int64_t stride, bool identity, double keep_scale, double eps, T* y,
                           T* statistics, T* spatial, T* temporal, T* shortcut, void* workspace,
                           int threads, int vector_bytes);

// Gradients from that of y and what the forward pass left; each output as its input. Those of the
// residual convolution are null without it.
template <typename T>
Status stgcn_block_backward(
    const T* grad_y, const T* x, const T* adjacency, const T* spatial_weight, const T* spatial_bias,
    const T* temporal_weight, const T* norms, const T* residual_weight, const std::uint8_t* keep,
    const T* y, const T* statistics, const T* spatial, const T* temporal, const T* shortcut,
    std::int64_t batch, std::int64_t in, std::int64_t out, std::int64_t frames, std::int64_t joints,
    std::int64_t parts, std::int64_t taps, std::int64_t stride, bool identity, bool training,
    double keep_scale, double eps, T* d_x, T* d_adjacency, T* d_spatial_weight, T* d_spatial_bias,
    T* d_temporal_weight, T* d_temporal_bias, T* d_norms, T* d_residual_weight, T* d_residual_bias,
    void* workspace, int threads, int vector_bytes);

// Bytes of workspace for elements of `element_bytes` (4 or 8).
Status stgcn_block_workspace(bool backward, const StgcnShape& shape, bool residual, int threads,
                             std::int64_t element_bytes, std::int64_t& bytes);

}  // namespace aimclr::cpu
