#include <algorithm>

#include "common/macros.h"
#include "cpu/eadm_pool/eadm_pool.h"
#include "cpu/pages.h"
#include "cpu/parallel.h"

namespace aimclr::cpu {
namespace {

// One sample. Its gradient has two values per channel: where an element was dropped and where it
// was kept. `Word` holds either without regard to its type.
template <typename Word>
struct Backward {
    const Word* dropped;  // [channels]
    const Word* kept;
    const std::uint8_t* bits;
    const std::uint8_t* kept_joints;
    std::int64_t channels, frames, joints;
    Word* dx;
};

// Channels follow each other. `octet` and `selected` have kLanes of slack: blocks of joints are
// written whole, and what runs on into the next frame is overwritten by it.
template <typename Word>
AIMCLR_INLINE void backward_rows(const Backward<Word>& call, std::uint8_t* octet,
                                 std::uint8_t* selected) {
    const std::int64_t frames = call.frames, joints = call.joints, n = frames * joints;
    const std::uint8_t* bits = call.bits;
    Word* to = call.dx;
    for (std::int64_t c = 0; c < call.channels; ++c, to += n) {
        for (std::int64_t start = 0; start < frames; start += 8, bits += joints) {
            for (std::int64_t v = 0; v < joints; ++v) {
                octet[v] = call.kept_joints[v] ? bits[v] : std::uint8_t{0};
            }
            for (std::int64_t t = start; t < std::min(frames, start + 8); ++t) {
                const auto bit = static_cast<std::uint8_t>(1 << (t - start));
                for (std::int64_t first = 0; first < joints; first += kLanes) {
                    for (std::int64_t j = first; j < first + kLanes; ++j) {
                        selected[t * joints + j] = octet[j] & bit;
                    }
                }
            }
        }
        const Word dropped = call.dropped[c], kept = call.kept[c];
        for (std::int64_t i = 0; i < n; ++i) {
            to[i] = selected[i] ? kept : dropped;
        }
    }
}

// Channels-last format.
template <typename Word>
AIMCLR_INLINE void backward_columns(const Backward<Word>& call) {
    const std::int64_t channels = call.channels, joints = call.joints;
    const Word* __restrict__ where_kept = call.kept;
    const Word* __restrict__ where_dropped = call.dropped;
    Word* __restrict__ to = call.dx;
    for (std::int64_t t = 0; t < call.frames; ++t) {
        for (std::int64_t v = 0; v < joints; ++v, to += channels) {
            const std::uint8_t* __restrict__ octet = call.bits + (t / 8 * joints + v) * channels;
            const auto bit = static_cast<std::uint8_t>((call.kept_joints[v] != 0) << t % 8);
            for (std::int64_t c = 0; c < channels; ++c) {
                const Word kept = where_kept[c], dropped = where_dropped[c];
                to[c] = octet[c] & bit ? kept : dropped;
            }
        }
    }
}

// Not templates, since those cannot be cloned per instruction set.
#define AIMCLR_BACKWARD_SAMPLE(Word)                                                         \
    AIMCLR_MULTIVERSION void backward_sample(const Backward<Word>& call, bool channels_last, \
                                             std::uint8_t* octet, std::uint8_t* selected) {  \
        if (channels_last) {                                                                 \
            backward_columns(call);                                                          \
        } else {                                                                             \
            backward_rows(call, octet, selected);                                            \
        }                                                                                    \
    }
AIMCLR_BACKWARD_SAMPLE(float)
AIMCLR_BACKWARD_SAMPLE(double)
AIMCLR_BACKWARD_SAMPLE(std::uint16_t)
#undef AIMCLR_BACKWARD_SAMPLE

}  // namespace

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
            const Backward<Word> call{dropped,
                                      kept,
                                      given.bits + sample * channels * octets * joints,
                                      given.kept_joints + sample * joints,
                                      channels,
                                      frames,
                                      joints,
                                      reinterpret_cast<Word*>(given.dx) + sample * channels * n};
            backward_sample(call, given.shape.channels_last, octet, selected);
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
