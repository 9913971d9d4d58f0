// Skeleton augmentation: its settings, draws and per-element math, for host and device.
//
// Mirrors aimclr_fast/reference/skeleton_augment.py. Drawn parameters agree bit for bit: each is
// computed from exact steps or from products alone, which fused multiply-adds cannot change. Only a
// shear after a turn agrees up to rounding.
#pragma once

#include <cmath>
#include <cstdint>

#include "common/fields.h"
#include "common/macros.h"
#include "common/philox.h"
#include "common/status.h"

namespace aimclr::augment {

// Longest blur kernel of the compiled backends. Shared with Python: ops/_augment.py.
constexpr int kMaxBlurTaps = 127;

enum class Stream : int { kJoint, kMotion, kBone };
enum class View : std::uint32_t { kExtreme, kQuery, kKey, kStrong };
constexpr int kViews = 4;

// Whether a view takes all augmentations, and not only the crop, the turn and the shear.
AIMCLR_HD bool is_extreme(View view) {
    return view == View::kExtreme || view == View::kStrong;
}

// What a random number is for; part of the counter.
enum class Draw : std::uint32_t {
    kCrop,
    kShear,
    kSpatialFlip,
    kRotation,
    kNoiseGate,
    kNoise,
    kBlur,
    kAxisMask,
    kTemporalFlip,
    kTurn,
};

// What parameters are drawn from: the amplitudes and probabilities of AugmentConfig, in float.
struct Settings {
    float shear_amplitude;
    float spatial_flip_prob;
    float rotation_main_deg;
    float rotation_minor_deg;
    float noise_prob;
    float noise_std;
    float blur_prob;
    float blur_sigma_min;
    // The difference of the ends, taken before rounding.
    float blur_sigma_range;
    float axis_mask_prob;
    float temporal_flip_prob;
    float turn_deg;
    AIMCLR_FIELDS(shear_amplitude, spatial_flip_prob, rotation_main_deg, rotation_minor_deg,
                  noise_prob, noise_std, blur_prob, blur_sigma_min, blur_sigma_range,
                  axis_mask_prob, temporal_flip_prob, turn_deg)
};

// Sizes of one sequence [3, frames, joints, bodies].
struct Shape {
    int frames, joints, bodies;

    AIMCLR_HD int row() const {
        return joints * bodies;
    }
    AIMCLR_HD int plane() const {
        return frames * row();
    }
    AIMCLR_HD int elements() const {
        return 3 * plane();
    }
    AIMCLR_FIELDS(frames, joints, bodies)
};

// What a call writes: for each stream wanted, the tensors [N, 3, frames, joints, bodies] of the
// views, null for those not wanted. They are the same in all streams.
struct Outputs {
    int streams;
    Stream stream[3];
    void* view[3][kViews];
    AIMCLR_FIELDS(streams, stream, view)

