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
    T *rows, *columns;      // gradients of a sample's temporal map, or of a chunk's spatial map
    T* activated;           // a sample after the spatial norm, by rows
    T* gathered;            // a chunk's inputs of the spatial product
    T *product, *residual;  // gradients of a frame's inputs, of the spatial and residual product
    T *residual_rows, *residual_columns;
    T* edge_sums;
    // Of some samples' spectral convolution: planes of the upstream gradient by columns and by
    // rows, of the activated map by rows, products, and planes of the taps' gradient.
    T *inputs, *grads, *activations, *products, *taps;

    BackwardScratch(const Plan& plan, Arena& arena) {
        const Index frames = std::max(plan.shorter, chunk_frames(plan));
        rows = arena.take<T>(frames * plan.joints * plan.rows_pitch);
        columns = arena.take<T>(frames * plan.out * plan.pitch);
        activated = arena.take<T>((plan.frames + plan.stride) * plan.joints * plan.rows_pitch);
        gathered = arena.take<T>(chunk_frames(plan) * plan.joints * plan.inputs);
        product = arena.take<T>(plan.joints * plan.wide_inputs);
        residual = arena.take<T>(plan.residual ? plan.joints * plan.wide_in : 0);
        residual_rows = arena.take<T>(plan.residual ? plan.joints * plan.out : 0);
        residual_columns = arena.take<T>(plan.residual ? plan.out * plan.pitch : 0);
        edge_sums = arena.take<T>(plan.parts * plan.joints * plan.joints * kMaxLanes);
        const Spectral<T> spectral = plan.spectral<T>();
        const Index samples = plan.use_spectral() ? kSpectralSamples : 0;
        const Index by_rows = samples * spectral.planes() * plan.joints * plan.rows_pitch;
        inputs = arena.take<T>(spectral.inputs_size(samples));
        grads = arena.take<T>(by_rows);
        activations = arena.take<T>(by_rows);
        products = arena.take<T>(spectral.products_size(samples));
        taps = arena.take<T>(plan.use_spectral() ? spectral.packed_size() : 0);
    }
    void clear(const Plan&) const {}
};

}  // namespace aimclr::cpu::stgcn
