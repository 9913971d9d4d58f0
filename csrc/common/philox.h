// Philox4x32-10 (Salmon, Moraes, Dror and Shaw, SC 2011) for host and device.
//
// Mirrors aimclr_fast/reference/philox.py: the integers and uniform() agree bit for bit, normal()
// up to the rounding of log, sin and cos.
#pragma once

#include <cstdint>

#include "common/box_muller.h"
#include "common/fields.h"
#include "common/macros.h"

namespace aimclr {

// The n counters to encrypt. Words are int64, as in the reference, since PyTorch lacks most
// uint32 operations.
struct PhiloxCall {
    const std::int64_t* counters;  // [n, 4]
    std::uint32_t key0, key1;
    std::int64_t* out;  // [n, 4]
    std::int64_t n;
    AIMCLR_FIELDS(counters, key0, key1, out, n)
};

struct Words4 {
    std::uint32_t v[4];
};

struct Floats4 {
    float v[4];
};

// Tensors of int64 words need not be 16-byte aligned, so loads are scalar.
AIMCLR_HD Words4 load_words(const std::int64_t* from) {
    return {{static_cast<std::uint32_t>(from[0]), static_cast<std::uint32_t>(from[1]),
             static_cast<std::uint32_t>(from[2]), static_cast<std::uint32_t>(from[3])}};
}

AIMCLR_HD std::uint32_t multiply_high(std::uint32_t a, std::uint32_t b) {
#if defined(__CUDA_ARCH__)
    return __umulhi(a, b);
#else
    return static_cast<std::uint32_t>((static_cast<std::uint64_t>(a) * b) >> 32);
#endif
}

// Encrypts a 128-bit counter (least significant word first) under a 64-bit key.
AIMCLR_HD Words4 philox4x32(Words4 counter, std::uint32_t key0, std::uint32_t key1) {
    constexpr std::uint32_t kMultiplier0 = 0xD2511F53u, kMultiplier1 = 0xCD9E8D57u;
    constexpr std::uint32_t kWeyl0 = 0x9E3779B9u, kWeyl1 = 0xBB67AE85u;
#if defined(__CUDA_ARCH__)
    std::uint32_t c0 = counter.v[0], c1 = counter.v[1], c2 = counter.v[2], c3 = counter.v[3];
    for (int round = 0; round < 10; ++round) {
        const std::uint32_t high0 = multiply_high(kMultiplier0, c0), low0 = kMultiplier0 * c0;
        const std::uint32_t high1 = multiply_high(kMultiplier1, c2), low1 = kMultiplier1 * c2;
        c0 = high1 ^ c1 ^ key0;
        c1 = low1;
        c2 = high0 ^ c3 ^ key1;
        c3 = low0;
        key0 += kWeyl0;
        key1 += kWeyl1;
    }
    return {{c0, c1, c2, c3}};
#else
    // Words stay in 64-bit lanes, as products need both halves: no packing when vectorized. The
    // upper halves of c1 and c3 are garbage that the masks drop.
    constexpr std::uint64_t kLow = 0xFFFFFFFFu;
    std::uint64_t c0 = counter.v[0], c1 = counter.v[1], c2 = counter.v[2], c3 = counter.v[3];
    for (int round = 0; round < 10; ++round) {
        const std::uint64_t product0 = kMultiplier0 * (c0 & kLow);
        const std::uint64_t product1 = kMultiplier1 * (c2 & kLow);
        c0 = (product1 >> 32) ^ c1 ^ key0;
        c1 = product1;
        c2 = (product0 >> 32) ^ c3 ^ key1;
        c3 = product0;
        key0 += kWeyl0;
        key1 += kWeyl1;
    }
    return {{static_cast<std::uint32_t>(c0), static_cast<std::uint32_t>(c1),
             static_cast<std::uint32_t>(c2), static_cast<std::uint32_t>(c3)}};
#endif
}

// The upper 24 bits as a float in [0, 1): every value is exact.
AIMCLR_HD float uniform(std::uint32_t word) {
    // Through a signed integer, which every instruction set converts in one step.
    return static_cast<float>(static_cast<std::int32_t>(word >> 8)) * 0x1p-24f;
}

// An integer in [0, n).
AIMCLR_HD std::uint32_t bounded(std::uint32_t word, std::uint32_t n) {
    return multiply_high(word, n);
}

// Box-Muller: the even word is the radius, the odd word the angle, the cosine comes first.
AIMCLR_HD Floats4 normal(Words4 words) {
    Floats4 draws;
    for (int pair = 0; pair < 4; pair += 2) {
        // Shifted by one so that the logarithm's argument lies in (0, 1].
        const float u1 = uniform(words.v[pair]) + 0x1p-24f;
        const float radius = square_root(-2.0f * logarithm(u1));
        const SinCos angle = sincos_turns(uniform(words.v[pair + 1]));
        draws.v[pair] = radius * angle.cos;
        draws.v[pair + 1] = radius * angle.sin;
    }
    return draws;
}

}  // namespace aimclr