    AIMCLR_HD bool wants(View which) const {
        return view[0][static_cast<int>(which)] != nullptr;
    }
};

// Left-right partner and next joint towards the center: for each column (joint * bodies + body) of
// a row, the column of the same body's other joint.
struct JointTables {
    const std::int32_t* swap;
    const std::int32_t* parents;
    AIMCLR_FIELDS(swap, parents)
};

// What an augmentation depends on besides its parameters.
struct Chain {
    Shape shape;
    JointTables joints;
    int padding;  // mirrored frames on each side
    int blur_taps;
    bool blur_normalize;
    AIMCLR_FIELDS(shape, joints, padding, blur_taps, blur_normalize)
};

// The parameters of one view of one sequence (AugmentParams).
template <typename Real>
struct Params {
    bool has_shear = false, has_rotation = false;
    int crop_start = 0;
    Real shear[9] = {};  // a drawn one is preceded by the turn: their product
    bool spatial_flip = false;
    Real angles[3] = {};
    Real noise_std = 0;
    Real blur_sigma = 0;
    int axis_mask = -1;
    bool temporal_flip = false;
};

// Where the draws of one sample of one step start.
struct Source {
    std::uint32_t key0, key1, step, position;
    AIMCLR_FIELDS(key0, key1, step, position)
};

// The last word of a draw's counter.
AIMCLR_HD std::uint32_t purpose_of(View view, Draw what) {
    return static_cast<std::uint32_t>(view) * 256 + static_cast<std::uint32_t>(what);
}

AIMCLR_HD Words4 draw(Source source, View view, Draw what, std::uint32_t block = 0) {
    return philox4x32({{block, source.step, source.position, purpose_of(view, what)}}, source.key0,
                      source.key1);
}

// The Philox blocks behind the parameters of a view: crop, shear (two), turn, then the others in
// the order of Draw but for the noise. Query and key views use the first four.
constexpr int kPlainBlocks = 4, kExtremeBlocks = 10;

AIMCLR_HD Words4 draw_block(Source source, View view, int i) {
    const int what = i < 3 ? (i + 1) / 2 : (i < 7 ? i - 2 : i - 1);
    return draw(source, view, i == 3 ? Draw::kTurn : static_cast<Draw>(what), i == 2 ? 1 : 0);
}

AIMCLR_HD bool gate(std::uint32_t word, float probability) {
    return uniform(word) < probability;
}

AIMCLR_HD bool has_noise(const Words4* blocks, const Settings& settings) {
    return gate(blocks[6].v[0], settings.noise_prob) && settings.noise_std > 0.0f;
}

AIMCLR_HD int masked_axis(const Words4* blocks, const Settings& settings) {
    const Words4& mask = blocks[8];
    return gate(mask.v[0], settings.axis_mask_prob) ? static_cast<int>(bounded(mask.v[1], 3)) : -1;
}

AIMCLR_HD bool has_temporal_flip(const Words4* blocks, const Settings& settings) {
    return gate(blocks[9].v[0], settings.temporal_flip_prob);
}

AIMCLR_HD float blur_sigma(const Words4* blocks, const Settings& settings) {
    const Words4& blur = blocks[7];
    // A product of two floats is exact in double, so it does not matter whether it is fused.
    const double sigma = static_cast<double>(settings.blur_sigma_range) * uniform(blur.v[1]) +
                         static_cast<double>(settings.blur_sigma_min);
    return gate(blur.v[0], settings.blur_prob) ? static_cast<float>(sigma) : 0.0f;
}

AIMCLR_HD void sincos_of(float angle, float& sin, float& cos) {
    const SinCos both = sincos_radians(angle);
    sin = both.sin;
    cos = both.cos;
}

AIMCLR_HD void sincos_of(double angle, double& sin, double& cos) {
#if defined(__CUDA_ARCH__)
    sincospi(angle * 0.31830988618379067, &sin, &cos);  // unlike sincos(), needs no stack
#else
    sin = std::sin(angle);
    cos = std::cos(angle);
#endif
}

// The shear after a turn about y, as one matrix.
AIMCLR_HD void turn_before(float* shear, float angle) {
    float sin, cos;
    sincos_of(angle, sin, cos);
    AIMCLR_UNROLL
    for (int row = 0; row < 9; row += 3) {
        const float a = shear[row], b = shear[row + 2];
        shear[row] = cos * a + sin * b;
        shear[row + 2] = cos * b - sin * a;
    }
}

// The parameters of a view, from the blocks of draw_block.
AIMCLR_HD Params<float> params_from(const Words4* blocks, View view, int padding,
                                    const Settings& settings) {
    Params<float> params;
    const auto starts = static_cast<std::uint32_t>(2 * padding + 1);
    params.crop_start = static_cast<int>(bounded(blocks[0].v[0], starts));
    params.has_shear = true;
    AIMCLR_UNROLL
    for (int i = 0; i < 9; ++i) {
        // Off the diagonal, in row order: entries 1, 2, 3, 5, 6 and 7 take draws 0 to 5.
        const int entry = i < 4 ? i - 1 : i - 2;
        const float drawn = i % 4 == 0 ? 0.0f : uniform(blocks[1 + entry / 4].v[entry % 4]);
        params.shear[i] = i % 4 == 0 ? 1.0f : (2.0f * drawn - 1.0f) * settings.shear_amplitude;
    }
    constexpr float kDegree = 0.017453292519943295f;
    if (settings.turn_deg > 0.0f) {
        turn_before(params.shear,
                    (2.0f * uniform(blocks[3].v[0]) - 1.0f) * settings.turn_deg * kDegree);
    }
    if (!is_extreme(view)) {
        return params;
    }
    params.spatial_flip = gate(blocks[4].v[0], settings.spatial_flip_prob);
    params.has_rotation = true;
    const Words4& rotation = blocks[5];
    const auto main = static_cast<int>(bounded(rotation.v[0], 3));
    AIMCLR_UNROLL
    for (int axis = 0; axis < 3; ++axis) {
        const float limit = axis == main ? settings.rotation_main_deg : settings.rotation_minor_deg;
        params.angles[axis] = uniform(rotation.v[1 + axis]) * limit * kDegree;
    }
    params.noise_std = has_noise(blocks, settings) ? settings.noise_std : 0.0f;
    params.blur_sigma = blur_sigma(blocks, settings);
    params.axis_mask = masked_axis(blocks, settings);
    params.temporal_flip = has_temporal_flip(blocks, settings);
    return params;
}

// Parameters given one by one, each [N] (the shear [N, 3, 3], the angles [N, 3]) or null for off.
template <typename Real>
struct GivenParams {
    const std::int64_t* crop_start;
    const Real* shear;
    const bool* spatial_flip;
    const Real* angles;
    const Real* blur_sigma;
    const std::int64_t* axis_mask;
    const bool* temporal_flip;

