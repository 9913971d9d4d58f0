// Philox4x32-10 (Salmon, Moraes, Dror and Shaw, SC 2011) for host and device.
//
// Mirrors aimclr_fast/reference/philox.py: the integers and uniform() agree bit for bit, normal()
// up to the rounding of log, sin and cos.
#pragma once

#include <cmath>
#include <cstdint>

#include "common/macros.h"

namespace aimclr {

struct Words4 {
    std::uint32_t v[4];
};

struct Floats4 {
    float v[4];
};

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
}

// The upper 24 bits as a float in [0, 1): every value is exact.
AIMCLR_HD float uniform(std::uint32_t word) {
    return static_cast<float>(word >> 8) * 0x1p-24f;
}

// An integer in [0, n).
AIMCLR_HD std::uint32_t bounded(std::uint32_t word, std::uint32_t n) {
    return multiply_high(word, n);
}

// Box-Muller: the even word is the radius, the odd word the angle, the cosine comes first.
AIMCLR_HD Floats4 normal(Words4 words) {
    constexpr float kTwoPi = 6.283185307179586f;
    Floats4 draws;
    for (int pair = 0; pair < 4; pair += 2) {
        // Shifted by one so that the logarithm's argument lies in (0, 1].
        const float u1 = static_cast<float>((words.v[pair] >> 8) + 1) * 0x1p-24f;
        const float angle = kTwoPi * uniform(words.v[pair + 1]);
        const float radius = sqrtf(-2.0f * logf(u1));
        draws.v[pair] = radius * cosf(angle);
        draws.v[pair + 1] = radius * sinf(angle);
    }
    return draws;
}

}  // namespace aimclr
