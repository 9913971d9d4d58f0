// queue_contrast's register tiles: scores, weights and weighted key sums of a panel of rows against
// a packed tile of keys.
//
// Everything is a template over the vector's width, so that one source serves all levels.
#pragma once

#include <cstdint>
#include <limits>
#include <type_traits>

#include "cpu/queue_contrast/queue_contrast_plan.h"

namespace aimclr::cpu::contrast {

template <typename T, int kBytes>
struct Tile {
    // Unsigned, since bits are shifted out of it.
    using Int = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
    // The element type's alias, so that arrays of T can be read as vectors.
    using Vec [[gnu::vector_size(kBytes), gnu::may_alias]] = T;
    using IntVec [[gnu::vector_size(kBytes), gnu::may_alias]] = Int;

    static constexpr Index kLanes = kBytes / sizeof(T);
    static constexpr Index kPanelVecs = 3;
    static constexpr Index kPanel = kPanelVecs * kLanes;  // rows of a panel, one a lane
    static constexpr Index kDimVecs = 2;
    static constexpr Index kDims = kDimVecs * kLanes;  // dimensions packed side by side
    // 24 sums in AVX-512's 32 registers, 12 in the 16 of AVX2 and the baseline.
    static constexpr Index kKeys = kBytes == 64 ? 8 : 4;
    static constexpr Index kRows = kBytes == 64 ? 12 : 6;
    static_assert(kRowPadding % kPanel == 0 && kPanel % kRows == 0);
    static_assert(kDimPadding % kDims == 0 && kTileKeys % kKeys == 0 && kBlockRows % kPanel == 0);
};

// Coefficients of 2^r = sum of (r ln 2)^i / i!.
struct Taylor {
    double of[14] = {1.0};
    constexpr Taylor() {
        for (int i = 1; i < 14; ++i) {
            of[i] = of[i - 1] * 0.693147180559945309417 / i;
        }
    }
};
inline constexpr Taylor kTaylor;

// 2^t for t <= 0 to within two units in the last place; below the smallest normal number it stays
// there. NaN stays NaN.
template <typename Tl>
AIMCLR_INLINE void exp2_in_place(typename Tl::Vec& t) {
    using Vec = typename Tl::Vec;
    using IntVec = typename Tl::IntVec;
    using Int = typename Tl::Int;
    constexpr bool kFloat = sizeof(Int) == 4;
    using T = std::conditional_t<kFloat, float, double>;
    constexpr int kMantissa = std::numeric_limits<T>::digits - 1;
    constexpr T kLowest = std::numeric_limits<T>::min_exponent;
    // Adding 1.5 * 2^mantissa rounds to an integer, and leaves it in the low bits.
    constexpr T kRound = static_cast<T>(Int{3} << (kMantissa - 1));
    constexpr int kDegree = kFloat ? 7 : 13;  // Taylor's remainder at +-1/2 is below rounding

    t = t < kLowest ? Vec{} + kLowest : t;
    const Vec shifted = t + kRound;
    const Vec r = t - (shifted - kRound);
    Vec power = Vec{} + static_cast<T>(kTaylor.of[kDegree]);
#pragma GCC unroll 16
    for (int i = kDegree - 1; i >= 0; --i) {
        power = power * r + static_cast<T>(kTaylor.of[i]);
    }
    t = (Vec)((IntVec)power + ((IntVec)shifted << kMantissa));
}

// scores[keys][panel] = keys . rows, and per row the largest of them.
//   keys [padded_d / kDims][kTileKeys][kDims], rows [padded_d][kPanel]
template <typename Tl, typename T>
AIMCLR_INLINE void score_tile(const T* keys, const T* rows, Index count, Index padded_d, T* scores,
                              typename Tl::Vec (&largest)[Tl::kPanelVecs]) {
    using Vec = typename Tl::Vec;
    for (Index v = 0; v < Tl::kPanelVecs; ++v) {
        largest[v] = Vec{} - std::numeric_limits<T>::infinity();
    }
    for (Index first = 0; first < count; first += Tl::kKeys) {
        Vec sums[Tl::kKeys][Tl::kPanelVecs] = {};
        const Vec* row = reinterpret_cast<const Vec*>(rows);
        for (Index part = 0; part < padded_d; part += Tl::kDims) {
            const T* key = keys + part * kTileKeys + first * Tl::kDims;
            for (Index i = 0; i < Tl::kDims; ++i, ++key, row += Tl::kPanelVecs) {
#pragma GCC unroll 8
                for (Index j = 0; j < Tl::kKeys; ++j) {
#pragma GCC unroll 3
                    for (Index v = 0; v < Tl::kPanelVecs; ++v) {
                        sums[j][v] += row[v] * key[j * Tl::kDims];
                    }
                }
            }
        }
        Vec* out = reinterpret_cast<Vec*>(scores + first * Tl::kPanel);
#pragma GCC unroll 8
        for (Index j = 0; j < Tl::kKeys; ++j) {
#pragma GCC unroll 3
            for (Index v = 0; v < Tl::kPanelVecs; ++v) {
                // Rows of padding beyond the last key score nothing.
                if (first + j < count) {
                    largest[v] = sums[j][v] > largest[v] ? sums[j][v] : largest[v];
                }
                out[j * Tl::kPanelVecs + v] = sums[j][v];
            }
        }
    }
}

// Turns scores into weights 2^((score - maximum) * scale) in place; moves the running maximum and
// normalizer, and leaves in `rescale` the factor of what was summed before.
template <typename Tl, typename T>
AIMCLR_INLINE void weigh_tile(T* scores, Index count, T scale,
                              const typename Tl::Vec (&largest)[Tl::kPanelVecs], T* maximum,
                              T* normalizer, typename Tl::Vec (&rescale)[Tl::kPanelVecs]) {
    using Vec = typename Tl::Vec;
    Vec* const running = reinterpret_cast<Vec*>(maximum);
    Vec* const norm = reinterpret_cast<Vec*>(normalizer);
    Vec* weights = reinterpret_cast<Vec*>(scores);
    Vec top[Tl::kPanelVecs], total[Tl::kPanelVecs] = {};
    for (Index v = 0; v < Tl::kPanelVecs; ++v) {
        top[v] = largest[v] > running[v] ? largest[v] : running[v];
        rescale[v] = (running[v] - top[v]) * scale;
        exp2_in_place<Tl>(rescale[v]);
        running[v] = top[v];
    }
    for (Index j = 0; j < count; ++j, weights += Tl::kPanelVecs) {
#pragma GCC unroll 3
        for (Index v = 0; v < Tl::kPanelVecs; ++v) {
            Vec weight = (weights[v] - top[v]) * scale;
            exp2_in_place<Tl>(weight);
            total[v] += weight;
            weights[v] = weight;
        }
    }
    for (Index v = 0; v < Tl::kPanelVecs; ++v) {
        norm[v] = norm[v] * rescale[v] + total[v];
    }
}

// sums[panel][padded_d] = rescale[panel] * sums + weights[keys][panel] . keys
template <typename Tl, typename T>
AIMCLR_INLINE void sum_keys(const T* weights, const T* keys, const T* rescale, Index count,
                            Index padded_d, T* sums) {
    using Vec = typename Tl::Vec;
    for (Index part = 0; part < padded_d; part += Tl::kDims) {
        for (Index first = 0; first < Tl::kPanel; first += Tl::kRows) {
            Vec acc[Tl::kRows][Tl::kDimVecs];
            T* const to = sums + first * padded_d + part;
#pragma GCC unroll 12
            for (Index r = 0; r < Tl::kRows; ++r) {
#pragma GCC unroll 2
                for (Index v = 0; v < Tl::kDimVecs; ++v) {
                    acc[r][v] = reinterpret_cast<Vec*>(to + r * padded_d)[v] * rescale[first + r];
                }
            }
            const Vec* key = reinterpret_cast<const Vec*>(keys + part * kTileKeys);
            const T* weight = weights + first;
            for (Index j = 0; j < count; ++j, key += Tl::kDimVecs, weight += Tl::kPanel) {
#pragma GCC unroll 12
                for (Index r = 0; r < Tl::kRows; ++r) {
#pragma GCC unroll 2
                    for (Index v = 0; v < Tl::kDimVecs; ++v) {
                        acc[r][v] += key[v] * weight[r];
                    }
                }
            }
#pragma GCC unroll 12
            for (Index r = 0; r < Tl::kRows; ++r) {
#pragma GCC unroll 2
                for (Index v = 0; v < Tl::kDimVecs; ++v) {
                    reinterpret_cast<Vec*>(to + r * padded_d)[v] = acc[r][v];
                }
            }
        }
    }
}

}  // namespace aimclr::cpu::contrast
