// Transforms of the convolution over frequencies (stgcn_spectral.h) between maps and planes of
// bfloat16. Activations and gradients are computed as they are read, and what follows a convolution
// as it is written, so that no map in float lies between.
#pragma once

#include "cpu/stgcn_block/stgcn_bf16_rows.h"
#include "cpu/stgcn_block/stgcn_spectral.h"

namespace aimclr::cpu::stgcn {

// Of two rows from `joint` (or the last one and zeros), value(position, row, v).
template <typename Tl, int kVecs, typename Value>
AIMCLR_INLINE void planes_tile(const Bf16Planes& call, Index joint, Index c, const Value& value) {
    using Vec = typename Tl::Vec;
    const Index half = call.waves.length / 2, positions = call.waves.positions;
    const auto put = [&](Index plane, const Vec(&x)[2][kVecs], bool rows, bool pairs) {
#pragma GCC unroll 2
        for (int v = 0; v < kVecs; ++v) {
            const Index at = c + v * Tl::kLanes;
            if (rows) {
                BFloat16* const to =
                    call.to.rows + plane * call.rows_step + joint * call.to.rows_pitch + at;
                store<Tl>(to, x[0][v]);
                if (joint + 1 < call.joints) {
                    store<Tl>(to + call.to.rows_pitch, x[1][v]);
                }
            }
            if (pairs) {
                store_words<Tl>(
                    call.to.pairs + plane * call.pairs_step + joint / 2 * call.to.pairs_pitch + at,
                    pair_words<Tl>(x[0][v], x[1][v]));
            }
        }
    };
    const auto emit = [&](Index k, const Vec(&re)[2][kVecs], const Vec(&im)[2][kVecs]) {
        const bool real = k == 0 || k == half;
        const bool rows = call.to.rows != nullptr, pairs = call.to.pairs != nullptr;
        const Index plane = spectral_plane(k);
        const float scale =
            static_cast<float>(real ? 1 : 2) / static_cast<float>(call.waves.length);
        Vec first[2][kVecs], second[2][kVecs], third[2][kVecs];
        if (rows || !call.conjugate) {
            if (real) {
                put(plane, re, rows, pairs && !call.conjugate);
            } else {
#pragma GCC unroll 2
                for (int r = 0; r < 2; ++r) {
#pragma GCC unroll 2
                    for (int v = 0; v < kVecs; ++v) {
                        first[r][v] = re[r][v] + im[r][v];
                    }
                }
                put(plane, first, rows, pairs && !call.conjugate);
                put(plane + 1, re, rows, pairs && !call.conjugate);
                put(plane + 2, im, rows, pairs && !call.conjugate);
            }
        }
        if (pairs && call.conjugate) {
#pragma GCC unroll 2
            for (int r = 0; r < 2; ++r) {
#pragma GCC unroll 2
                for (int v = 0; v < kVecs; ++v) {
                    first[r][v] = re[r][v] * scale;
                    third[r][v] = im[r][v] * scale;
                    second[r][v] = -(first[r][v] + third[r][v]);
                    third[r][v] = first[r][v] - third[r][v];
                }
            }
            put(plane, first, false, true);
            if (!real) {
                put(plane + 1, second, false, true);
                put(plane + 2, third, false, true);
            }
        }
    };
    for (Index k = 0; 2 * k <= half; ++k) {
        const float* const waves = call.waves.table + 2 * k * positions;
        Vec cosine[2][2][kVecs] = {}, sine[2][2][kVecs] = {};  // over even and odd positions
#pragma GCC unroll 2
        for (Index odd = 0; odd < 2; ++odd) {
            for (Index i = odd ^ call.waves.odd; i < positions; i += 2) {
#pragma GCC unroll 2
                for (int r = 0; r < 2; ++r) {
#pragma GCC unroll 2
                    for (int v = 0; v < kVecs; ++v) {
                        const Vec x = value(i, r, v);
                        cosine[odd][r][v] += x * waves[2 * i];
                        sine[odd][r][v] += x * waves[2 * i + 1];
                    }
                }
            }
        }
        Vec re[2][kVecs], im[2][kVecs], re2[2][kVecs], im2[2][kVecs];
#pragma GCC unroll 2
        for (int r = 0; r < 2; ++r) {
#pragma GCC unroll 2
            for (int v = 0; v < kVecs; ++v) {
                re[r][v] = cosine[0][r][v] + cosine[1][r][v];
                im[r][v] = -(sine[0][r][v] + sine[1][r][v]);
                re2[r][v] = cosine[0][r][v] - cosine[1][r][v];
                im2[r][v] = sine[0][r][v] - sine[1][r][v];
            }
        }
        emit(k, re, im);
        if (2 * k < half) {
            emit(half - k, re2, im2);
        }
    }
}

// value(position, joint, c): each is read once, and kept while all frequencies are made of it.
template <typename Tl, int kVecs, typename Value>
AIMCLR_INLINE void map_planes_tile(const Bf16Planes& call, Index joint, Index c,
                                   const Value& value) {
    using Vec = typename Tl::Vec;
    Vec kept[4 * kMostPairs][2][kVecs];
    const bool two = joint + 1 < call.joints;
    for (Index i = 0; i < call.waves.positions; ++i) {
#pragma GCC unroll 2
        for (int v = 0; v < kVecs; ++v) {
            kept[i][0][v] = value(i, joint, c + v * Tl::kLanes);
            kept[i][1][v] = two ? value(i, joint + 1, c + v * Tl::kLanes) : Vec{};
        }
    }
    planes_tile<Tl, kVecs>(call, joint, c,
                           [&](Index i, int row, int v) { return kept[i][row][v]; });
}

template <typename Tl, typename Value>
AIMCLR_INLINE void map_planes(const Bf16Planes& given, const Value& value) {
    const Bf16Planes call = given;
    for (Index joint = 0; joint < call.joints; joint += 2) {
        Index c = 0;
        for (; c + 2 * Tl::kLanes <= call.channels; c += 2 * Tl::kLanes) {
            map_planes_tile<Tl, 2>(call, joint, c, value);
        }
        if (c < call.channels) {
            map_planes_tile<Tl, 1>(call, joint, c, value);
        }
    }
}

template <typename Tl>
void bf16_activation_planes(const Bf16Activation& given, const Bf16Planes& call) {
    const Bf16Activation from = given;
    const Index position = call.position;
    map_planes<Tl>(call, [&](Index i, Index joint, Index c) {
        return activated<Tl>(from, i * position + joint * from.channels + c, c);
    });
}

template <typename Tl>
void bf16_gradient_planes(const Bf16NormBackward& given, const Bf16Planes& call) {
    const Bf16NormBackward from = given;
    const Index position = call.position;
    map_planes<Tl>(call, [&](Index i, Index joint, Index c) {
        return norm_gradient<Tl>(from, i * position + joint * from.channels + c, c);
    });
}

// Of weights in float, [position][row][channels], whose rows are the call's joints.
template <typename Tl>
void bf16_tap_planes(const float* taps, const Bf16Planes& given) {
    const Bf16Planes call = given;
    for (Index row = 0; row < call.joints; row += 2) {
        for (Index c = 0; c < call.channels; c += Tl::kLanes) {
            const float* const from = taps + row * call.channels + c;
            planes_tile<Tl, 1>(call, row, c, [&](Index i, int second, int) {
                return row + second < call.joints
                           ? load<Tl>(from + i * call.position + second * call.channels)
                           : typename Tl::Vec{};
            });
        }
    }
}

template <typename Tl, int kVecs>
AIMCLR_INLINE void restore_tile(const Bf16Restore& call, Index joint, Index c) {
    using Vec = typename Tl::Vec;
    const Index positions = call.waves.positions, pairs = spectral_pairs(call.waves.length);
    Vec cosine[2][kMostPairs][kVecs], sine[2][kMostPairs][kVecs];  // at even and odd positions
    spectral_sums<Tl, kVecs>(call.planes + joint * call.channels + c, call.step,
                             call.waves.length / 2, cosine, sine);
    Vec total[kVecs] = {}, product[kVecs] = {};
    for (Index i = 0; i < positions; ++i) {
        const Index odd = (i ^ call.waves.odd) & 1;
        Vec sum[kVecs];
#pragma GCC unroll 2
        for (int v = 0; v < kVecs; ++v) {
            sum[v] = call.bias ? load<Tl>(call.bias + c + v * Tl::kLanes) : Vec{};
        }
        for (Index k = 0; k < pairs; ++k) {
            const float* const wave = call.waves.table + 2 * (k * positions + i);
#pragma GCC unroll 2
            for (int v = 0; v < kVecs; ++v) {
                sum[v] += cosine[odd][k][v] * wave[0] - sine[odd][k][v] * wave[1];
            }
        }
#pragma GCC unroll 2
        for (int v = 0; v < kVecs; ++v) {
            const Index channel = c + v * Tl::kLanes;
            const Index at = (i * call.joints + joint) * call.channels + channel;
            if (call.relu.map != nullptr) {
                const Vec x = load<Tl>(call.relu.map + at);
                const Vec y =
                    x * load<Tl>(call.relu.scale + channel) + load<Tl>(call.relu.shift + channel);
                const Vec grad = rounded<Tl>(y <= 0 ? Vec{} : sum[v]);
                store<Tl>(call.to + at, grad);
                total[v] += grad;
                product[v] += grad * (x - load<Tl>(call.relu.mean + channel));
                continue;
            }
            const Vec x = rounded<Tl>(sum[v]);
            store<Tl>(call.to + at, x);
            if (i == 0 && joint == 0) {
                store<Tl>(call.pivot + channel, x);
            }
            const Vec step = x - load<Tl>(call.pivot + channel);
            total[v] += step;
            product[v] += step * step;
        }
    }
#pragma GCC unroll 2
    for (int v = 0; v < kVecs; ++v) {
        widen_and_add<Tl>(total[v], call.sums + c + v * Tl::kLanes);
        widen_and_add<Tl>(product[v], call.sums + call.channels + c + v * Tl::kLanes);
    }
}

template <typename Tl>
void bf16_restore(const Bf16Restore& call) {
    for (Index joint = 0; joint < call.joints; ++joint) {
        Index c = 0;
        for (; c + 2 * Tl::kLanes <= call.channels; c += 2 * Tl::kLanes) {
            restore_tile<Tl, 2>(call, joint, c);
        }
        if (c < call.channels) {
            restore_tile<Tl, 1>(call, joint, c);
        }
    }
}

}  // namespace aimclr::cpu::stgcn
