#include <algorithm>

#include "cpu/eadm_pool/eadm_pool_kernels.h"

namespace aimclr::cpu::AIMCLR_LEVEL {
namespace {

// Hands out aligned parts of a thread's scratch.
struct Scratch {
    std::uint8_t* next;

    template <typename Item>
    AIMCLR_INLINE Item* take(std::int64_t items) {
        auto* part = reinterpret_cast<Item*>(next);
        next += round_up(items * static_cast<std::int64_t>(sizeof(Item)), 64);
        return part;
    }
};

template <typename T, typename R>
AIMCLR_INLINE bool keep_joint(const PoolForward<T>& call, R attention_sum) {
    return attention_sum / static_cast<R>(call.channels * call.frames) < call.keep_prob;
}

// One sample whose channels follow each other: a row is one channel's map.
template <typename T>
AIMCLR_INLINE void forward_rows(const PoolForward<T>& call, std::int64_t sample, Scratch scratch) {
    using R = Real<T>;
    const std::int64_t channels = call.channels, frames = call.frames, joints = call.joints;
    const std::int64_t n = call.elements(), padded = round_up(n, kLanes);
    const std::int64_t joint_stride = round_up(joints, kLanes / 2);
    R* row = scratch.take<R>(padded);
    R* attention = scratch.take<R>(padded);
    R* inverses = scratch.take<R>(padded);
    R* kept_values = scratch.take<R>(padded + kLanes);
    R* joint_sums = scratch.take<R>(channels * joint_stride);
    auto* kept = scratch.take<std::uint8_t>(padded + kLanes);
    std::fill(attention, attention + padded, R(0));
    std::fill(kept_values + padded, kept_values + padded + kLanes, R(0));
    std::fill(kept + padded, kept + padded + kLanes, std::uint8_t{0});

    constexpr std::int64_t item = sizeof(T);
    const std::int64_t ahead = std::min(n, kPrefetchBytes / item);  // of the next map
    const std::int64_t map_bits = call.octets() * joints;
    const std::uint8_t* bits_end = call.bits + (sample + 1) * channels * map_bits;
    for (std::int64_t c = 0; c < channels; ++c) {
        const std::int64_t map = sample * channels + c;
        const T* from = call.x + map * n;
        if (c + 1 < channels) {
            for (std::int64_t i = 0; i < ahead; i += kLineBytes / item) {
                __builtin_prefetch(from + n + i);
            }
        }
        for (std::int64_t i = 0; i < n; ++i) {
            row[i] = widen(from[i]);
        }
        // The padding adds nothing: zeros to the sum, the mean to the squared distances.
        std::fill(row + n, row + padded, R(0));
        const R mean = sum_of_powers<1>(row, padded, R(0)) / static_cast<R>(n);
        std::fill(row + n, row + padded, mean);
        const R squares = sum_of_powers<2>(row, padded, mean);
        const R variance = squares / static_cast<R>(std::max<std::int64_t>(n - 1, 1));
        const auto a = attention_of(mean, variance, call.e_lambda, call.logit_limit);
        if (c % 2) {
            attend<0, Attend::kSecond>(row, padded, {&a.mean, &a.slope, &a.limit}, attention,
                                       inverses, kept_values, kept);
        } else if (c + 1 < channels) {
            attend<0, Attend::kFirst>(row, padded, {&a.mean, &a.slope, &a.limit}, attention,
                                      inverses, kept_values, kept);
        } else {
            attend<0, Attend::kAlone>(row, padded, {&a.mean, &a.slope, &a.limit}, attention,
                                      inverses, kept_values, kept);
        }
        sum_over_frames(kept_values, frames, joints, joint_sums + c * joint_stride);
        pack_frames(kept, frames, joints, call.bits + map * map_bits, bits_end);
        call.pooled[map] = mean;
    }

    std::uint8_t* kept_joints = call.kept_joints + sample * joints;
    R* factor = inverses;  // of each joint: 1 if it is kept
    std::fill(factor, factor + joint_stride, R(0));
    for (std::int64_t v = 0; v < joints; ++v) {
        R sum = 0;
        for (std::int64_t t = 0; t < frames; ++t) {
            sum += attention[t * joints + v];
        }
        kept_joints[v] = keep_joint(call, sum);
        factor[v] = kept_joints[v];
    }
    // Beyond the joints there are sums of the next frame's. A sum of finite values that is not
    // finite itself makes 0 * inf: so is the map's mean then, but for magnitudes near the largest.
    for (std::int64_t c = 0; c < channels; ++c) {
        constexpr std::int64_t kJoints = kLanes / 2;
        R lanes[kJoints] = {};
        for (std::int64_t first = 0; first < joint_stride; first += kJoints) {
            for (std::int64_t j = 0; j < kJoints; ++j) {
                lanes[j] += factor[first + j] * joint_sums[c * joint_stride + first + j];
            }
        }
        call.pooled_drop[sample * channels + c] = sum_of_lanes<kJoints>(lanes);
    }
}

// total[c] = sum over frames and joints of (x[t, v, c] - origin[c])^Power: per frame, and those
// sums in double, so that long maps keep their accuracy.
template <int Power, typename T, typename R = Real<T>>
AIMCLR_INLINE void sum_columns(const PoolForward<T>& call, const T* x, const R* origin, R* frame,
                               double* total) {
    const std::int64_t channels = call.channels;
    std::fill(total, total + channels, 0.0);
    for (std::int64_t t = 0; t < call.frames; ++t) {
        std::fill(frame, frame + channels, R(0));
        for (std::int64_t v = 0; v < call.joints; ++v, x += channels) {
            for (std::int64_t c = 0; c < channels; ++c) {
                const R deviation = widen(x[c]) - (Power == 2 ? origin[c] : R(0));
                frame[c] += Power == 2 ? deviation * deviation : deviation;
            }
        }
        for (std::int64_t c = 0; c < channels; ++c) {
            total[c] += frame[c];
        }
    }
}

// One sample in channels-last format: a row is all channels of one joint at one time.
template <typename T>
AIMCLR_INLINE void forward_columns(const PoolForward<T>& call, std::int64_t sample,
                                   Scratch scratch) {
    using R = Real<T>;
    const std::int64_t channels = call.channels, frames = call.frames, joints = call.joints;
    const std::int64_t n = call.elements(), padded = round_up(channels, kLanes);
    // Zero, so that the padding is harmless.
    R* arrays = scratch.take<R>(7 * padded);
    std::fill(arrays, arrays + 7 * padded, R(0));
    R *mean = arrays, *slope = mean + padded, *limit = slope + padded, *row = limit + padded;
    R *attention = row + padded, *kept_values = attention + padded, *sums = kept_values + padded;
    auto* total = scratch.take<double>(padded);
    auto* kept = scratch.take<std::uint8_t>(padded);
    const T* x = call.x + sample * n * channels;

    sum_columns<1>(call, x, mean, row, total);
    for (std::int64_t c = 0; c < channels; ++c) {
        mean[c] = static_cast<R>(total[c] / static_cast<double>(n));
        call.pooled[sample * channels + c] = mean[c];
    }
    sum_columns<2>(call, x, mean, row, total);
    for (std::int64_t c = 0; c < channels; ++c) {
        const double freedom = static_cast<double>(std::max<std::int64_t>(n - 1, 1));
        const R variance = static_cast<R>(total[c] / freedom);
        const auto a = attention_of(mean[c], variance, call.e_lambda, call.logit_limit);
        slope[c] = a.slope;
        limit[c] = a.limit;
    }

    std::fill(sums, sums + channels, R(0));
    std::uint8_t* sample_bits = call.bits + sample * call.octets() * joints * channels;
    for (std::int64_t v = 0; v < joints; ++v) {
        std::fill(attention, attention + padded, R(0));
        std::fill(kept_values, kept_values + padded, R(0));
        for (std::int64_t t = 0; t < frames; ++t) {
            const T* from = x + (t * joints + v) * channels;
            for (std::int64_t c = 0; c < channels; ++c) {
                row[c] = widen(from[c]);
            }
            attend<1, Attend::kAlone>(row, padded, {mean, slope, limit}, attention,
                                      static_cast<R*>(nullptr), kept_values, kept);
            std::uint8_t* bits = sample_bits + (t / 8 * joints + v) * channels;
            const int bit = static_cast<int>(t % 8);
            for (std::int64_t c = 0; c < channels; ++c) {
                bits[c] = static_cast<std::uint8_t>((bit ? bits[c] : 0) | kept[c] << bit);
            }
        }
        std::fill(attention + channels, attention + padded, R(0));
        const bool keep = keep_joint(call, sum_of_powers<1>(attention, padded, R(0)));
        call.kept_joints[sample * joints + v] = keep;
        for (std::int64_t c = 0; keep && c < channels; ++c) {
            sums[c] += kept_values[c];
        }
    }
    std::copy(sums, sums + channels, call.pooled_drop + sample * channels);
}

}  // namespace

template <typename T>
PoolKept forward_samples(const PoolForward<T>& call, std::int64_t begin, std::int64_t end,
                         std::uint8_t* scratch) {
    PoolKept kept{0, 0};
    const std::int64_t bytes = call.channels * call.octets() * call.joints;
    for (std::int64_t sample = begin; sample < end; ++sample) {
        if (call.channels_last) {
            forward_columns(call, sample, Scratch{scratch});
        } else {
            forward_rows(call, sample, Scratch{scratch});
        }
        const std::uint8_t* bits = call.bits + sample * bytes;
        std::int64_t i = 0;
        for (std::uint64_t word; i + 8 <= bytes; i += 8) {
            std::memcpy(&word, bits + i, 8);
            kept.elements += __builtin_popcountll(word);
        }
        for (; i < bytes; ++i) {
            kept.elements += __builtin_popcount(bits[i]);
        }
        for (std::int64_t v = 0; v < call.joints; ++v) {
            kept.joints += call.kept_joints[sample * call.joints + v];
        }
    }
    return kept;
}

#define AIMCLR_INSTANTIATE(T)                                                            \
    template PoolKept forward_samples(const PoolForward<T>&, std::int64_t, std::int64_t, \
                                      std::uint8_t*);
AIMCLR_INSTANTIATE(float)
AIMCLR_INSTANTIATE(double)
AIMCLR_INSTANTIATE(BFloat16)
AIMCLR_INSTANTIATE(Float16)
#undef AIMCLR_INSTANTIATE

}  // namespace aimclr::cpu::AIMCLR_LEVEL
