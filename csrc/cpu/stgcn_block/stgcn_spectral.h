// The temporal convolution of wide blocks over frequencies: a cyclic one, long enough that nothing
// wraps around to where it is read, is one product of matrices at each frequency. Frames are real,
// so half of the frequencies suffice, and a complex product takes three real ones (Gauss).
//
// "Planes" are what these products are of, [1 + 3 * (length / 2 - 1) + 1]: one for frequency 0,
// three for each up to length / 2, one for that. With re and im of a transform they are
// (re + im, re, im) on one side and, scaled for the way back, (re, -(re + im), re - im) on the
// other, which conjugates it. That serves all three products: frames and taps make frames,
// gradients and reversed taps make gradients of frames, frames and gradients make gradients of
// taps.
//
// The kernels are the transforms; `Spectral` is the convolution on top of them.
#pragma once

#include <algorithm>
#include <cmath>

#include "cpu/stgcn_block/stgcn_gemm.h"
#include "cpu/stgcn_block/stgcn_rows.h"

namespace aimclr::cpu::stgcn {

inline constexpr Index kMostPairs = 33;  // of frequencies: lengths up to 130

// Frequencies k and length / 2 - k have the same waves, but for the sign at odd positions.
constexpr Index spectral_pairs(Index length) {
    return length / 4 + 1;
}
constexpr Index spectral_planes(Index length) {
    return 3 * (length / 2) - 1;
}
// The first of a frequency's planes.
constexpr Index spectral_plane(Index k) {
    return k == 0 ? 0 : 3 * k - 2;
}

template <typename Tl, int kVecs, typename T>
AIMCLR_INLINE void spectral_input_tile(const SpectralInput<T>& call, Index at) {
    using Vec = typename Tl::Vec;
    const Index half = call.waves.length / 2, positions = call.waves.positions;
    const auto emit = [&](Index k, int v, Vec re, Vec im) {
        T* const to = call.to + spectral_plane(k) * call.to_step + at + v * Tl::kLanes;
        const bool real = k == 0 || k == half;
        if (call.conjugate) {
            const T scale = static_cast<T>(real ? 1 : 2) / static_cast<T>(call.waves.length);
            re *= scale;
            im *= scale;
        }
        if (real) {
            store<Tl>(to, re);
            return;
        }
        store<Tl>(to, call.conjugate ? re : re + im);
        store<Tl>(to + call.to_step, call.conjugate ? -(re + im) : re);
        store<Tl>(to + 2 * call.to_step, call.conjugate ? re - im : im);
    };
    for (Index k = 0; 2 * k <= half; ++k) {
        const T* const waves = call.waves.table + 2 * k * positions;
        Vec cosine[2][kVecs] = {}, sine[2][kVecs] = {};  // over even and odd positions
#pragma GCC unroll 2
        for (Index odd = 0; odd < 2; ++odd) {
            for (Index i = odd ^ call.waves.odd; i < positions; i += 2) {
                const T* const from = call.from + i * call.from_step + at;
#pragma GCC unroll 4
                for (int v = 0; v < kVecs; ++v) {
                    const Vec x = load<Tl>(from + v * Tl::kLanes);
                    cosine[odd][v] += x * waves[2 * i];
                    sine[odd][v] += x * waves[2 * i + 1];
                }
            }
        }
#pragma GCC unroll 4
        for (int v = 0; v < kVecs; ++v) {
            emit(k, v, cosine[0][v] + cosine[1][v], -(sine[0][v] + sine[1][v]));
            if (2 * k < half) {
                emit(half - k, v, cosine[0][v] - cosine[1][v], sine[0][v] - sine[1][v]);
            }
        }
    }
}

template <typename Tl, typename T>
void spectral_input(const SpectralInput<T>& call) {
    Index at = 0;
    for (; at + 4 * Tl::kLanes <= call.count; at += 4 * Tl::kLanes) {
        spectral_input_tile<Tl, 4>(call, at);
    }
    for (; at < call.count; at += Tl::kLanes) {
        spectral_input_tile<Tl, 1>(call, at);
    }
}

template <typename Tl, int kVecs, typename T>
AIMCLR_INLINE void spectral_output_tile(const SpectralOutput<T>& call, Index row, Index c) {
    using Vec = typename Tl::Vec;
    const Index half = call.waves.length / 2, positions = call.waves.positions;
    const Index pairs = spectral_pairs(call.waves.length);
    Vec cosine[2][kMostPairs][kVecs], sine[2][kMostPairs][kVecs];  // at even and odd positions
    const auto complex = [&](Index k, int v, Vec& re, Vec& im) {
        const T* const from =
            call.planes + spectral_plane(k) * call.step + row * call.channels + c + v * Tl::kLanes;
        const Vec first = load<Tl>(from);
        if (k == 0 || k == half) {
            re = first;
            im = Vec{};
            return;
        }
        re = first - load<Tl>(from + 2 * call.step);
        im = first + load<Tl>(from + call.step);
    };
    for (Index k = 0; k < pairs; ++k) {
#pragma GCC unroll 2
        for (int v = 0; v < kVecs; ++v) {
            Vec re, im, re2 = {}, im2 = {};
            complex(k, v, re, im);
            if (2 * k < half) {
                complex(half - k, v, re2, im2);
            }
            cosine[0][k][v] = re + re2;
            cosine[1][k][v] = re - re2;
            sine[0][k][v] = im - im2;
            sine[1][k][v] = im + im2;
        }
    }
    for (Index i = 0; i < positions; ++i) {
        const Index odd = (i ^ call.waves.odd) & 1;
        Vec sum[kVecs];
#pragma GCC unroll 2
        for (int v = 0; v < kVecs; ++v) {
            sum[v] = call.bias ? load<Tl>(call.bias + c + v * Tl::kLanes) : Vec{};
        }
        for (Index k = 0; k < pairs; ++k) {
            const T* const wave = call.waves.table + 2 * (k * positions + i);
#pragma GCC unroll 2
            for (int v = 0; v < kVecs; ++v) {
                sum[v] += cosine[odd][k][v] * wave[0] - sine[odd][k][v] * wave[1];
            }
        }
        T* const to = call.to + i * call.to_step + row * call.channels + c;
#pragma GCC unroll 2
        for (int v = 0; v < kVecs; ++v) {
            store<Tl>(to + v * Tl::kLanes, sum[v]);
        }
    }
}

template <typename Tl, typename T>
void spectral_output(const SpectralOutput<T>& call) {
    for (Index row = 0; row < call.rows; ++row) {
        Index c = 0;
        for (; c + 2 * Tl::kLanes <= call.channels; c += 2 * Tl::kLanes) {
            spectral_output_tile<Tl, 2>(call, row, c);
        }
        if (c < call.channels) {
            spectral_output_tile<Tl, 1>(call, row, c);
        }
    }
}

// The convolution of some samples' frames, [channels][pitch] each, with packed taps.
template <typename T>
struct Spectral {
    Index frames, joints, channels, taps, pitch;

