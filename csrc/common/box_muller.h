// Logarithm, square root, sine and cosine for Box-Muller: no branches and no calls, so that CPU
// loops vectorize, and the same arithmetic on a GPU, so that draws agree except for the rounding of
// fused multiply-adds. The polynomials are minimax fits on the ranges given.
#pragma once

#include <cstdint>
#include <cstring>

#include "common/macros.h"

namespace aimclr {

AIMCLR_HD std::uint32_t float_bits(float value) {
    std::uint32_t bits;
    std::memcpy(&bits, &value, sizeof(bits));
    return bits;
}

AIMCLR_HD float bits_float(std::uint32_t bits) {
    float value;
    std::memcpy(&value, &bits, sizeof(value));
    return value;
}

// Natural logarithm of a positive normal float; relative error below 1e-7, also close to 1.
AIMCLR_HD float logarithm(float x) {
    // x = 2^exponent (1 + f), with 1 + f between sqrt(1/2) and sqrt(2).
    constexpr std::uint32_t kSqrtHalf = 0x3F3504F3u;
    const std::uint32_t bits = float_bits(x);
    const std::int32_t exponent = static_cast<std::int32_t>(bits - kSqrtHalf) >> 23;
    const float f = bits_float(bits - (static_cast<std::uint32_t>(exponent) << 23)) - 1.0f;
    const float square = f * f;
    // (log(1 + f) - f + f^2 / 2) / f^3.
    float tail = 8.700436880e-2f;
    tail = tail * f - 1.426748702e-1f;
    tail = tail * f + 1.491476764e-1f;
    tail = tail * f - 1.657758468e-1f;
    tail = tail * f + 1.996306382e-1f;
    tail = tail * f - 2.500133704e-1f;
    tail = tail * f + 3.333391074e-1f;
    // log(2) in two parts: the first has few bits, so that its product with the exponent is exact.
    const float scale = static_cast<float>(exponent);
    const float low = tail * f * square + scale * -2.12194440e-4f - 0.5f * square;
    return f + low + scale * 0.693359375f;
}

// Square root of a float that is not negative; relative error below 3e-7. sqrtf may set errno,
// which keeps a loop from being vectorized.
AIMCLR_HD float square_root(float x) {
#if defined(__CUDA_ARCH__)
    float root;
    asm("sqrt.approx.f32 %0, %1;" : "=f"(root) : "f"(x));
    return root;
#else
    // Newton's steps for 1 / sqrt(x), from the first guess that the bits give.
    const float half = 0.5f * x;
    float inverse = bits_float(0x5F375A86u - (float_bits(x) >> 1));
    for (int i = 0; i < 3; ++i) {
        inverse = inverse * (1.5f - half * inverse * inverse);
    }
    return x * inverse;
#endif
}

struct SinCos {
    float sin, cos;
};

// Sine and cosine of x plus `quadrant` quarter turns, for |x| up to pi / 4; absolute error below
// 1e-7.
AIMCLR_HD SinCos sincos_quadrant(float x, std::int32_t quadrant) {
    const float square = x * x;
    float sin = -1.951528264e-4f;
    sin = sin * square + 8.332160757e-3f;
    sin = sin * square - 1.666665461e-1f;
    sin = sin * square * x + x;
    float cos = 2.443844101e-5f;
    cos = cos * square - 1.388736741e-3f;
    cos = cos * square + 4.166664686e-2f;
    cos = cos * square * square - 0.5f * square + 1.0f;
    const bool odd = (quadrant & 1) != 0;
    // Bit 1 of the quadrant, moved to the sign.
    const auto sin_sign = static_cast<std::uint32_t>(quadrant & 2) << 30;
    const auto cos_sign = static_cast<std::uint32_t>((quadrant + 1) & 2) << 30;
    return {bits_float(float_bits(odd ? cos : sin) ^ sin_sign),
            bits_float(float_bits(odd ? sin : cos) ^ cos_sign)};
}

// Sine and cosine of an angle in whole turns, from 0 to 1.
AIMCLR_HD SinCos sincos_turns(float turns) {
    // The nearest quarter turn is taken off without rounding.
    const float quarters = 4.0f * turns;
    const std::int32_t quadrant = static_cast<std::int32_t>(quarters + 0.5f);
    return sincos_quadrant((quarters - static_cast<float>(quadrant)) * 1.5707963267948966f,
                           quadrant);
}

// Sine and cosine of an angle in radians.
AIMCLR_HD SinCos sincos_radians(float angle) {
    // A double holds the quarter turns of any realistic angle exactly.
    const double quarters = angle * 0.63661977236758134;
    const auto nearest = static_cast<std::int64_t>(quarters + (quarters < 0 ? -0.5 : 0.5));
    return sincos_quadrant(
        static_cast<float>((quarters - static_cast<double>(nearest)) * 1.5707963267948966),
        static_cast<std::int32_t>(nearest & 3));
}

}  // namespace aimclr
