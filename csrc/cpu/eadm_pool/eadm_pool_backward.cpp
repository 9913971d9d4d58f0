#include <algorithm>

#include "cpu/eadm_pool/eadm_pool.h"
#include "cpu/eadm_pool/eadm_pool_kernels.h"
#include "cpu/pages.h"
#include "cpu/parallel.h"

namespace aimclr::cpu {
template <typename T>
Status eadm_pool_backward(const Real<T>* grad_pooled, const Real<T>* grad_drop,
                          const std::uint8_t* bits, const std::uint8_t* kept_joints,
                          const Real<T>* scale, std::int64_t batch, std::int64_t channels,
                          std::int64_t frames, std::int64_t joints, bool channels_last, T* dx,
                          std::uint8_t* scratch, int threads) {
    using Word = Stored<T>;
    if (batch < 0 || channels < 0 || frames < 1 || joints < 1 || threads < 1 ||
        !countable(batch, channels, frames, joints) || !countable(channels, joints) ||
        !countable(batch, joints) || !countable(frames, joints) || !countable(batch, channels)) {
        return invalid_argument("eadm_pool: sizes must not be negative or too large, nor 0");
    }
    const void* const pointers[] = {grad_pooled, grad_drop, bits, kept_joints, scale, dx, scratch};
    if (batch * channels > 0 && has_null(pointers)) {
        return invalid_argument("eadm_pool: null pointer");
    }
    const std::int64_t n = frames * joints, octets = (frames + 7) / 8;
    advise_huge_pages(dx, batch * channels * n);
    const std::int64_t stride = eadm_pool_scratch_bytes(channels, frames, joints, sizeof(Real<T>));
    const std::int64_t parts = std::clamp<std::int64_t>(batch, 1, threads);

    const auto part_of_batch = [&](std::int64_t part) {
        auto* dropped = reinterpret_cast<Word*>(scratch + part * stride);
        Word* kept = dropped + channels;
        auto* octet = reinterpret_cast<std::uint8_t*>(kept + channels);
        std::uint8_t* selected = octet + round_up(joints, kLanes);
        std::fill(octet, selected, std::uint8_t{0});
        for (std::int64_t sample = batch * part / parts; sample < batch * (part + 1) / parts;
             ++sample) {
            for (std::int64_t c = 0; c < channels; ++c) {
                const Real<T> plain = grad_pooled[sample * channels + c];
                const Real<T> extra = grad_drop[sample * channels + c] * *scale;
                dropped[c] = narrow<T>(plain / static_cast<Real<T>>(n));
                kept[c] = narrow<T>((plain + extra) / static_cast<Real<T>>(n));
            }
            const PoolBackward<Word> call{dropped,
                                          kept,
                                          bits + sample * channels * octets * joints,
                                          kept_joints + sample * joints,
                                          channels,
                                          frames,
                                          joints,
                                          reinterpret_cast<Word*>(dx) + sample * channels * n};
            AIMCLR_AT_LEVEL(level(), backward_sample(call, channels_last, octet, selected));
        }
    };
    parallel_for(parts, threads, 1, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t part = begin; part < end; ++part) {
            part_of_batch(part);
        }
    });
    return {};
}

#define AIMCLR_INSTANTIATE(T)                                                                     \
    template Status eadm_pool_backward(                                                           \
        const Real<T>*, const Real<T>*, const std::uint8_t*, const std::uint8_t*, const Real<T>*, \
        std::int64_t, std::int64_t, std::int64_t, std::int64_t, bool, T*, std::uint8_t*, int);
AIMCLR_INSTANTIATE(float)
AIMCLR_INSTANTIATE(double)
AIMCLR_INSTANTIATE(BFloat16)
AIMCLR_INSTANTIATE(Float16)
#undef AIMCLR_INSTANTIATE

}  // namespace aimclr::cpu
