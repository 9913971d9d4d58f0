// Register-tiled outer products summed over rows: gradients of weights (see Outer).
#pragma once

#include "cpu/stgcn_block/stgcn_tile.h"

namespace aimclr::cpu::stgcn {

template <typename Tl, int kInputs, int kVecs, typename T>
AIMCLR_INLINE void outer_tile(const Outer<T>& call, Index input, Index channel) {
    using Vec = typename Tl::Vec;
    Vec sums[kInputs][kVecs] = {};
    const T* a = call.a + input;
    const T* b = call.b + channel;
    for (Index row = 0; row < call.rows; ++row, a += call.a_pitch, b += call.b_pitch) {
#pragma GCC unroll 32
        for (int i = 0; i < kInputs; ++i) {
#pragma GCC unroll 2
            for (int v = 0; v < kVecs; ++v) {
                sums[i][v] += a[i] * reinterpret_cast<const Vec*>(b)[v];
            }
        }
    }
    T* to = call.sum + input * call.sum_pitch + channel;
#pragma GCC unroll 32
    for (int i = 0; i < kInputs; ++i) {
#pragma GCC unroll 2
        for (int v = 0; v < kVecs; ++v) {
            reinterpret_cast<Vec*>(to + i * call.sum_pitch)[v] += sums[i][v];
        }
    }
}

template <typename Tl, int kInputs, int kVecs, typename T>
AIMCLR_INLINE void outer_inputs(Index inputs, const Outer<T>& call, Index input, Index channel) {
    if constexpr (kInputs > 1) {
        if (inputs < kInputs) {
            outer_inputs<Tl, kInputs - 1, kVecs>(inputs, call, input, channel);
            return;
        }
    }
    outer_tile<Tl, kInputs, kVecs>(call, input, channel);
}

template <typename Tl, int kVecs, typename T>
AIMCLR_INLINE void outer_panel(const Outer<T>& call, Index channel) {
    // Tiles of full cache lines read the fewest of them.
    constexpr Index kMost = kVecs == 1 ? (Tl::kOne < 16 ? Tl::kOne : 16) : Tl::kTwo - 1;
    const Index tiles = (call.a_width + kMost - 1) / kMost;
    for (Index tile = 0; tile < tiles; ++tile) {
        const Index input = call.a_width * tile / tiles;
        outer_inputs<Tl, static_cast<int>(kMost), kVecs>(call.a_width * (tile + 1) / tiles - input,
                                                         call, input, channel);
    }
}

template <typename Tl, typename T>
void outer(const Outer<T>& call) {
    Index channel = 0;
    for (; channel + 2 * Tl::kLanes <= call.b_width; channel += 2 * Tl::kLanes) {
        outer_panel<Tl, 2>(call, channel);
    }
    if (channel < call.b_width) {
        outer_panel<Tl, 1>(call, channel);
    }
}

}  // namespace aimclr::cpu::stgcn
