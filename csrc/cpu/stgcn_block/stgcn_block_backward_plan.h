// Where stgcn_block's backward pass keeps what it computes on the way.
#pragma once

#include <algorithm>

#include "cpu/stgcn_block/stgcn_block_plan.h"

namespace aimclr::cpu::stgcn {

inline constexpr Index kChunkRows = 384;  // rows of a weight gradient that are summed at a time

inline Index chunk_frames(const Plan& plan) {
    return std::clamp<Index>(kChunkRows / plan.joints, 1, plan.frames);
}

template <typename T>
struct BackwardScratch {
    T* rows;                // gradients of a sample's temporal map, or of a chunk's spatial map
    T* activated;           // a sample after the spatial norm, by rows
    T* gathered;            // a chunk's inputs of the spatial product
    T *product, *residual;  // gradients of a frame's inputs, of the spatial and residual product
    T* residual_rows;
    T* edge_sums;

    BackwardScratch(const Plan& plan, Arena& arena) {
        const Index frames = std::max(plan.shorter, chunk_frames(plan));
        rows = arena.take<T>(frames * plan.joints * plan.rows_pitch);
        activated = arena.take<T>((plan.frames + plan.stride) * plan.joints * plan.rows_pitch);
        gathered = arena.take<T>(chunk_frames(plan) * plan.joints * plan.inputs);
        product = arena.take<T>(plan.joints * plan.wide_inputs);
        residual = arena.take<T>(plan.residual ? plan.joints * plan.wide_in : 0);
        residual_rows = arena.take<T>(plan.residual ? plan.joints * plan.out : 0);
        edge_sums = arena.take<T>(plan.parts * plan.joints * plan.joints * kMaxLanes);
    }
    void clear(const Plan&) const {}
};

// What all threads share where the temporal convolution's gradients are spectral: of each group of
// samples planes of the upstream gradient, conjugate ones for the gradients of taps, planes of the
// activated map, and products; then planes of the taps' gradient.
template <typename T>
struct BackwardPlanes {
    Index row_size, product_size;  // of a group
    T *inputs, *grads, *activations, *products, *taps;

    BackwardPlanes(const Plan& plan, int threads, Arena& arena) {
        const Spectral<T> spectral = plan.spectral<T>();
        const Index groups = plan.by_planes ? plan.pass_samples(threads) / kSpectralSamples : 0;
        const Index samples = plan.by_planes ? kSpectralSamples : 0;
        row_size = samples * spectral.planes() * plan.joints * plan.rows_pitch;
        product_size = spectral.products_size(samples);
        inputs = arena.take<T>(groups * row_size);
        grads = arena.take<T>(groups * row_size);
        activations = arena.take<T>(groups * row_size);
        products = arena.take<T>(groups * product_size);
        taps = arena.take<T>(plan.by_planes ? spectral.packed_size() : 0);
    }
};

}  // namespace aimclr::cpu::stgcn
