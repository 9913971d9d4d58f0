#include "cpu/masked_pool/masked_pool.h"

#include <algorithm>

#include "cpu/masked_pool/masked_pool_kernels.h"
#include "cpu/pages.h"
#include "cpu/parallel.h"

namespace aimclr::cpu {
namespace {

// Checks sizes, then `pointers`, the last of which is the mask's, and counts that.
template <std::size_t N>
Status count_mask(const MaskedPoolShape& shape, const void* const (&pointers)[N], int threads,
                  MaskCounts& counts) {
    const auto [batch, channels, frames, joints, last] = shape;
    if (batch < 0 || channels < 0 || frames < 1 || joints < 1 || threads < 1 ||
        threads > kMostThreads || !countable(batch, channels, frames, joints) ||
        !countable(frames, joints) || !countable(batch, channels)) {
        return invalid_argument("masked_pool: sizes must not be negative or too large, nor 0");
    }
    if (batch * channels == 0) {
        return {};
    }
    if (has_null(pointers)) {
        return invalid_argument("masked_pool: null pointer");
    }
    const auto* const mask = static_cast<const std::uint8_t*>(pointers[N - 1]);
    counts.outside = std::count(mask, mask + frames * joints, std::uint8_t{0});
    counts.inside = frames * joints - counts.outside;
    if (counts.inside == 0 || counts.outside == 0) {
        return invalid_argument("masked_pool: the mask must have both true and false entries");
    }
    return {};
}

// Calls body(begin, end) for parts of the batch, each worth a thread.
template <typename Body>
void for_batch(const MaskedPoolShape& shape, int threads, const Body& body) {
    constexpr std::int64_t kElements = 1 << 16;
    const std::int64_t sample = shape.channels * shape.frames * shape.joints;
    parallel_for(shape.batch, threads, 1 + kElements / std::max<std::int64_t>(sample, 1), body);
}

}  // namespace

template <typename T>
Status masked_pool_forward(const MaskedPoolForward<T>& call, int threads) {
    MaskCounts counts{};
    AIMCLR_RETURN_IF_ERROR(
        count_mask(call.shape, {call.x, call.inside, call.outside, call.mask}, threads, counts));
    const Level used = level();
    for_batch(call.shape, threads, [&](std::int64_t begin, std::int64_t end) {
        AIMCLR_AT_LEVEL(used, pool_samples(call, counts, begin, end));
    });
    return {};
}

template <typename T>
Status masked_pool_backward(const MaskedPoolBackward<T>& call, int threads) {
    MaskCounts counts{};
    AIMCLR_RETURN_IF_ERROR(count_mask(
        call.shape, {call.grad_inside, call.grad_outside, call.dx, call.mask}, threads, counts));
    const auto [batch, channels, frames, joints, last] = call.shape;
    advise_huge_pages(call.dx, batch * channels * frames * joints);
    const Level used = level();
    for_batch(call.shape, threads, [&](std::int64_t begin, std::int64_t end) {
        AIMCLR_AT_LEVEL(used, spread_samples(call, counts, begin, end));
    });
    return {};
}

#define AIMCLR_INSTANTIATE(T)                                              \
    template Status masked_pool_forward(const MaskedPoolForward<T>&, int); \
    template Status masked_pool_backward(const MaskedPoolBackward<T>&, int);
AIMCLR_INSTANTIATE(float)
AIMCLR_INSTANTIATE(double)
AIMCLR_INSTANTIATE(BFloat16)
AIMCLR_INSTANTIATE(Half)
#undef AIMCLR_INSTANTIATE

}  // namespace aimclr::cpu
