// The temporal convolution of wide blocks by Winograd's F(4, 3): four frames of three taps in six
// products and not twelve. The taps are groups of three, which add up before the way back.
//
// The kernels are the transforms of whole frames; `winograd` is the convolution on top of them.
#pragma once

#include <algorithm>

#include "cpu/stgcn_gemm.h"
#include "cpu/stgcn_rows.h"

namespace aimclr::cpu::stgcn {

inline constexpr Index kWinogradFrames = 4, kWinogradTaps = 3, kWinogradPoints = 6;

// Weights at the points 0, 1, -1, 2, -2 and infinity.
inline constexpr double kWinogradWeights[kWinogradPoints][kWinogradTaps] = {
    {1.0 / 4, 0.0, 0.0},           {-1.0 / 6, -1.0 / 6, -1.0 / 6}, {-1.0 / 6, 1.0 / 6, -1.0 / 6},
    {1.0 / 24, 1.0 / 12, 1.0 / 6}, {1.0 / 24, -1.0 / 12, 1.0 / 6}, {0.0, 0.0, 1.0}};

template <typename Tl, typename T>
void winograd_input(const WinogradInput<T>& call) {
    using Vec = typename Tl::Vec;
    for (Index i = 0; i < call.count; i += Tl::kLanes) {
        Vec d[kWinogradPoints];
#pragma GCC unroll 6
        for (Index j = 0; j < kWinogradPoints; ++j) {
            d[j] = load<Tl>(call.frames[j] + i);
        }
        const Vec even = d[4] - T{4} * d[2], odd = d[3] - T{4} * d[1];
        const Vec even2 = d[4] - d[2], odd2 = T{2} * (d[3] - d[1]);
        store<Tl>(call.to + i, T{4} * d[0] - T{5} * d[2] + d[4]);
        store<Tl>(call.to + call.step + i, even + odd);
        store<Tl>(call.to + 2 * call.step + i, even - odd);
        store<Tl>(call.to + 3 * call.step + i, even2 + odd2);
        store<Tl>(call.to + 4 * call.step + i, even2 - odd2);
        store<Tl>(call.to + 5 * call.step + i, T{4} * d[1] - T{5} * d[3] + d[5]);
    }
}

template <typename Tl, typename T>
void winograd_output(const WinogradOutput<T>& call) {
    using Vec = typename Tl::Vec;
    for (Index joint = 0; joint < call.joints; ++joint) {
        for (Index c = 0; c < call.channels; c += Tl::kLanes) {
            const Index i = joint * call.channels + c;
            Vec m[kWinogradPoints];
#pragma GCC unroll 6
            for (Index j = 0; j < kWinogradPoints; ++j) {
                m[j] = load<Tl>(call.products + j * call.step + i);
            }
            const Vec bias = call.bias ? load<Tl>(call.bias + c) : Vec{};
            const Vec sum = m[1] + m[2], difference = m[1] - m[2];
            const Vec sum2 = m[3] + m[4], difference2 = m[3] - m[4];
            const Index frame = call.joints * call.channels;
            store<Tl>(call.to + i, m[0] + sum + sum2 + bias);
            store<Tl>(call.to + frame + i, difference + T{2} * difference2 + bias);
            store<Tl>(call.to + 2 * frame + i, sum + T{4} * sum2 + bias);
            store<Tl>(call.to + 3 * frame + i, difference + T{8} * difference2 + m[5] + bias);
        }
    }
}

// One sample's convolution with frames of columns in and rows out.
template <typename T>
struct Winograd {
    Index frames, joints, channels, taps, pitch;

    Index tiles() const {
        return frames / kWinogradFrames;
    }
    Index groups() const {
        return taps / kWinogradTaps;
    }
    Index plane() const {
        return channels * pitch;
    }
    Index packed_size() const {
        return kWinogradPoints * groups() * channels * channels;
    }
    // A frame of zeros, transformed inputs and products.
    Index scratch_size() const {
        return plane() + tiles() * kWinogradPoints * (groups() * plane() + joints * channels);
    }

    // The packed weights of one point, from weights(tap, input, output).
    template <typename Weights>
    void pack_point(Index point, Index lanes, T* packed, const Weights& weights) const {
        const double* const of = kWinogradWeights[point];
        const Index size = packed_size() / kWinogradPoints;
        pack(groups() * channels, channels, lanes, packed + point * size, [&](Index row, Index c) {
            const Index tap = row / channels * kWinogradTaps, input = row % channels;
            T sum{0};
            for (Index i = 0; i < kWinogradTaps; ++i) {
                sum += static_cast<T>(of[i]) * weights(tap + i, input, c);
            }
            return sum;
        });
    }

    // Fills the first tiles() * kWinogradFrames frames of `to`.
    void run(const Kernels<T>& kernels, const T* columns, const T* packed, const T* bias, T* to,
             T* scratch) const {
        T* const zeros = scratch;
        T* const inputs = zeros + plane();  // [point][tile][group][channels][pitch]
        T* const products = inputs + tiles() * kWinogradPoints * groups() * plane();
        const Index frame = joints * channels, length = groups() * channels;
        std::fill_n(zeros, plane(), T{0});
        for (Index tile = 0; tile < tiles(); ++tile) {
            for (Index group = 0; group < groups(); ++group) {
                WinogradInput<T> call{};
                const Index first = tile * kWinogradFrames + group * kWinogradTaps - taps / 2;
                for (Index i = 0; i < kWinogradPoints; ++i) {
                    const bool inside = first + i >= 0 && first + i < frames;
                    call.frames[i] = inside ? columns + (first + i) * plane() : zeros;
                }
                call.count = plane();
                call.to = inputs + (tile * groups() + group) * plane();
                call.step = tiles() * groups() * plane();
                kernels.winograd_input(call);
            }
        }
        // A panel of weights stays in the cache while all tiles use it.
        for (Index point = 0; point < kWinogradPoints; ++point) {
            for (Index c = 0; c < channels; c += 2 * kernels.lanes) {
                for (Index tile = 0; tile < tiles(); ++tile) {
                    kernels.product(
                        {inputs + (point * tiles() + tile) * groups() * plane(), pitch, joints,
                         length, packed + point * length * channels + c * length, length, 0,
                         std::min(2 * kernels.lanes, channels - c), nullptr, 0,
                         products + (tile * kWinogradPoints + point) * frame + c, channels});
                }
            }
        }
        for (Index tile = 0; tile < tiles(); ++tile) {
            kernels.winograd_output({products + tile * kWinogradPoints * frame, frame, bias, joints,
                                     channels, to + tile * kWinogradFrames * frame});
        }
    }
};

}  // namespace aimclr::cpu::stgcn
