// Register-tiled product of a frame's columns with packed weights (see Product).
#pragma once

#include <algorithm>

#include "cpu/stgcn_block/stgcn_tile.h"

namespace aimclr::cpu::stgcn {

template <typename Tl, int kJoints, int kVecs, typename T>
AIMCLR_INLINE void product_tile(const Product<T>& call, Index joint, Index channel,
                                const T* weights) {
    using Vec = typename Tl::Vec;
    Vec sums[kJoints][kVecs];
#pragma GCC unroll 32
    for (int j = 0; j < kJoints; ++j) {
#pragma GCC unroll 2
        for (int v = 0; v < kVecs; ++v) {
            sums[j][v] = Vec{};
            if (call.start != nullptr) {
                sums[j][v] = reinterpret_cast<const Vec*>(
                    call.start + (joint + j) * call.start_pitch + channel)[v];
            }
        }
    }
    const Vec* weight = reinterpret_cast<const Vec*>(weights);
    for (Index segment = 0; segment < call.segments; ++segment) {
        const T* column = call.columns + segment * call.segment_step + joint * call.joint_step;
        for (Index i = 0; i < call.length; ++i, column += call.pitch, weight += kVecs) {
#pragma GCC unroll 32
            for (int j = 0; j < kJoints; ++j) {
#pragma GCC unroll 2
                for (int v = 0; v < kVecs; ++v) {
                    sums[j][v] += column[j * call.joint_step] * weight[v];
                }
            }
        }
    }
#pragma GCC unroll 32
    for (int j = 0; j < kJoints; ++j) {
#pragma GCC unroll 2
        for (int v = 0; v < kVecs; ++v) {
            reinterpret_cast<Vec*>(call.out + (joint + j) * call.out_pitch + channel)[v] =
                sums[j][v];
        }
    }
}

// The tile of as many joints as are wanted, out of the compiled ones.
template <typename Tl, int kJoints, int kVecs, typename T>
AIMCLR_INLINE void product_joints(Index joints, const Product<T>& call, Index joint, Index channel,
                                  const T* weights) {
    if constexpr (kJoints > 1) {
        if (joints < kJoints) {
            product_joints<Tl, kJoints - 1, kVecs>(joints, call, joint, channel, weights);
            return;
        }
    }
    product_tile<Tl, kJoints, kVecs>(call, joint, channel, weights);
}

template <typename Tl, int kVecs, typename T>
AIMCLR_INLINE void product_panel(const Product<T>& call, Index channel) {
    constexpr Index kMost = kVecs == 1 ? Tl::kOne : Tl::kTwo;
    const Index tiles = (call.joints + kMost - 1) / kMost;
    const T* const weights =
        call.packed + channel * call.panel_rows + call.first_row * kVecs * Tl::kLanes;
    for (Index tile = 0; tile < tiles; ++tile) {
        const Index joint = call.joints * tile / tiles;
        product_joints<Tl, static_cast<int>(kMost), kVecs>(call.joints * (tile + 1) / tiles - joint,
                                                           call, joint, channel, weights);
    }
}

template <typename Tl, typename T>
void product(const Product<T>& call) {
    Index channel = 0;
    for (; channel + 2 * Tl::kLanes <= call.width; channel += 2 * Tl::kLanes) {
        product_panel<Tl, 2>(call, channel);
    }
    if (channel < call.width) {
        product_panel<Tl, 1>(call, channel);
    }
}

// Packs weights(row, channel) for `product`; channels beyond `channels` get zeros.
template <typename T, typename Weights>
void pack(Index rows, Index channels, Index lanes, T* packed, const Weights& weights) {
    const Index padded = round_up(channels, lanes);
    for (Index first = 0; first < padded; first += 2 * lanes) {
        const Index width = std::min(2 * lanes, padded - first);
        const Index filled = std::min(width, channels - first);
        T* to = packed + first * rows;
        for (Index row = 0; row < rows; ++row, to += width) {
            for (Index c = 0; c < filled; ++c) {
                to[c] = weights(row, first + c);
            }
            for (Index c = filled; c < width; ++c) {
                to[c] = T{0};
            }
        }
    }
}

}  // namespace aimclr::cpu::stgcn
