// Element types of tensors, and their conversion to and from the type that kernels compute in.
//
// Host conversions have no branches, so that loops over them vectorize on any x86-64; the device
// uses its own instructions. Both round to nearest even.
#pragma once

#include <cstdint>
#include <type_traits>

#include "common/box_muller.h"
#include "common/macros.h"
#include "common/status.h"

#if defined(__CUDACC__)
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#endif

namespace aimclr {

// Numbers shared with Python: aimclr_fast/ops/_augment.py.
enum class DataType : int { kFloat32, kFloat64, kFloat16, kBFloat16, kInt16 };

struct Half {
    std::uint16_t bits;
};

struct BFloat16 {
    std::uint16_t bits;
};

AIMCLR_HD float half_to_float(std::uint16_t bits) {
#if defined(__CUDA_ARCH__)
    return __half2float(__ushort_as_half(bits));
#else
    const std::uint32_t magnitude = (bits & 0x7FFFu) << 13;
    // The exponents' biases differ by 112; subnormal halves come out right, too.
    const std::uint32_t finite = float_bits(bits_float(magnitude) * 0x1p112f);
    const std::uint32_t special = magnitude | 0x7F800000u;  // infinity, or not a number
    const std::uint32_t sign = (bits & 0x8000u) << 16;
    return bits_float((magnitude >= 0x7C00u << 13 ? special : finite) | sign);
#endif
}

AIMCLR_HD std::uint16_t float_to_half(float value) {
#if defined(__CUDA_ARCH__)
    return __half_as_ushort(__float2half_rn(value));
#else
    const std::uint32_t bits = float_bits(value), magnitude = bits & 0x7FFFFFFFu;
    const std::uint32_t odd = (magnitude >> 13) & 1u;
    const std::uint32_t normal = (magnitude - (112u << 23) + 0xFFFu + odd) >> 13;
    // Below 2^-14 the last bit is worth 2^-24, as in a float just above 1/2: the addition rounds.
    const std::uint32_t subnormal = float_bits(bits_float(magnitude) + 0.5f) - float_bits(0.5f);
    const std::uint32_t special = magnitude > 0x7F800000u ? 0x7E00u : 0x7C00u;
    const std::uint32_t finite = magnitude < 0x38800000u ? subnormal : normal;
    const std::uint32_t result = magnitude >= 0x47800000u ? special : finite;
    return static_cast<std::uint16_t>(result | ((bits >> 16) & 0x8000u));
#endif
}

AIMCLR_HD float bfloat16_to_float(std::uint16_t bits) {
    return bits_float(static_cast<std::uint32_t>(bits) << 16);
}

AIMCLR_HD std::uint16_t float_to_bfloat16(float value) {
#if defined(__CUDA_ARCH__)
    return __bfloat16_as_ushort(__float2bfloat16_rn(value));
#else
    const std::uint32_t bits = float_bits(value);
    const std::uint32_t rounded = (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16;
    const bool is_nan = (bits & 0x7FFFFFFFu) > 0x7F800000u;
    return static_cast<std::uint16_t>(is_nan ? 0x7FC0u : rounded);
#endif
}

// load<Real>(stored) and store<T>(computed).
template <typename Real>
AIMCLR_HD Real load(float value) {
    return static_cast<Real>(value);
}
template <typename Real>
AIMCLR_HD Real load(double value) {
    return static_cast<Real>(value);
}
template <typename Real>
AIMCLR_HD Real load(std::int16_t value) {
    return static_cast<Real>(value);
}
template <typename Real>
AIMCLR_HD Real load(Half value) {
    return static_cast<Real>(half_to_float(value.bits));
}
template <typename Real>
AIMCLR_HD Real load(BFloat16 value) {
    return static_cast<Real>(bfloat16_to_float(value.bits));
}

template <typename T>
struct Store {
    template <typename Real>
    static AIMCLR_HD T from(Real value) {
        return static_cast<T>(value);
    }
};
template <>
struct Store<Half> {
    static AIMCLR_HD Half from(float value) {
        return {float_to_half(value)};
    }
};
template <>
struct Store<BFloat16> {
    static AIMCLR_HD BFloat16 from(float value) {
        return {float_to_bfloat16(value)};
    }
};

// --- From a number to a type ---------------------------------------------------------------------

template <typename T>
inline constexpr DataType kTypeOf = DataType::kFloat32;
template <>
inline constexpr DataType kTypeOf<double> = DataType::kFloat64;
template <>
inline constexpr DataType kTypeOf<Half> = DataType::kFloat16;
template <>
inline constexpr DataType kTypeOf<BFloat16> = DataType::kBFloat16;
template <>
inline constexpr DataType kTypeOf<std::int16_t> = DataType::kInt16;

// What is computed in for tensors of T.
template <typename T>
using RealOf = std::conditional_t<std::is_same_v<T, double>, double, float>;

template <typename T>
struct Tag {
    using Type = T;
};

// Returns body(Tag<T>{}) for the T of `Types` that `type` stands for.
template <typename... Types, typename Body>
Status for_type(DataType type, const Body& body) {
    Status status = invalid_argument("a tensor has a dtype that the kernel does not take");
    static_cast<void>(((kTypeOf<Types> == type && (status = body(Tag<Types>{}), true)) || ...));
    return status;
}

}  // namespace aimclr