    // Those of one sample. Without a crop the window starts after the `padding` mirrored frames.
    AIMCLR_HD Params<Real> at(std::int64_t sample, int padding) const {
        Params<Real> params;
        params.crop_start = crop_start != nullptr ? static_cast<int>(crop_start[sample]) : padding;
        params.has_shear = shear != nullptr;
        AIMCLR_UNROLL
        for (int i = 0; i < 9; ++i) {
            params.shear[i] = params.has_shear ? shear[9 * sample + i] : Real(0);
        }
        params.spatial_flip = spatial_flip != nullptr && spatial_flip[sample];
        params.has_rotation = angles != nullptr;
        AIMCLR_UNROLL
        for (int i = 0; i < 3; ++i) {
            params.angles[i] = params.has_rotation ? angles[3 * sample + i] : Real(0);
        }
        params.blur_sigma = blur_sigma != nullptr ? blur_sigma[sample] : Real(0);
        params.axis_mask = axis_mask != nullptr ? static_cast<int>(axis_mask[sample]) : -1;
        params.temporal_flip = temporal_flip != nullptr && temporal_flip[sample];
        return params;
    }
};

// The same, before the type of the arithmetic is known.
struct GivenArrays {
    const std::int64_t* crop_start;
    const void* shear;
    const bool* spatial_flip;
    const void* rotation_angles;
    const void* blur_sigma;
    const std::int64_t* axis_mask;
    const bool* temporal_flip;
    AIMCLR_FIELDS(crop_start, shear, spatial_flip, rotation_angles, blur_sigma, axis_mask,
                  temporal_flip)

