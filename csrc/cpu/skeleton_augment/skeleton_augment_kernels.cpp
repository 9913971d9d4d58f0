#include <algorithm>
#include <cstring>
#include <type_traits>

#include "cpu/philox/philox_kernels.h"
#include "cpu/skeleton_augment/skeleton_augment_loops.h"

namespace aimclr::cpu::AIMCLR_LEVEL {

template <typename T, typename Real>
void load_scaled(const T* __restrict in, Real scale, Real* __restrict out, int n) {
    if (std::is_same_v<T, Real> && scale == Real(1)) {
        std::memcpy(out, in, n * sizeof(Real));
        return;
    }
    for (int i = 0; i < n; ++i) {
        out[i] = scale * load<Real>(in[i]);
    }
}

template <typename Real, typename T>
void store(const Real* __restrict in, T* __restrict out, int n) {
    if constexpr (std::is_same_v<T, Real>) {
        std::memcpy(out, in, n * sizeof(Real));
    } else {
        for (int i = 0; i < n; ++i) {
            out[i] = Store<T>::from(in[i]);
        }
    }
}

template <typename Real>
void combine(const Real* x, const Real* y, const Real* z, const Real* row, Real* __restrict out,
             int n) {
    const Real a = row[0], b = row[1], c = row[2];
    for (int i = 0; i < n; ++i) {
        out[i] = a * x[i] + b * y[i] + c * z[i];
    }
}

template <typename Real>
void add(const Real* __restrict in, Real* __restrict out, int n) {
    for (int i = 0; i < n; ++i) {
        out[i] += in[i];
    }
}

template <typename Real>
void subtract(const Real* a, const Real* b, Real* __restrict out, int n) {
    for (int i = 0; i < n; ++i) {
        out[i] = a[i] - b[i];
    }
}

template <typename Real>
void blur(const Real* __restrict in, const Real* __restrict weights, int taps, int stride,
          Real* __restrict out, int n) {
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

AIMCLR_HD void scaled_normals(const std::uint32_t (&words)[4][kPhiloxLanes], float std,
                              float* __restrict out) {
    for (int i = 0; i < kPhiloxLanes; ++i) {
        const Floats4 draws = normal({{words[0][i], words[1][i], words[2][i], words[3][i]}});
        for (int j = 0; j < 4; ++j) {
            out[4 * i + j] = draws.v[j] * std;
        }
    }
}

void draw_noise(augment::Source source, augment::View view, std::uint32_t first, int blocks,
                float std, float* out) {
    const std::uint32_t purpose = augment::purpose_of(view, augment::Draw::kNoise);
    alignas(64) std::uint32_t words[4][kPhiloxLanes];
    alignas(64) float rest[4 * kPhiloxLanes];
    for (int i = 0; i < blocks; i += kPhiloxLanes) {
        philox_lanes(
            {{first + static_cast<std::uint32_t>(i), source.step, source.position, purpose}},
            source.key0, source.key1, words);
        const bool whole = i + kPhiloxLanes <= blocks;
        scaled_normals(words, std, whole ? out + 4 * i : rest);
        if (!whole) {
            std::copy_n(rest, 4 * (blocks - i), out + 4 * i);
        }
    }
}

#define AIMCLR_LOOPS(Real)                                                                 \
    template void combine(const Real*, const Real*, const Real*, const Real*, Real*, int); \
    template void add(const Real*, Real*, int);                                            \
    template void subtract(const Real*, const Real*, Real*, int);                          \
    template void blur(const Real*, const Real*, int, int, Real*, int);                    \
    template void load_scaled(const double*, Real, Real*, int);                            \
    template void store(const Real*, Real*, int);
AIMCLR_LOOPS(float)
AIMCLR_LOOPS(double)
#undef AIMCLR_LOOPS
template void load_scaled(const float*, float, float*, int);
template void load_scaled(const Half*, float, float*, int);
template void load_scaled(const BFloat16*, float, float*, int);
template void load_scaled(const std::int16_t*, float, float*, int);
template void store(const float*, Half*, int);
template void store(const float*, BFloat16*, int);

}  // namespace aimclr::cpu::AIMCLR_LEVEL
