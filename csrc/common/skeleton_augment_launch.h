// What the blocks of an augmentation kernel share: sizes, plans of the views, units of memory.
#pragma once

#include <algorithm>
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

// Some frames of a sequence, from `first` to before `end`.
struct Frames {
    int first, end;
};

// Points of a plane that each of so many blocks writes, in whole packs.
inline std::int64_t points_of_part(const Shape& shape, std::int64_t parts) {
    const std::int64_t packs = (std::int64_t{shape.plane()} + 3) / 4;
    return 4 * ((packs + parts - 1) / parts);
}

// How many blocks share a sample, where a device runs `room` blocks at a time: as many as there is
// room for. Each makes some frames of all views, and reads the whole sequence, from which the crop
// takes them. Of the steps before the blur it repeats what its frames are blurred from, so it has
// at least as many frames as that.
inline std::int64_t parts_of(const Chain& chain, std::int64_t samples, std::int64_t room) {
    const std::int64_t most = chain.shape.frames / (chain.blur_taps + 1);
    const std::int64_t parts = std::min(room / std::max<std::int64_t>(samples, 1), most);
    if (parts < 2 || chain.shape.plane() == 0) {
        return 1;
    }
    // Packs that do not divide evenly may leave nothing for the last ones.
    const std::int64_t points = points_of_part(chain.shape, parts);
    return (chain.shape.plane() + points - 1) / points;
}

// What all blocks of a launch share.
struct Launch {
    Chain chain;
    Divider row_divider;
    // Whether all planes are aligned for packs.
    bool packed;
    // Points of a plane that a block writes; see points_of_part.
    int part_points;

    static Launch of(const Chain& chain, std::int64_t parts = 1) {
        const Shape shape = chain.shape;
        return {chain, Divider::of(static_cast<std::uint32_t>(shape.row())), shape.plane() % 4 == 0,
                static_cast<int>(points_of_part(shape, parts))};
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
