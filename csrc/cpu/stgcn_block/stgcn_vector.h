// Vectors to and from memory. Those of bfloat16 are widened to float, and rounded to nearest even.
#pragma once

#include "common/dtypes.h"
#include "cpu/stgcn_block/stgcn_tile.h"

#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

namespace aimclr::cpu::stgcn {

template <typename Tl>
AIMCLR_INLINE typename Tl::Vec load(const typename Tl::Element* from) {
    return *reinterpret_cast<const typename Tl::Vec*>(from);
}

template <typename Tl>
AIMCLR_INLINE void store(typename Tl::Element* to, typename Tl::Vec value) {
    *reinterpret_cast<typename Tl::Vec*>(to) = value;
}

using Word [[gnu::may_alias]] = std::uint32_t;  // two numbers, the first in the lower half
using AnyWord [[gnu::may_alias, gnu::aligned(2)]] = std::uint32_t;  // at any address of a number

template <typename Tl>
struct Bf16Vec {
    using Words [[gnu::vector_size(4 * Tl::kLanes), gnu::may_alias, gnu::aligned(4)]] =
        std::uint32_t;
    using Halves [[gnu::vector_size(2 * Tl::kLanes), gnu::may_alias, gnu::aligned(2)]] =
        std::uint16_t;
};

#ifdef __AVX512BF16__
template <typename Tl>
inline constexpr bool kHasBf16 = Tl::kLanes == 16;
#else
template <typename Tl>
inline constexpr bool kHasBf16 = false;
#endif

// The upper halves of words, as numbers.
template <typename Tl>
AIMCLR_INLINE typename Tl::Vec upper(typename Bf16Vec<Tl>::Words words) {
    return reinterpret_cast<typename Tl::Vec>(words & 0xFFFF0000u);
}
template <typename Tl>
AIMCLR_INLINE typename Tl::Vec lower(typename Bf16Vec<Tl>::Words words) {
    return reinterpret_cast<typename Tl::Vec>(words << 16);
}

// x rounded to bfloat16, in the upper half of each word.
template <typename Tl>
AIMCLR_INLINE typename Bf16Vec<Tl>::Words round_words(typename Tl::Vec x) {
    using Words = typename Bf16Vec<Tl>::Words;
    const Words bits = reinterpret_cast<Words>(x);
    const Words rounded = bits + 0x7FFFu + ((bits >> 16) & 1u);
    return (bits & 0x7FFFFFFFu) > 0x7F800000u ? Words{} + 0x7FC00000u : rounded;
}

template <typename Tl>
AIMCLR_INLINE typename Tl::Vec load(const BFloat16* from) {
    using Of = Bf16Vec<Tl>;
    const auto halves = *reinterpret_cast<const typename Of::Halves*>(from);
    return lower<Tl>(__builtin_convertvector(halves, typename Of::Words));
}

template <typename Tl>
AIMCLR_INLINE typename Bf16Vec<Tl>::Halves round_halves(typename Tl::Vec value) {
    using Halves = typename Bf16Vec<Tl>::Halves;
#ifdef __AVX512BF16__
    if constexpr (kHasBf16<Tl>) {
        return reinterpret_cast<Halves>(_mm512_cvtneps_pbh(reinterpret_cast<__m512>(value)));
    }
#endif
    return __builtin_convertvector(round_words<Tl>(value) >> 16, Halves);
}

template <typename Tl>
AIMCLR_INLINE void store(BFloat16* to, typename Tl::Vec value) {
    *reinterpret_cast<typename Bf16Vec<Tl>::Halves*>(to) = round_halves<Tl>(value);
}

// What a load would give after a store.
template <typename Tl>
AIMCLR_INLINE typename Tl::Vec rounded(typename Tl::Vec value) {
    return lower<Tl>(__builtin_convertvector(round_halves<Tl>(value), typename Bf16Vec<Tl>::Words));
}

// Words of one row's elements (the lower halves) and the next one's.
template <typename Tl>
AIMCLR_INLINE typename Bf16Vec<Tl>::Words pair_words(typename Tl::Vec first,
                                                     typename Tl::Vec second) {
#ifdef __AVX512BF16__
    if constexpr (kHasBf16<Tl>) {
        using Shorts [[gnu::vector_size(64)]] = short;
        const Shorts both = reinterpret_cast<Shorts>(
            _mm512_cvtne2ps_pbh(reinterpret_cast<__m512>(second), reinterpret_cast<__m512>(first)));
        const Shorts order = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                              8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
        return reinterpret_cast<typename Bf16Vec<Tl>::Words>(__builtin_shuffle(both, order));
    }
#endif
    return (round_words<Tl>(first) >> 16) | (round_words<Tl>(second) & 0xFFFF0000u);
}

template <typename Tl>
AIMCLR_INLINE void store_words(Word* to, typename Bf16Vec<Tl>::Words words) {
    *reinterpret_cast<typename Bf16Vec<Tl>::Words*>(to) = words;
}

}  // namespace aimclr::cpu::stgcn
