#include "cpu/queue_contrast/queue_contrast.h"

#include <algorithm>
#include <limits>

#include "cpu/parallel.h"
#include "cpu/queue_contrast/queue_contrast_finish.h"
#include "cpu/queue_contrast/queue_contrast_plan.h"
#include "cpu/queue_contrast/queue_contrast_tile.h"

namespace aimclr::cpu {
namespace contrast {
namespace {

template <typename Tl, typename T>
AIMCLR_INLINE void pack_rows(const Call<T>& call) {
    const Plan& plan = call.plan;
    std::fill_n(call.work.packed_rows, plan.padded_rows * plan.padded_d, T{0});
    for (Index row = 0; row < plan.rows; ++row) {
        const T* const from = call.views[row / plan.n] + row % plan.n * plan.d;
        T* const to = call.work.packed_rows + row / Tl::kPanel * Tl::kPanel * plan.padded_d +
                      row % Tl::kPanel;
        for (Index i = 0; i < plan.d; ++i) {
            to[i * Tl::kPanel] = from[i];
        }
    }
}

// keys [padded_d / kDims][kTileKeys][kDims], padded with zeros to a multiple of kKeys.
template <typename Tl, typename T>
AIMCLR_INLINE void pack_keys(const T* queue, Index count, const Plan& plan, T* keys) {
    const Index padded = round_up(count, Tl::kKeys);
    for (Index part = 0; part < plan.padded_d; part += Tl::kDims) {
        const Index width = std::clamp<Index>(plan.d - part, 0, Tl::kDims);
        T* to = keys + part * kTileKeys;
        for (Index j = 0; j < padded; ++j, to += Tl::kDims) {
            const Index copied = j < count ? width : 0;
            std::copy_n(queue + j * plan.d + part, copied, to);
            std::fill_n(to + copied, Tl::kDims - copied, T{0});
        }
    }
}

// Enters a tile's scores into the lists of the panel's rows. Most rows have nothing to enter.
template <typename Tl, typename T>
AIMCLR_INLINE void mine_tile(const T* scores, const T* largest, Index count, Index first_key,
                             Index rows, Index topk, T* near_scores, Index* near_indices) {
    for (Index lane = 0; lane < rows; ++lane, near_scores += topk, near_indices += topk) {
        if (!(largest[lane] > near_scores[topk - 1])) {
            continue;
        }
        for (Index j = 0; j < count; ++j) {
            const T score = scores[j * Tl::kPanel + lane];
            if (score > near_scores[topk - 1]) {
                insert(score, first_key + j, near_scores, near_indices, topk);
            }
        }
    }
}

// One block of rows against one chunk of the queue. `follows`: the same thread has just done the
// chunk before, so a score below that one's last neighbour need not be kept.
template <typename Tl, typename T>
AIMCLR_INLINE void scan_chunk(const Call<T>& call, Index block, Index chunk, bool follows,
                              T* scratch) {
    const Plan& plan = call.plan;
    const Workspace<T>& work = call.work;
    const Index topk = plan.topk, padded_d = plan.padded_d;
    const Index begin = block * kBlockRows;
    const Index end = std::min(begin + kBlockRows, plan.padded_rows);
    const Index part = chunk * plan.padded_rows;
    const T scale = static_cast<T>(1.4426950408889634 / call.temperature);
    constexpr T kNone = -std::numeric_limits<T>::infinity();

    std::fill(work.maxima + part + begin, work.maxima + part + end, kNone);
    std::fill(work.normalizers + part + begin, work.normalizers + part + end, T{0});
    std::fill(work.key_sums + (part + begin) * padded_d, work.key_sums + (part + end) * padded_d,
              T{0});
    for (Index row = begin; topk > 0 && row < end; ++row) {
        T* const list = work.near_scores + (part + row) * topk;
        const T bar = follows ? (list - plan.padded_rows * topk)[topk - 1] : kNone;
        std::fill_n(list, topk, bar);
        std::fill_n(work.near_indices + (part + row) * topk, topk, Index{-1});
    }

    T* const keys = scratch;
    T* const scores = scratch + kTileKeys * padded_d;
    for (Index tile = plan.first_tile(chunk); tile < plan.first_tile(chunk + 1); ++tile) {
        const Index first_key = tile * kTileKeys;
        const Index count = std::min(kTileKeys, plan.k - first_key);
        pack_keys<Tl>(call.queue + first_key * plan.d, count, plan, keys);
        for (Index row = begin; row < end; row += Tl::kPanel) {
            const Index at = part + row;
            typename Tl::Vec largest[Tl::kPanelVecs], rescale[Tl::kPanelVecs];
            score_tile<Tl>(keys, work.packed_rows + row * padded_d, count, padded_d, scores,
                           largest);
            if (topk > 0) {
                mine_tile<Tl>(scores, reinterpret_cast<const T*>(largest), count, first_key,
                              std::clamp<Index>(plan.rows - row, 0, Tl::kPanel), topk,
                              work.near_scores + at * topk, work.near_indices + at * topk);
            }
            weigh_tile<Tl>(scores, count, scale, largest, work.maxima + at, work.normalizers + at,
                           rescale);
            sum_keys<Tl>(scores, keys, reinterpret_cast<const T*>(rescale), count, padded_d,
                         work.key_sums + at * padded_d);
        }
    }
}

// The same code for one instruction set. Inlining carries `target` to all that it calls.
#define AIMCLR_CONTRAST_KERNELS(name, bytes, target)                                         \
    template <typename T>                                                                    \
    struct name {                                                                            \
        target static void pack(const Call<T>& call) {                                       \
            pack_rows<Tile<T, bytes>>(call);                                                 \
        }                                                                                    \
        target static void scan(const Call<T>& call, Index block, Index chunk, bool follows, \
                                T* scratch) {                                                \
            scan_chunk<Tile<T, bytes>>(call, block, chunk, follows, scratch);                \
        }                                                                                    \
        target static void finish(const Call<T>& call, Index i) {                            \
            finish_row(call, i);                                                             \
        }                                                                                    \
    };

AIMCLR_CONTRAST_KERNELS(Baseline, 16, )
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define AIMCLR_CONTRAST_X86
AIMCLR_CONTRAST_KERNELS(Avx2, 32, [[gnu::target("arch=x86-64-v3")]])
AIMCLR_CONTRAST_KERNELS(Avx512, 64, [[gnu::target("arch=x86-64-v4")]])
#endif

template <typename T>
struct Kernels {
    void (*pack)(const Call<T>&) = nullptr;
    void (*scan)(const Call<T>&, Index, Index, bool, T*) = nullptr;
    void (*finish)(const Call<T>&, Index) = nullptr;

