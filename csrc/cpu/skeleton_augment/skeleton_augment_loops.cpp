#include "cpu/skeleton_augment/skeleton_augment_loops.h"

#include <algorithm>
#include <cstring>

#include "common/macros.h"
#include "cpu/philox/philox_lanes.h"

namespace aimclr::cpu::loops {
namespace {

template <typename T, typename Real>
AIMCLR_HD void load_loop(const T* __restrict in, Real scale, Real* __restrict out, int n) {
    for (int i = 0; i < n; ++i) {
        out[i] = scale * load<Real>(in[i]);
    }
}

template <typename T>
AIMCLR_HD void store_loop(const float* __restrict in, T* __restrict out, int n) {
    for (int i = 0; i < n; ++i) {
        out[i] = Store<T>::from(in[i]);
    }
}

template <typename Real>
AIMCLR_HD void combine_loop(const Real* x, const Real* y, const Real* z, const Real* row,
                            Real* __restrict out, int n) {
    const Real a = row[0], b = row[1], c = row[2];
    for (int i = 0; i < n; ++i) {
        out[i] = a * x[i] + b * y[i] + c * z[i];
    }
}

template <typename Real>
AIMCLR_HD void add_loop(const Real* __restrict in, Real* __restrict out, int n) {
    for (int i = 0; i < n; ++i) {
        out[i] += in[i];
    }
}

template <typename Real>
AIMCLR_HD void subtract_loop(const Real* a, const Real* b, Real* __restrict out, int n) {
    for (int i = 0; i < n; ++i) {
        out[i] = a[i] - b[i];
    }
}

template <typename Real>
AIMCLR_HD void blur_loop(const Real* __restrict in, const Real* __restrict weights, int taps,
                         int stride, Real* __restrict out, int n) {
    // A tile's sums stay in registers while the taps pass over it.
    constexpr int kTile = 256 / sizeof(Real);
    int i = 0;
    for (; i + kTile <= n; i += kTile) {
        Real sum[kTile] = {};
        for (int k = 0; k < taps; ++k) {
            const Real* const from = in + i + static_cast<std::int64_t>(k) * stride;
            for (int j = 0; j < kTile; ++j) {
                sum[j] += weights[k] * from[j];
            }
        }
        std::memcpy(out + i, sum, sizeof(sum));
    }
    for (; i < n; ++i) {
        Real sum = 0;
        for (int k = 0; k < taps; ++k) {
            sum += weights[k] * in[i + static_cast<std::int64_t>(k) * stride];
        }
        out[i] = sum;
    }
}

// Moves `Unit`s, each a joint's bodies. Not multiversioned: gather instructions are slower than
// this.
template <typename Unit, typename Real>
void gather_loop(const Real* in, const std::int32_t* table, augment::Shape shape, Real* out) {
    constexpr int kBodies = sizeof(Unit) / sizeof(Real);
    const int row = shape.row();
    for (int frame = 0; frame < shape.frames; ++frame, in += row, out += row) {
        for (int place = 0; place < row; place += kBodies) {
            std::memcpy(out + place, in + table[place], sizeof(Unit));
        }
    }
}

template <typename Real>
void gather_bodies(const Real* in, const std::int32_t* table, augment::Shape shape, Real* out) {
    struct Pair {
        Real v[2];
    };
    if (shape.bodies % 2 == 0) {  // bodies of a joint lie side by side
        gather_loop<Pair>(in, table, shape, out);
    } else {
        gather_loop<Real>(in, table, shape, out);
    }
}

}  // namespace

void load_scaled(const float* in, float scale, float* out, int n) {
    if (scale == 1.0f) {
        std::memcpy(out, in, n * sizeof(float));
    } else {
        load_loop(in, scale, out, n);
    }
}

AIMCLR_MULTIVERSION void load_scaled(const double* in, float scale, float* out, int n) {
    load_loop(in, scale, out, n);
}

AIMCLR_MULTIVERSION void load_scaled(const Half* in, float scale, float* out, int n) {
    load_loop(in, scale, out, n);
}

AIMCLR_MULTIVERSION void load_scaled(const BFloat16* in, float scale, float* out, int n) {
    load_loop(in, scale, out, n);
}

AIMCLR_MULTIVERSION void load_scaled(const std::int16_t* in, float scale, float* out, int n) {
    load_loop(in, scale, out, n);
}

AIMCLR_MULTIVERSION void load_scaled(const double* in, double scale, double* out, int n) {
    load_loop(in, scale, out, n);
}

void store(const float* in, float* out, int n) {
    std::memcpy(out, in, n * sizeof(float));
}

void store(const double* in, double* out, int n) {
    std::memcpy(out, in, n * sizeof(double));
}

AIMCLR_MULTIVERSION void store(const float* in, Half* out, int n) {
    store_loop(in, out, n);
}

AIMCLR_MULTIVERSION void store(const float* in, BFloat16* out, int n) {
    store_loop(in, out, n);
}

AIMCLR_MULTIVERSION void combine(const float* x, const float* y, const float* z, const float* row,
                                 float* out, int n) {
    combine_loop(x, y, z, row, out, n);
}

AIMCLR_MULTIVERSION void combine(const double* x, const double* y, const double* z,
                                 const double* row, double* out, int n) {
    combine_loop(x, y, z, row, out, n);
}

AIMCLR_MULTIVERSION void add(const float* in, float* out, int n) {
    add_loop(in, out, n);
}

AIMCLR_MULTIVERSION void add(const double* in, double* out, int n) {
    add_loop(in, out, n);
}

AIMCLR_MULTIVERSION void subtract(const float* a, const float* b, float* out, int n) {
    subtract_loop(a, b, out, n);
}

AIMCLR_MULTIVERSION void subtract(const double* a, const double* b, double* out, int n) {
    subtract_loop(a, b, out, n);
}

AIMCLR_MULTIVERSION void blur(const float* in, const float* weights, int taps, int stride,
                              float* out, int n) {
    blur_loop(in, weights, taps, stride, out, n);
}

AIMCLR_MULTIVERSION void blur(const double* in, const double* weights, int taps, int stride,
                              double* out, int n) {
    blur_loop(in, weights, taps, stride, out, n);
}

namespace {

AIMCLR_MULTIVERSION void scaled_normals(const std::uint32_t (&words)[4][kPhiloxLanes], float std,
                                        float* __restrict out) {
    for (int i = 0; i < kPhiloxLanes; ++i) {
        const Floats4 draws = normal({{words[0][i], words[1][i], words[2][i], words[3][i]}});
        for (int j = 0; j < 4; ++j) {
            out[4 * i + j] = draws.v[j] * std;
        }
    }
}

}  // namespace

void draw_noise(augment::Source source, augment::View view, std::uint32_t first, int blocks,
                float std, float* out) {
    const std::uint32_t purpose = augment::purpose_of(view, augment::Draw::kNoise);
    alignas(64) std::uint32_t words[4][kPhiloxLanes];
    alignas(64) float rest[4 * kPhiloxLanes];
    for (int i = 0; i < blocks; i += kPhiloxLanes) {
        philox_lanes(first + static_cast<std::uint32_t>(i), source.step, source.position, purpose,
                     source.key0, source.key1, words);
        const bool whole = i + kPhiloxLanes <= blocks;
        scaled_normals(words, std, whole ? out + 4 * i : rest);
        if (!whole) {
            std::copy_n(rest, 4 * (blocks - i), out + 4 * i);
        }
    }
}

void gather_places(const float* in, const std::int32_t* table, augment::Shape shape, float* out) {
    gather_bodies(in, table, shape, out);
}

void gather_places(const double* in, const std::int32_t* table, augment::Shape shape, double* out) {
    gather_bodies(in, table, shape, out);
}

}  // namespace aimclr::cpu::loops
