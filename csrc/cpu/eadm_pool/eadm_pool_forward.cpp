#include <algorithm>

#include "cpu/eadm_pool/eadm_pool.h"
#include "cpu/eadm_pool/eadm_pool_kernels.h"
#include "cpu/parallel.h"

namespace aimclr::cpu {

Status eadm_pool_check(const EadmPoolShape& shape, int threads) {
    const auto [batch, channels, frames, joints, last] = shape;
    if (batch < 0 || channels < 0 || frames < 1 || joints < 1 || threads < 1 ||
        threads > kMostThreads || !countable(batch, channels, frames, joints) ||
        !countable(channels, joints) || !countable(batch, joints) || !countable(frames, joints) ||
        !countable(batch, channels)) {
        return invalid_argument("eadm_pool: sizes must not be negative or too large, nor 0");
    }
    return {};
}

std::int64_t eadm_pool_thread_bytes(const EadmPoolShape& shape, std::int64_t real_bytes) {
    const std::int64_t map = round_up(shape.frames * shape.joints, kLanes) + kLanes;
    const std::int64_t padded = round_up(shape.channels, kLanes);
    const std::int64_t rows =
        (4 * map + shape.channels * round_up(shape.joints, kLanes / 2)) * real_bytes + map;
    const std::int64_t columns = padded * (7 * real_bytes + 8 + 1);
    // The counts, six parts of reals or bytes, and their rounding up to 64 bytes. The backward
    // pass needs less: two reals a channel, a byte an element and a byte a joint.
    return round_up(rows + columns, 64) + 7 * 64;
}

Status eadm_pool_workspace(const EadmPoolShape& shape, std::int64_t real_bytes, int threads,
                           std::int64_t& bytes) {
    AIMCLR_RETURN_IF_ERROR(eadm_pool_check(shape, threads));
    if (real_bytes != 4 && real_bytes != 8) {
        return invalid_argument("eadm_pool: sums have a size of 4 or 8 bytes");
    }
    const std::int64_t parts = std::clamp<std::int64_t>(shape.batch, 1, threads);
    bytes = parts * eadm_pool_thread_bytes(shape, real_bytes);
    return {};
}

template <typename T>
Status eadm_pool_forward(const EadmPoolForward<T>& given, int threads) {
    using R = Real<T>;
    AIMCLR_RETURN_IF_ERROR(eadm_pool_check(given.shape, threads));
    const std::int64_t batch = given.shape.batch, channels = given.shape.channels;
    const std::int64_t frames = given.shape.frames, joints = given.shape.joints;
    const void* const pointers[] = {given.x,           given.pooled, given.pooled_drop, given.bits,
                                    given.kept_joints, given.scale,  given.workspace};
    if (batch * channels > 0 && has_null(pointers)) {
        return invalid_argument("eadm_pool: null pointer");
    }
    const double keep_prob = given.keep_prob, e_lambda = given.e_lambda;
    if (!(keep_prob > 0 && keep_prob <= 1) || !(e_lambda > 0)) {
        return invalid_argument("eadm_pool: keep_prob must lie in (0, 1], e_lambda above 0");
    }
    if (batch * channels == 0) {
        return {};
    }
    auto* const scratch = static_cast<std::uint8_t*>(given.workspace);
    // sigmoid(y) < keep_prob is y < logit; with keep_prob 1 the limit is infinite: all is kept.
    const auto logit_limit = static_cast<R>(std::log(keep_prob / (1 - keep_prob)) - 0.5);
    const PoolForward<T> call{given.x,
                              channels,
                              frames,
                              joints,
                              given.shape.channels_last,
                              static_cast<R>(keep_prob),
                              logit_limit,
                              static_cast<R>(e_lambda),
                              given.pooled,
                              given.pooled_drop,
                              given.bits,
                              given.kept_joints};
    const std::int64_t stride = eadm_pool_thread_bytes(given.shape, sizeof(R));
    const std::int64_t parts = std::clamp<std::int64_t>(batch, 1, threads);
    // The counts of a part lie at the start of its scratch.
    const auto count = [=](std::int64_t part) {
        return reinterpret_cast<PoolKept*>(scratch + part * stride);
    };
    const Level used = level();
    parallel_for(parts, threads, 1, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t part = begin; part < end; ++part) {
            const std::int64_t first = batch * part / parts, last = batch * (part + 1) / parts;
            *count(part) = AIMCLR_AT_LEVEL(
                used, forward_samples(call, first, last, scratch + part * stride + 64));
        }
    });

    PoolKept kept{0, 0};
    for (std::int64_t part = 0; part < parts; ++part) {
        kept.elements += count(part)->elements;
        kept.joints += count(part)->joints;
    }
    const auto share = [](std::int64_t all, std::int64_t some) {
        return static_cast<double>(all) / static_cast<double>(std::max<std::int64_t>(some, 1));
    };
    *given.scale = static_cast<R>(share(batch * joints, kept.joints) *
                                  share(batch * channels * frames * joints, kept.elements));
    const R factor = *given.scale / static_cast<R>(frames * joints);
    for (std::int64_t i = 0; i < batch * channels; ++i) {
        // The difference is 0, or NaN where the map holds one: dropping must not hide it.
        call.pooled_drop[i] = call.pooled_drop[i] * factor + (call.pooled[i] - call.pooled[i]);
    }
    return {};
}

#define AIMCLR_INSTANTIATE(T) template Status eadm_pool_forward(const EadmPoolForward<T>&, int);
AIMCLR_INSTANTIATE(float)
AIMCLR_INSTANTIATE(double)
AIMCLR_INSTANTIATE(BFloat16)
AIMCLR_INSTANTIATE(Float16)
#undef AIMCLR_INSTANTIATE

}  // namespace aimclr::cpu