    template <typename Isa>
    static Kernels of() {
        return {&Isa::pack, &Isa::scan, &Isa::finish};
    }
};

// Null pointers where the processor lacks what `vector_bytes` asks for.
template <typename T>
Kernels<T> choose(int vector_bytes) {
    const auto wanted = [vector_bytes](int bytes) {
        return vector_bytes == 0 || vector_bytes == bytes;
    };
#ifdef AIMCLR_CONTRAST_X86
    if (wanted(64) && __builtin_cpu_supports("x86-64-v4")) {
        return Kernels<T>::template of<Avx512<T>>();
    }
    if (wanted(32) && __builtin_cpu_supports("x86-64-v3")) {
        return Kernels<T>::template of<Avx2<T>>();
    }
#endif
    return wanted(16) ? Kernels<T>::template of<Baseline<T>>() : Kernels<T>{};
}

template <typename T>
Status run(const Call<T>& call, T* losses, int threads, int vector_bytes) {
    const Kernels<T> kernels = choose<T>(vector_bytes);
    if (kernels.scan == nullptr) {
        return invalid_argument("queue_contrast: this processor has no vectors of that width");
    }
    const Plan& plan = call.plan;
    kernels.pack(call);
    const Index parts = plan.parts(), workers = plan.workers(threads);
    const Index scratch = Workspace<T>::scratch_size(plan);
    // One index per thread, so that each has its own scratch.
    parallel_for(workers, threads, 1, [&](Index begin, Index end) {
        for (Index worker = begin; worker < end; ++worker) {
            const Index first = parts * worker / workers, last = parts * (worker + 1) / workers;
            for (Index part = first; part < last; ++part) {
                const Index chunk = part % plan.chunks;
                kernels.scan(call, part / plan.chunks, chunk, part > first && chunk > 0,
                             call.work.scratch + worker * scratch);
            }
        }
    });
    constexpr Index kRowsPerThread = 16;
    parallel_for(plan.n, threads, kRowsPerThread, [&](Index begin, Index end) {
        for (Index i = begin; i < end; ++i) {
            kernels.finish(call, i);
        }
    });
    for (Index view = 0; view < kViews; ++view) {
        double sum = 0.0;
        for (Index i = 0; i < plan.n; ++i) {
            sum += call.work.row_losses[view * plan.n + i];
        }
        losses[view] = static_cast<T>(sum / static_cast<double>(plan.n));
    }
    return {};
}

Status check_sizes(Index n, Index k, Index d, Index topk, int threads) {
    if (n < 1 || k < 0 || d < 0 || threads < 1 || threads > kMostThreads) {
        return invalid_argument(
            "queue_contrast: n and threads must be positive, k and d not negative");
    }
    if (topk < 0 || topk > k) {
        return invalid_argument("queue_contrast: topk must lie in 0..k");
    }
    const Index most = Index{1} << 40;
    if (n > most || k > most || d > most || !countable(3 * n + kRowPadding, d + kDimPadding) ||
        !countable(k, d) || !countable(3 * n + kRowPadding, topk)) {
        return invalid_argument("queue_contrast: the sizes are too large");
    }
    return {};
}

}  // namespace
}  // namespace contrast

template <typename T>
Status queue_contrast(const QueueContrast<T>& call, int threads, int vector_bytes) {
    const auto n = call.n, k = call.k, d = call.d, topk = call.topk;
    AIMCLR_RETURN_IF_ERROR(contrast::check_sizes(n, k, d, topk, threads));
    if (!(call.temperature > 0.0)) {
        return invalid_argument("queue_contrast: temperature must be positive");
    }
    const void* const rows[] = {call.query, call.extreme, call.dropped, call.key, call.gradients};
    if ((d > 0 && has_null(rows)) || call.losses == nullptr ||
        (k > 0 && d > 0 && call.queue == nullptr) || (topk > 0 && call.neighbors == nullptr)) {
        return invalid_argument("queue_contrast: null pointer");
    }
    if (call.workspace == nullptr || reinterpret_cast<std::uintptr_t>(call.workspace) % 64 != 0) {
        return invalid_argument("queue_contrast: the workspace must be aligned to 64 bytes");
    }
    const contrast::Plan plan(n, k, d, topk);
    return contrast::run<T>({{call.query, call.extreme, call.dropped},
                             call.key,
                             call.queue,
                             call.temperature,
                             call.gradients,
                             call.neighbors,
                             plan,
                             contrast::Workspace<T>(plan, threads, call.workspace)},
                            call.losses, threads, vector_bytes);
}

template Status queue_contrast(const QueueContrast<float>&, int, int);
template Status queue_contrast(const QueueContrast<double>&, int, int);

Status queue_contrast_workspace(std::int64_t n, std::int64_t k, std::int64_t d, std::int64_t topk,
                                int threads, std::int64_t element_bytes, std::int64_t& bytes) {
    AIMCLR_RETURN_IF_ERROR(contrast::check_sizes(n, k, d, topk, threads));
    const contrast::Plan plan(n, k, d, topk);
    bytes = element_bytes == sizeof(double)
                ? contrast::Workspace<double>(plan, threads, nullptr).bytes
                : contrast::Workspace<float>(plan, threads, nullptr).bytes;
    return {};
}

}  // namespace aimclr::cpu
