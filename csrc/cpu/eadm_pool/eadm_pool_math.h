// What a vectorized loop of eadm_pool is made of: conversions, lane sums and the attention.
//
// All of it is inlined into the loops over samples (eadm_pool_kernels.h) and written so that
// compilers turn the loops over `kLanes` into vector instructions of the level's width.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "common/dtypes.h"

#define AIMCLR_INLINE [[gnu::always_inline]] inline

namespace aimclr::cpu {

// Two vectors of the widest instruction set: enough independent sums to hide an addition's latency.
constexpr std::int64_t kLanes = 32;
constexpr std::int64_t kLineBytes = 64;
constexpr std::int64_t kPrefetchBytes = 1 << 13;  // a part of the first-level cache

AIMCLR_INLINE std::int64_t round_up(std::int64_t n, std::int64_t multiple) {
    return (n + multiple - 1) / multiple * multiple;
}

template <typename To, typename From>
AIMCLR_INLINE To bit_cast(From from) {
    static_assert(sizeof(To) == sizeof(From));
    To to;
    std::memcpy(&to, &from, sizeof(to));
    return to;
}

// --- Storage types: how a map lies in memory; sums are float, or double for a double map ---------

using Float16 = Half;

template <typename T>
using Real = std::conditional_t<std::is_same_v<T, double>, double, float>;

AIMCLR_INLINE float widen(float value) {
    return value;
}

AIMCLR_INLINE double widen(double value) {
    return value;
}

AIMCLR_INLINE float widen(BFloat16 value) {
    return bit_cast<float>(static_cast<std::uint32_t>(value.bits) << 16);
}

AIMCLR_INLINE float widen(Float16 value) {
    const std::uint32_t magnitude = static_cast<std::uint32_t>(value.bits & 0x7FFF) << 13;
    const std::uint32_t sign = static_cast<std::uint32_t>(value.bits & 0x8000) << 16;
    // The product moves the exponent from half's bias (15) to float's (127), subnormals included.
    const auto finite = bit_cast<std::uint32_t>(bit_cast<float>(magnitude) * 0x1p112f);
    const std::uint32_t special = magnitude >= 0x0F800000u ? 0x7F800000u : 0u;  // infinity, NaN
    return bit_cast<float>(finite | special | sign);
}

// What half-precision values are stored and selected as.
template <typename T>
using Stored = std::conditional_t<sizeof(T) == 2, std::uint16_t, T>;

// Rounds to nearest, ties to even, as torch does.
template <typename T>
Stored<T> narrow(Real<T> value) {
    if constexpr (std::is_same_v<T, BFloat16>) {
        const auto bits = bit_cast<std::uint32_t>(value);
        if (std::isnan(value)) {
            return 0x7FC0;
        }
        return static_cast<std::uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
    } else if constexpr (std::is_same_v<T, Float16>) {
        const auto bits = bit_cast<std::uint32_t>(value);
        const std::uint32_t sign = bits >> 16 & 0x8000, magnitude = bits & 0x7FFFFFFF;
        std::uint32_t half;
        if (std::isnan(value)) {
            half = 0x7E00;
        } else if (magnitude >= 0x47800000) {  // 2^16
            half = 0x7C00;
        } else if (magnitude < 0x38800000) {  // 2^-14: adding 0.5 rounds at a subnormal's last bit
            half = bit_cast<std::uint32_t>(bit_cast<float>(magnitude) + 0.5f) - 0x3F000000;
        } else {
            half = (magnitude - 0x38000000 + 0xFFF + (magnitude >> 13 & 1)) >> 13;
        }
        return static_cast<std::uint16_t>(half | sign);
    } else {
        return value;
    }
}

// --- Sums ----------------------------------------------------------------------------------------

// Pairwise, so that it is short and does not depend on the instruction set.
template <std::int64_t Lanes, typename R>
AIMCLR_INLINE R sum_of_lanes(R* lanes) {
    if constexpr (Lanes == 1) {
        return lanes[0];
    } else {
        for (std::int64_t j = 0; j < Lanes / 2; ++j) {
            lanes[j] += lanes[j + Lanes / 2];
        }
        return sum_of_lanes<Lanes / 2>(lanes);
    }
}

// Sum over a row of (value - origin)^Power; `padded` is a multiple of kLanes. Blocks of 256 sums
// per lane are added in double, so that long rows keep their accuracy.
template <int Power, typename R>
AIMCLR_INLINE R sum_of_powers(const R* row, std::int64_t padded, R origin) {
    constexpr std::int64_t kBlock = 256 * kLanes;
    double total = 0;
    for (std::int64_t begin = 0; begin < padded; begin += kBlock) {
        const std::int64_t end = begin + kBlock < padded ? begin + kBlock : padded;
        R lanes[kLanes] = {};
        for (std::int64_t i = begin; i < end; i += kLanes) {
            for (std::int64_t j = 0; j < kLanes; ++j) {
                const R deviation = row[i + j] - origin;
                lanes[j] += Power == 2 ? deviation * deviation : deviation;
            }
        }
        total += sum_of_lanes<kLanes>(lanes);
    }
    return static_cast<R>(total);
}

// --- Attention (equations 4 to 6) ----------------------------------------------------------------

// 1 + exp(-y), the inverse of a sigmoid, for y >= 0 to about 1e-7. NaN stays NaN.
AIMCLR_INLINE float inverse_sigmoid(float y) {
    // exp(-y) = 2^z. As z is negative, its bits grow as it falls: the larger of z and -126 is an
    // integer minimum, where a comparison of floats could be a branch, which only AVX-512
    // vectorizes.
    const auto bits = bit_cast<std::uint32_t>(-1.44269504f * y);
    const std::uint32_t least = 0xC2FC0000u;  // -126
    const float z = bit_cast<float>(bits < least ? bits : least);
    // Adding 1.5 * 2^23 leaves round(z) in the low bits.
    const float shifted = z + 12582912.0f;
    const float fraction = z - (shifted - 12582912.0f);
    // 2^fraction on [-1/2, 1/2], to a relative 9.2e-8.
    float power = 1.326472439e-3f;
    power = power * fraction + 9.671513238e-3f;
    power = power * fraction + 5.550733756e-2f;
    power = power * fraction + 2.402224207e-1f;
    power = power * fraction + 6.931469776e-1f;
    power = power * fraction + 1.0f;
    const std::uint32_t exponent = (bit_cast<std::uint32_t>(shifted) << 23) + 0x3F800000u;
    // The minimum may lose a NaN, and the last term brings it back.
    return (1.0f + power * bit_cast<float>(exponent)) + 0.0f * y;
}

AIMCLR_INLINE double inverse_sigmoid(double y) {
    return 1.0 + std::exp(-y);
}

// The attention of one map of one channel, as sigmoid(slope * d + 1/2) of a squared distance d
// from `mean`. An element is kept while d < limit, which is attention < keep_prob without rounding.
template <typename R>
struct Attention {
    R mean, slope, limit;
};

template <typename R>
AIMCLR_INLINE Attention<R> attention_of(R mean, R variance, R e_lambda, R logit_limit) {
    const R width = R(4) * (variance + e_lambda);
    return {mean, R(1) / width, logit_limit * width};
}

// What a row does with its attentions: adds them to a sum, leaves their inverses for the row after
// it, or adds those and its own. Two rows so share a division, the slowest instruction by far.
enum class Attend { kAlone, kFirst, kSecond };

// Where the statistics of values lie, one for each or one for all.
template <typename R>
struct Statistics {
    const R *mean, *slope, *limit;
};

// sums[i] += attention of value i, by way of inverses[i]; kept_values[i] (+)= the value if it is
// kept; kept[i] = 1 if so. Statistics are one for the row (Stride 0) or one per lane (Stride 1).
template <int Stride, Attend Part, typename R>
AIMCLR_INLINE void attend(const R* __restrict__ values, std::int64_t n,
                          const Statistics<R>& statistics, R* __restrict__ sums,
                          R* __restrict__ inverses, R* __restrict__ kept_values,
                          std::uint8_t* __restrict__ kept) {
    const R* __restrict__ mean = statistics.mean;
    const R* __restrict__ slope = statistics.slope;
    const R* __restrict__ limit = statistics.limit;
    for (std::int64_t i = 0; i < n; ++i) {
        const R deviation = values[i] - mean[Stride * i];
        const R distance = deviation * deviation;
        const bool keep = distance < limit[Stride * i];
        const R inverse = inverse_sigmoid(distance * slope[Stride * i] + R(0.5));
        if constexpr (Part == Attend::kAlone) {
            sums[i] += R(1) / inverse;
        } else if constexpr (Part == Attend::kFirst) {
            inverses[i] = inverse;
        } else {  // 1 / a + 1 / b, both of 1 to 2
            sums[i] += (inverses[i] + inverse) / (inverses[i] * inverse);
        }
        const R value = keep ? values[i] : R(0);
        if constexpr (Stride == 0) {
            kept_values[i] = value;
        } else {
            kept_values[i] += value;
        }
        kept[i] = keep;
    }
}

// joint_sums[v] = sum over frames of row[t * joints + v]. Whole blocks of joints are read: the last
// runs on into the next frame, or past the row into kLanes items of slack.
template <typename R>
AIMCLR_INLINE void sum_over_frames(const R* row, std::int64_t frames, std::int64_t joints,
                                   R* joint_sums) {
    constexpr std::int64_t kJoints = kLanes / 2;
    for (std::int64_t first = 0; first < joints; first += kJoints) {
        R sums[kJoints] = {};
        for (std::int64_t t = 0; t < frames; ++t) {
            for (std::int64_t j = 0; j < kJoints; ++j) {
                sums[j] += row[t * joints + first + j];
            }
        }
        for (std::int64_t j = 0; j < kJoints; ++j) {
            joint_sums[first + j] = sums[j];
        }
    }
}

// bits[octet, v] of one channel from kept[t * joints + v] of 0 or 1, which has kLanes of slack.
// Whole blocks are written up to `end`: what runs on past a channel is overwritten by the next one.
AIMCLR_INLINE void pack_frames(const std::uint8_t* kept, std::int64_t frames, std::int64_t joints,
                               std::uint8_t* bits, const std::uint8_t* end) {
    for (std::int64_t start = 0; start < frames; start += 8, bits += joints) {
        for (std::int64_t first = 0; first < joints; first += kLanes) {
            std::uint8_t packed[kLanes] = {};
            for (std::int64_t t = std::min(frames, start + 8) - 1; t >= start; --t) {
                for (std::int64_t j = 0; j < kLanes; ++j) {
                    packed[j] = 2 * packed[j] + kept[t * joints + first + j];
                }
            }
            if (end - (bits + first) >= kLanes) {
                std::memcpy(bits + first, packed, kLanes);
            } else {
                std::memcpy(bits + first, packed,
                            static_cast<std::size_t>(std::min(kLanes, joints - first)));
            }
        }
    }
}

}  // namespace aimclr::cpu
