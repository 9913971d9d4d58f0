#include <algorithm>

#include "cpu/eadm_pool/eadm_pool.h"
#include "cpu/eadm_pool/eadm_pool_kernels.h"
#include "cpu/pages.h"
#include "cpu/parallel.h"

namespace aimclr::cpu {

template <typename T>
Status eadm_pool_backward(const EadmPoolBackward<T>& given, int threads) {
    using Word = Stored<T>;
    AIMCLR_RETURN_IF_ERROR(eadm_pool_check(given.shape, threads));
    const std::int64_t batch = given.shape.batch, channels = given.shape.channels;
    const std::int64_t frames = given.shape.frames, joints = given.shape.joints;
    const void* const pointers[] = {given.grad_pooled, given.grad_drop, given.bits,
                                    given.kept_joints, given.scale,     given.dx,
                                    given.workspace};
    if (batch * channels > 0 && has_null(pointers)) {
        return invalid_argument("eadm_pool: null pointer");
    }
    if (batch * channels == 0) {
        return {};
    }
    auto* const scratch = static_cast<std::uint8_t*>(given.workspace);
    const std::int64_t n = frames * joints, octets = (frames + 7) / 8;
    advise_huge_pages(given.dx, batch * channels * n);
    const std::int64_t stride = eadm_pool_thread_bytes(given.shape, sizeof(Real<T>));
    const std::int64_t parts = std::clamp<std::int64_t>(batch, 1, threads);
    const Level used = level();

    const auto part_of_batch = [&](std::int64_t part) {
        auto* dropped = reinterpret_cast<Word*>(scratch + part * stride);
        Word* kept = dropped + channels;
        auto* octet = reinterpret_cast<std::uint8_t*>(kept + channels);
        std::uint8_t* selected = octet + round_up(joints, kLanes);
        std::fill(octet, selected, std::uint8_t{0});
        for (std::int64_t sample = batch * part / parts; sample < batch * (part + 1) / parts;
             ++sample) {
            for (std::int64_t c = 0; c < channels; ++c) {
                const Real<T> plain = given.grad_pooled[sample * channels + c];
                const Real<T> extra = given.grad_drop[sample * channels + c] * *given.scale;
                dropped[c] = narrow<T>(plain / static_cast<Real<T>>(n));
                kept[c] = narrow<T>((plain + extra) / static_cast<Real<T>>(n));
            }
            const PoolBackward<Word> call{
                dropped,
                kept,
                given.bits + sample * channels * octets * joints,
                given.kept_joints + sample * joints,
                channels,
                frames,
                joints,
                reinterpret_cast<Word*>(given.dx) + sample * channels * n};
            AIMCLR_AT_LEVEL(used,
                            backward_sample(call, given.shape.channels_last, octet, selected));
        }
    };
    parallel_for(parts, threads, 1, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t part = begin; part < end; ++part) {
            part_of_batch(part);
        }
    });
    return {};
}

#define AIMCLR_INSTANTIATE(T) template Status eadm_pool_backward(const EadmPoolBackward<T>&, int);
AIMCLR_INSTANTIATE(float)
AIMCLR_INSTANTIATE(double)
AIMCLR_INSTANTIATE(BFloat16)
AIMCLR_INSTANTIATE(Float16)
#undef AIMCLR_INSTANTIATE

}  // namespace aimclr::cpu