    template <typename Real>
    AIMCLR_HD GivenParams<Real> as() const {
        return {crop_start,
                static_cast<const Real*>(shear),
                spatial_flip,
                static_cast<const Real*>(rotation_angles),
                static_cast<const Real*>(blur_sigma),
                axis_mask,
                temporal_flip};
    }
};

// A 3x3 matrix in row order; the identity is marked, since it must not change a bit.
template <typename Real>
struct Matrix {
    bool identity = true;
    Real entry[9] = {1, 0, 0, 0, 1, 0, 0, 0, 1};
};

// Shear, then the turns about x, y and z, as one matrix: no step between them mixes coordinates.
template <typename Real>
AIMCLR_HD Matrix<Real> matrix_of(const Params<Real>& params) {
    Matrix<Real> matrix;
    matrix.identity = !params.has_shear && !params.has_rotation;
    AIMCLR_UNROLL
    for (int i = 0; i < 9; ++i) {
        matrix.entry[i] = params.has_shear ? params.shear[i] : matrix.entry[i];
    }
    if (!params.has_rotation) {
        return matrix;
    }
    AIMCLR_UNROLL
    for (int axis = 0; axis < 3; ++axis) {
        Real sin, cos;
        sincos_of(params.angles[axis], sin, cos);
        // [cos, sin; -sin, cos] acts on the two other rows, in cyclic order.
        Real* const from = matrix.entry + 3 * ((axis + 1) % 3);
        Real* const to = matrix.entry + 3 * ((axis + 2) % 3);
        AIMCLR_UNROLL
        for (int column = 0; column < 3; ++column) {
            const Real a = from[column], b = to[column];
            from[column] = cos * a + sin * b;
            to[column] = cos * b - sin * a;
        }
    }
    return matrix;
}

// The frame that stands at `padded` of the padded sequence, counted from the sequence's own first
// frame: mirrored ones are negative, or `frames` and more.
AIMCLR_HD int mirrored_frame(int padded, int frames) {
    const int folded = padded < 0 ? -1 - padded : padded;
    return folded >= frames ? 2 * frames - 1 - folded : folded;
}

AIMCLR_HD float exponential(float x) {
#if defined(__CUDA_ARCH__)
    return expf(x);
#else
    return std::exp(x);
#endif
}

AIMCLR_HD double exponential(double x) {
#if defined(__CUDA_ARCH__)
    return exp(x);
#else
    return std::exp(x);
#endif
}

template <typename Real>
AIMCLR_HD Real blur_weight(int offset, Real sigma) {
    const auto distance = static_cast<Real>(offset);
    return exponential(-(distance * distance) / (Real(2) * (sigma * sigma)));
}

// What each weight is multiplied by: one over their sum, or one.
template <typename Real>
AIMCLR_HD Real blur_scale(Real sigma, int taps, bool normalize) {
    Real sum = 1;
    for (int offset = 1; normalize && offset <= taps / 2; ++offset) {
        sum += 2 * blur_weight(offset, sigma);
    }
    return Real(1) / sum;
}

// What a kernel can take. Python has checked the tensors themselves.
inline Status check(const Chain& chain) {
    const Shape shape = chain.shape;
    if (shape.frames < 1 || shape.joints < 1 || shape.bodies < 0) {
        return invalid_argument("augment: frames and joints must be at least 1");
    }
    // Elements, and frames with both mirrored ends, are counted in 32 bits.
    if (9.0 * shape.frames * shape.joints * shape.bodies > 2147483647.0) {
        return invalid_argument("augment: a sequence has more than 2^31 / 9 elements");
    }
    if (chain.padding < 0 || chain.padding > shape.frames) {
        return invalid_argument("augment: more mirrored frames than the sequence has");
    }
    if (chain.blur_taps < 1 || chain.blur_taps % 2 == 0 || chain.blur_taps > kMaxBlurTaps) {
        return invalid_argument("augment: blur_taps must be odd and at most 127");
    }
    if (shape.bodies > 0 && (chain.joints.swap == nullptr || chain.joints.parents == nullptr)) {
        return invalid_argument("augment: null pointer to a table of joints");
    }
    return {};
}

}  // namespace aimclr::augment
