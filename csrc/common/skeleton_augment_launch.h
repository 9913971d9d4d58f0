// What the blocks of an augmentation kernel share: sizes, plans of the views, units of memory.
#pragma once

#include <cstdint>

#include "common/macros.h"
#include "common/skeleton_augment.h"

namespace aimclr::augment {

// Four consecutive elements, as wide as memory instructions get.
template <typename T>
struct alignas(sizeof(T) < 4 ? 4 * sizeof(T) : 16) Pack {
    T v[4];
};

// Division by a number known at launch: two instructions instead of some twenty.
struct Divider {
    std::uint32_t divisor, magic, shift;

    // By 0, as of a row without bodies, nothing is ever divided.
    static Divider of(std::uint32_t divisor) {
        if (divisor == 0) {
            return {};
        }
        std::uint32_t shift = 0;
        while ((std::uint64_t{1} << shift) < divisor) {
            ++shift;
        }
        // floor(2^32 (2^shift - divisor) / divisor) + 1: exact quotients below 2^31.
        const std::uint64_t excess = (std::uint64_t{1} << shift) - divisor;
        return {divisor, static_cast<std::uint32_t>((excess << 32) / divisor + 1), shift};
    }

    AIMCLR_HD int quotient(int n) const {
        const auto value = static_cast<std::uint32_t>(n);
        return static_cast<int>((multiply_high(value, magic) + value) >> shift);
    }
};

// The parameters of a view, as the phases use them.
template <typename Real>
struct Plan {
    Matrix<Real> matrix;
    Real noise_std, blur_sigma;
    int crop_start, axis_mask;
    bool spatial_flip, temporal_flip;

    AIMCLR_HD static Plan of(const Params<Real>& params) {
        return {matrix_of(params), params.noise_std,    params.blur_sigma,   params.crop_start,
                params.axis_mask,  params.spatial_flip, params.temporal_flip};
    }
};

template <typename Real>
struct Vector3 {
    Real v[3];
};

// What all blocks of a launch share.
struct Launch {
    Chain chain;
    Divider row_divider;
    // Whether all planes are aligned for packs.
    bool packed;

    static Launch of(const Chain& chain) {
        const Shape shape = chain.shape;
        return {chain, Divider::of(static_cast<std::uint32_t>(shape.row())),
                shape.plane() % 4 == 0};
    }

    // To be called for each tensor that packs are read from or written to.
    void align(const void* tensor) {
        packed = packed && reinterpret_cast<std::uintptr_t>(tensor) % 16 == 0;
    }
};

// How many packs of a sequence each thread holds in registers while it draws noise; three keep a
// sequence of 3 x 50 x 25 x 2 floats in flight with 640 threads.
constexpr int kPrefetch = 3;

struct Prefetched {
    Pack<std::uint32_t> pack[kPrefetch];
};

}  // namespace aimclr::augment