    // Output t reads frames t - taps / 2 to t + taps / 2.
    Index length() const {
        return round_up(frames + taps / 2, 2);
    }
    Index planes() const {
        return spectral_planes(length());
    }
    Index packed_size() const {
        return planes() * channels * channels;
    }
    Index table_size() const {
        return 2 * spectral_pairs(length()) * (frames + taps);
    }
    Index inputs_size(Index samples) const {
        return samples * planes() * channels * pitch;
    }
    Index products_size(Index samples) const {
        return samples * planes() * joints * channels;
    }

    // The waves of the frames, then of the taps around the one in the middle.
    void fill_table(T* table) const {
        const auto fill = [&](Index first, Index positions) {
            for (Index k = 0; k < spectral_pairs(length()); ++k) {
                for (Index i = first; i < first + positions; ++i) {
                    const double angle =
                        2.0 * M_PI * static_cast<double>(k * i) / static_cast<double>(length());
                    *table++ = static_cast<T>(std::cos(angle));
                    *table++ = static_cast<T>(std::sin(angle));
                }
            }
        };
        fill(0, frames);
        fill(-(taps / 2), taps);
    }
    Waves<T> frame_waves(const T* table) const {
        return {table, frames, length(), 0};
    }
    Waves<T> tap_waves(const T* table) const {
        return {table + 2 * spectral_pairs(length()) * frames, taps, length(), taps / 2 % 2};
    }

    // Frames to the planes of sample `sample` of `samples`.
    void transform(const Kernels<T>& kernels, const T* table, const T* columns, Index sample,
                   Index samples, T* inputs) const {
        const Index size = channels * pitch;
        kernels.spectral_input({frame_waves(table), columns, size, inputs + sample * size,
                                samples * size, size, false});
    }

    // products [sample][plane][joints][channels]
    void multiply(const Kernels<T>& kernels, const T* inputs, Index samples, const T* packed,
                  T* products) const {
        const Index size = channels * pitch, frame = joints * channels;
        // A panel of weights stays in the cache while all samples use it.
        for (Index plane = 0; plane < planes(); ++plane) {
            for (Index c = 0; c < channels; c += 2 * kernels.lanes) {
                for (Index sample = 0; sample < samples; ++sample) {
                    kernels.product({inputs + (plane * samples + sample) * size, pitch, joints,
                                     channels, packed + (plane * channels + c) * channels, channels,
                                     0, std::min(2 * kernels.lanes, channels - c), nullptr, 0,
                                     products + (sample * planes() + plane) * frame + c, channels});
                }
            }
        }
    }

    void restore(const Kernels<T>& kernels, const T* table, const T* products, Index sample,
                 const T* bias, T* to) const {
        const Index frame = joints * channels;
        kernels.spectral_output({frame_waves(table), products + sample * planes() * frame, frame,
                                 bias, joints, channels, to, frame});
    }
};

}  // namespace aimclr::cpu::stgcn
