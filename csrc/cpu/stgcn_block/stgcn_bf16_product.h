// Register-tiled products of bfloat16 with sums in float (see Bf16Product and Bf16Outer): by
// vdpbf16ps where the level has it, else both halves of each word widened to float.
#pragma once

#include <algorithm>

#include "cpu/stgcn_block/stgcn_bf16_tile.h"

namespace aimclr::cpu::stgcn {

// sums[i][v] += both halves of factor(i) * words[v].
template <typename Tl, int kRows, int kVecs, typename Factor>
AIMCLR_INLINE void dot_words(const typename Bf16Vec<Tl>::Words* words, const Factor& factor,
                             typename Tl::Vec (&sums)[kRows][kVecs]) {
#ifdef __AVX512BF16__
    if constexpr (kHasBf16<Tl>) {
        __m512bh weights[kVecs];
#pragma GCC unroll 2
        for (int v = 0; v < kVecs; ++v) {
            weights[v] = reinterpret_cast<__m512bh>(words[v]);
        }
#pragma GCC unroll 32
        for (int i = 0; i < kRows; ++i) {
            const auto both =
                reinterpret_cast<__m512bh>(_mm512_set1_epi32(static_cast<int>(factor(i))));
#pragma GCC unroll 2
            for (int v = 0; v < kVecs; ++v) {
                sums[i][v] = reinterpret_cast<typename Tl::Vec>(
                    _mm512_dpbf16_ps(reinterpret_cast<__m512>(sums[i][v]), both, weights[v]));
            }
        }
        return;
    }
#endif
    typename Tl::Vec low[kVecs], high[kVecs];
#pragma GCC unroll 2
    for (int v = 0; v < kVecs; ++v) {
        low[v] = lower<Tl>(words[v]);
        high[v] = upper<Tl>(words[v]);
    }
#pragma GCC unroll 32
    for (int i = 0; i < kRows; ++i) {
        const std::uint32_t both = factor(i);
        const float first = bits_float(both << 16), second = bits_float(both & 0xFFFF0000u);
#pragma GCC unroll 2
        for (int v = 0; v < kVecs; ++v) {
            sums[i][v] += first * low[v];
            sums[i][v] += second * high[v];
        }
    }
}

template <typename Tl, int kRows, int kVecs, typename Out>
AIMCLR_INLINE void bf16_product_tile(const Bf16Product& call, Index row, Index channel,
                                     const Word* packed) {
    using Vec = typename Tl::Vec;
    using Words = typename Bf16Vec<Tl>::Words;
    Vec sums[kRows][kVecs] = {};
    if (call.start != nullptr) {
        Index at = row % call.period;
#pragma GCC unroll 32
        for (int j = 0; j < kRows; ++j) {
#pragma GCC unroll 2
            for (int v = 0; v < kVecs; ++v) {
                sums[j][v] =
                    load<Tl>(call.start + at * call.start_pitch + channel + v * Tl::kLanes);
            }
            at = at + 1 == call.period ? 0 : at + 1;
        }
    }
    const Words* words = reinterpret_cast<const Words*>(packed);
    const Index pitch = call.pitch / 2;
    for (Index segment = 0; segment < call.segments; ++segment) {
        // Three rows a pointer: as many pointers as there are registers for.
        const AnyWord* rows[(kRows + 2) / 3];
#pragma GCC unroll 32
        for (int j = 0; j < kRows; j += 3) {
            rows[j / 3] = reinterpret_cast<const AnyWord*>(call.rows + call.shifts[segment]) +
                          (row + j) * pitch;
        }
        for (Index i = 0; i < call.length; ++i, words += kVecs) {
            dot_words<Tl>(words, [&](int j) { return rows[j / 3][j % 3 * pitch]; }, sums);
#pragma GCC unroll 32
            for (int j = 0; j < kRows; j += 3) {
                ++rows[j / 3];
            }
        }
    }
    Out* const out = static_cast<Out*>(call.out) + row * call.out_pitch + channel;
#pragma GCC unroll 32
    for (int j = 0; j < kRows; ++j) {
#pragma GCC unroll 2
        for (int v = 0; v < kVecs; ++v) {
            store<Tl>(out + j * call.out_pitch + v * Tl::kLanes, sums[j][v]);
        }
    }
}

template <typename Tl, int kRows, int kVecs, typename Out>
AIMCLR_INLINE void bf16_product_rows(Index count, const Bf16Product& call, Index row, Index channel,
                                     const Word* packed) {
    if constexpr (kRows > 1) {
        if (count < kRows) {
            bf16_product_rows<Tl, kRows - 1, kVecs, Out>(count, call, row, channel, packed);
            return;
        }
    }
    bf16_product_tile<Tl, kRows, kVecs, Out>(call, row, channel, packed);
}

template <typename Tl, int kVecs, typename Out>
AIMCLR_INLINE void bf16_product_panel(const Bf16Product& call, Index channel) {
    constexpr Index kMost = Tl::kTwo;
    const Index tiles = (call.count + kMost - 1) / kMost;
    const Word* const packed =
        call.packed + channel * call.panel_rows + call.first * kVecs * Tl::kLanes;
    for (Index tile = 0; tile < tiles; ++tile) {
        const Index row = call.count * tile / tiles;
        bf16_product_rows<Tl, static_cast<int>(kMost), kVecs, Out>(
            call.count * (tile + 1) / tiles - row, call, row, channel, packed);
    }
}

template <typename Tl, typename Out>
void bf16_product(const Bf16Product& call) {
    Index channel = 0;
    for (; channel + 2 * Tl::kLanes <= call.width; channel += 2 * Tl::kLanes) {
        bf16_product_panel<Tl, 2, Out>(call, channel);
    }
    if (channel < call.width) {
        bf16_product_panel<Tl, 1, Out>(call, channel);
    }
}

template <typename Tl, int kInputs, int kVecs>
AIMCLR_INLINE void bf16_outer_tile(const Bf16Outer& call, Index input, Index channel) {
    using Vec = typename Tl::Vec;
    Vec sums[kInputs][kVecs] = {};
    const Word* a = call.a + input;
    const Word* b = call.b + channel;
    float* const to = call.sum + input * call.sum_pitch + channel;
    for (int j = 0; j < kInputs; ++j) {
        __builtin_prefetch(to + j * call.sum_pitch, 1);
        __builtin_prefetch(to + j * call.sum_pitch + kVecs * Tl::kLanes - 1, 1);
    }
    for (Index i = 0; i < call.length; ++i, a += call.a_pitch, b += call.b_pitch) {
        dot_words<Tl>(
            reinterpret_cast<const typename Bf16Vec<Tl>::Words*>(b), [&](int j) { return a[j]; },
            sums);
    }
#pragma GCC unroll 32
    for (int j = 0; j < kInputs; ++j) {
#pragma GCC unroll 2
        for (int v = 0; v < kVecs; ++v) {
            float* const at = to + j * call.sum_pitch + v * Tl::kLanes;
            store<Tl>(at, load<Tl>(at) + sums[j][v]);
        }
    }
}

template <typename Tl, int kInputs, int kVecs>
AIMCLR_INLINE void bf16_outer_inputs(Index inputs, const Bf16Outer& call, Index input,
                                     Index channel) {
    if constexpr (kInputs > 1) {
        if (inputs < kInputs) {
            bf16_outer_inputs<Tl, kInputs - 1, kVecs>(inputs, call, input, channel);
            return;
        }
    }
    bf16_outer_tile<Tl, kInputs, kVecs>(call, input, channel);
}

template <typename Tl, int kVecs>
AIMCLR_INLINE void bf16_outer_panel(const Bf16Outer& call, Index channel) {
    constexpr Index kMost = kVecs == 1 ? (Tl::kOne < 16 ? Tl::kOne : 16) : Tl::kTwo - 1;
    const Index tiles = (call.a_width + kMost - 1) / kMost;
    for (Index tile = 0; tile < tiles; ++tile) {
        const Index input = call.a_width * tile / tiles;
        bf16_outer_inputs<Tl, static_cast<int>(kMost), kVecs>(
            call.a_width * (tile + 1) / tiles - input, call, input, channel);
    }
}

template <typename Tl>
void bf16_outer(const Bf16Outer& call) {
    Index channel = 0;
    for (; channel + 2 * Tl::kLanes <= call.b_width; channel += 2 * Tl::kLanes) {
        bf16_outer_panel<Tl, 2>(call, channel);
    }
    if (channel < call.b_width) {
        bf16_outer_panel<Tl, 1>(call, channel);
    }
}

// Packs weights(row, channel) for `bf16_product`, two rows a word. Channels beyond `channels`, and
// the row after an odd number of them in a segment of `rows`, get zeros.
template <typename Weights>
void bf16_pack(Index segments, Index rows, Index channels, Index lanes, Word* packed,
               const Weights& weights) {
    const Index padded = round_up(channels, lanes), words = (rows + 1) / 2;
    for (Index first = 0; first < padded; first += 2 * lanes) {
        const Index width = std::min(2 * lanes, padded - first);
        Word* to = packed + first * segments * words;
        for (Index segment = 0; segment < segments; ++segment) {
            for (Index word = 0; word < words; ++word, to += width) {
                for (Index c = 0; c < width; ++c) {
                    const auto half = [&](Index row) -> Word {
                        const bool there = row < rows && first + c < channels;
                        return there ? float_to_bfloat16(weights(segment, row, first + c)) : 0;
                    };
                    to[c] = half(2 * word) | half(2 * word + 1) << 16;
                }
            }
        }
    }
}

}  // namespace aimclr::cpu::stgcn
