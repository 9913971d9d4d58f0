#include "cpu/queue_contrast/queue_contrast.h"

#include <algorithm>

#include "cpu/parallel.h"
#include "cpu/queue_contrast/queue_contrast_kernels.h"

namespace aimclr::cpu {
namespace contrast {
namespace {

template <typename T>
void run(const Call<T>& call, T* losses, int threads) {
    const Level used = level();  // one for the whole call, whose parts share a layout
    const Plan& plan = call.plan;
    AIMCLR_AT_LEVEL(used, contrast_pack(call));
    const Index parts = plan.parts(), workers = plan.workers(threads);
    const Index scratch = Workspace<T>::scratch_size(plan);
    // One index per thread, so that each has its own scratch.
    parallel_for(workers, threads, 1, [&](Index begin, Index end) {
        for (Index worker = begin; worker < end; ++worker) {
            const Index first = parts * worker / workers, last = parts * (worker + 1) / workers;
            for (Index part = first; part < last; ++part) {
                const Index chunk = part % plan.chunks;
                AIMCLR_AT_LEVEL(
                    used, contrast_scan(call, part / plan.chunks, chunk, part > first && chunk > 0,
                                        call.work.scratch + worker * scratch));
            }
        }
    });
    constexpr Index kRowsPerThread = 16;
    parallel_for(plan.n, threads, kRowsPerThread, [&](Index begin, Index end) {
        for (Index i = begin; i < end; ++i) {
            AIMCLR_AT_LEVEL(used, contrast_finish(call, i));
        }
    });
    for (Index view = 0; view < kViews; ++view) {
        double sum = 0.0;
        for (Index i = 0; i < plan.n; ++i) {
            sum += call.work.row_losses[view * plan.n + i];
        }
        losses[view] = static_cast<T>(sum / static_cast<double>(plan.n));
    }
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
Status queue_contrast(const QueueContrast<T>& call, int threads) {
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
    contrast::run<T>({{call.query, call.extreme, call.dropped},
                      call.key,
                      call.queue,
                      call.temperature,
                      call.gradients,
                      call.neighbors,
                      plan,
                      contrast::Workspace<T>(plan, threads, call.workspace)},
                     call.losses, threads);
    return {};
}

template Status queue_contrast(const QueueContrast<float>&, int);
template Status queue_contrast(const QueueContrast<double>&, int);

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
