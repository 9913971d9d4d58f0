#include "cpu/philox/philox_kernels.h"

#if defined(__AVX2__)
// GCC 12 takes its own intrinsics' undefined operands for mistakes.
#pragma GCC diagnostic ignored "-Wuninitialized"
#include <immintrin.h>
#endif

namespace aimclr::cpu::AIMCLR_LEVEL {

void philox4x32_range(const PhiloxCall& call, std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = 4 * begin; i < 4 * end; i += 4) {
        const Words4 words = philox4x32(load_words(call.counters + i), call.key0, call.key1);
        for (int j = 0; j < 4; ++j) {
            call.out[i + j] = words.v[j];
        }
    }
}

// A product of two 32-bit words in a 64-bit lane is one instruction, but compilers make more of
// it: they multiply 64-bit words. So the rounds are written out for AVX2 and AVX-512.
#if defined(__AVX2__)
namespace {

constexpr long long kMultiplier0 = 0xD2511F53, kMultiplier1 = 0xCD9E8D57;
constexpr std::uint32_t kWeyl0 = 0x9E3779B9u, kWeyl1 = 0xBB67AE85u;

}  // namespace
#endif

#if defined(__AVX512F__)

// Words lie in the lower halves of 64-bit lanes; the upper halves hold garbage, which products
// ignore. Two vectors at a time, since a product takes longer than the rest of a round.
void philox_lanes(Words4 counter, std::uint32_t key0, std::uint32_t key1,
                  std::uint32_t (&words)[4][kPhiloxLanes]) {
    const __m512i multiplier0 = _mm512_set1_epi64(kMultiplier0);
    const __m512i multiplier1 = _mm512_set1_epi64(kMultiplier1);
    for (int i = 0; i < kPhiloxLanes; i += 16) {
        __m512i c[2][4];
        for (int half = 0; half < 2; ++half) {
            const auto start = static_cast<int>(counter.v[0]) + i + 8 * half;
            c[half][0] = _mm512_cvtepu32_epi64(_mm256_add_epi32(
                _mm256_set1_epi32(start), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)));
            for (int j = 1; j < 4; ++j) {
                c[half][j] = _mm512_set1_epi64(counter.v[j]);
            }
        }
        std::uint32_t k0 = key0, k1 = key1;
        for (int round = 0; round < 10; ++round, k0 += kWeyl0, k1 += kWeyl1) {
            const __m512i round_key0 = _mm512_set1_epi64(k0), round_key1 = _mm512_set1_epi64(k1);
            for (int half = 0; half < 2; ++half) {
                __m512i(&v)[4] = c[half];
                const __m512i product0 = _mm512_mul_epu32(v[0], multiplier0);
                const __m512i product1 = _mm512_mul_epu32(v[2], multiplier1);
                // 0x96 is the exclusive or of three.
                v[0] = _mm512_ternarylogic_epi64(_mm512_srli_epi64(product1, 32), v[1], round_key0,
                                                 0x96);
                v[1] = product1;
                v[2] = _mm512_ternarylogic_epi64(_mm512_srli_epi64(product0, 32), v[3], round_key1,
                                                 0x96);
                v[3] = product0;
            }
        }
        for (int half = 0; half < 2; ++half) {
            for (int j = 0; j < 4; ++j) {
                _mm256_storeu_si256(reinterpret_cast<__m256i*>(&words[j][i + 8 * half]),
                                    _mm512_cvtepi64_epi32(c[half][j]));
            }
        }
    }
}

#elif defined(__AVX2__)

void philox_lanes(Words4 counter, std::uint32_t key0, std::uint32_t key1,
                  std::uint32_t (&words)[4][kPhiloxLanes]) {
    const __m256i multiplier0 = _mm256_set1_epi64x(kMultiplier0);
    const __m256i multiplier1 = _mm256_set1_epi64x(kMultiplier1);
    for (int i = 0; i < kPhiloxLanes; i += 8) {
        __m256i c[2][4];
        for (int half = 0; half < 2; ++half) {
            const auto start = static_cast<int>(counter.v[0]) + i + 4 * half;
            c[half][0] = _mm256_cvtepu32_epi64(
                _mm_add_epi32(_mm_set1_epi32(start), _mm_setr_epi32(0, 1, 2, 3)));
            for (int j = 1; j < 4; ++j) {
                c[half][j] = _mm256_set1_epi64x(counter.v[j]);
            }
        }
        std::uint32_t k0 = key0, k1 = key1;
        for (int round = 0; round < 10; ++round, k0 += kWeyl0, k1 += kWeyl1) {
            const __m256i round_key0 = _mm256_set1_epi64x(k0), round_key1 = _mm256_set1_epi64x(k1);
            for (int half = 0; half < 2; ++half) {
                __m256i(&v)[4] = c[half];
                const __m256i product0 = _mm256_mul_epu32(v[0], multiplier0);
                const __m256i product1 = _mm256_mul_epu32(v[2], multiplier1);
                v[0] = _mm256_xor_si256(_mm256_xor_si256(_mm256_srli_epi64(product1, 32), v[1]),
                                        round_key0);
                v[1] = product1;
                v[2] = _mm256_xor_si256(_mm256_xor_si256(_mm256_srli_epi64(product0, 32), v[3]),
                                        round_key1);
                v[3] = product0;
            }
        }
        for (int half = 0; half < 2; ++half) {
            for (int j = 0; j < 4; ++j) {
                // The even 32-bit words, in order.
                const __m256i packed = _mm256_permutevar8x32_epi32(
                    c[half][j], _mm256_setr_epi32(0, 2, 4, 6, 0, 2, 4, 6));
                _mm_storeu_si128(reinterpret_cast<__m128i*>(&words[j][i + 4 * half]),
                                 _mm256_castsi256_si128(packed));
            }
        }
    }
}

#else

void philox_lanes(Words4 counter, std::uint32_t key0, std::uint32_t key1,
                  std::uint32_t (&words)[4][kPhiloxLanes]) {
    const std::uint32_t first = counter.v[0];
    for (int i = 0; i < kPhiloxLanes; ++i) {
        counter.v[0] = first + static_cast<std::uint32_t>(i);
        const Words4 found = philox4x32(counter, key0, key1);
        for (int j = 0; j < 4; ++j) {
            words[j][i] = found.v[j];
        }
    }
}

#endif

}  // namespace aimclr::cpu::AIMCLR_LEVEL
