#include "cpu/queue_contrast/queue_contrast.h"

#include <algorithm>

#include "cpu/parallel.h"
#include "cpu/queue_contrast/queue_contrast_kernels.h"

namespace aimclr::cpu {
namespace contrast {
namespace {

// The part `index` of all streams: its stream, and its place there.
template <typename T>
const Stream<T>& find_part(const Call<T>& call, Index& index) {
    const Stream<T>* stream = call.stream;
    for (; index >= stream->plan.parts(); ++stream) {
        index -= stream->plan.parts();
    }
    return *stream;
}

template <typename T>
void run(const Call<T>& call, int threads) {
    const Level used = level();  // one for the whole call, whose parts share a layout
    const QueueContrastShape& shape = call.given.shape;
    for (Index s = 0; s < shape.streams; ++s) {
        AIMCLR_AT_LEVEL(used, contrast_pack(call.stream[s]));
    }
    const Index workers = call.workers(threads);
    // One index per thread, so that each has its own scratch.
    parallel_for(workers, threads, 1, [&](Index begin, Index end) {
        for (Index worker = begin; worker < end; ++worker) {
            const Index first = call.parts * worker / workers;
            const Index last = call.parts * (worker + 1) / workers;
            for (Index i = first; i < last; ++i) {
                Index part = i;
                const Stream<T>& stream = find_part(call, part);
                const Index chunk = part % stream.plan.chunks;
                AIMCLR_AT_LEVEL(
                    used, contrast_scan(call, stream,
                                        {part / stream.plan.chunks, chunk, i > first && chunk > 0},
                                        call.scratch + worker * call.scratch_size()));
            }
        }
    });
    constexpr Index kRowsPerThread = 16;
    parallel_for(shape.n, threads, kRowsPerThread, [&](Index begin, Index end) {
        for (Index i = begin; i < end; ++i) {
            AIMCLR_AT_LEVEL(used, contrast_finish(call, i));
        }
    });
    T* loss = call.given.losses;
    for (Index s = 0; s < shape.streams; ++s) {
        for (Index set = 0; set < shape.sets; ++set) {
            double sum = 0.0;
            for (Index i = 0; i < shape.n; ++i) {
                sum += call.stream[s].row_losses[set * shape.n + i];
            }
            *loss++ = static_cast<T>(sum / static_cast<double>(shape.n));
        }
    }
}

bool within(Index value, Index low, Index high) {
    return value >= low && value <= high;
}

Status check_shape(const QueueContrastShape& shape, int threads) {
    const Index most = Index{1} << 40;
    if (!within(shape.streams, 1, kMaxStreams) || !within(shape.sets, 1, kMaxSets) ||
        !within(shape.key_sets, 1, most)) {
        return invalid_argument("queue_contrast: too few or too many streams, sets or key sets");
    }
    if (!within(shape.n, 1, most) || !within(shape.d, 0, most) ||
        !within(threads, 1, kMostThreads)) {
        return invalid_argument("queue_contrast: n and threads must be positive, d not negative");
    }
    const Index rows = shape.sets * shape.n + kRowPadding;
    bool fits = countable(shape.streams, rows, shape.d + kDimPadding) &&
                countable(shape.streams, shape.key_sets, shape.n, shape.d);
    for (Index s = 0; s < kMaxStreams; ++s) {
        if (!within(shape.k[s], 0, most)) {
            return invalid_argument("queue_contrast: k must not be negative or too large");
        }
        if (s < shape.streams && !within(shape.topk, 0, shape.k[s])) {
            return invalid_argument("queue_contrast: topk must lie in 0..k");
        }
        fits = fits && countable(shape.k[s], shape.d);
    }
    if (!fits || !countable(rows, shape.streams * kMaxSets, shape.topk)) {
        return invalid_argument("queue_contrast: the sizes are too large");
    }
    return {};
}

template <typename T>
Status check_terms(const QueueContrast<T>& call) {
    const QueueContrastShape& shape = call.shape;
    bool mine = false;
    for (Index set = 0; set < shape.sets; ++set) {
        if (!within(call.teacher[set], -1, shape.sets - 1) ||
            !within(call.negative[set], -1, shape.sets - 1) ||
            !within(call.own_key[set], 0, shape.key_sets - 1)) {
            return invalid_argument("queue_contrast: teacher, negative or own_key is no set");
        }
        mine = mine || call.mines[set];
    }
    if (!within(call.votes, 0, shape.streams) || (call.votes > 0 && !mine)) {
        return invalid_argument("queue_contrast: votes must lie in 0..streams, and sets must mine");
    }
    for (Index s = 0; call.votes > 0 && s < shape.streams; ++s) {
        if (shape.k[s] != shape.k[0]) {
            return invalid_argument("queue_contrast: votes need queues of one size");
        }
    }
    return {};
}

template <typename T>
Status check_pointers(const QueueContrast<T>& call) {
    const QueueContrastShape& shape = call.shape;
    const void* const rows[] = {call.rows, call.keys, call.gradients};
    bool null = (shape.d > 0 && has_null(rows)) || call.losses == nullptr ||
                call.counts == nullptr || (shape.topk > 0 && call.neighbors == nullptr);
    for (Index s = 0; s < shape.streams; ++s) {
        null = null || (shape.k[s] > 0 && shape.d > 0 && call.queues[s] == nullptr);
    }
    if (null) {
        return invalid_argument("queue_contrast: null pointer");
    }
    if (call.workspace == nullptr || reinterpret_cast<std::uintptr_t>(call.workspace) % 64 != 0) {
        return invalid_argument("queue_contrast: the workspace must be aligned to 64 bytes");
    }
    return {};
}

template <typename T>
Index count_bytes(const QueueContrastShape& shape, int threads) {
    QueueContrast<T> call{};
    call.shape = shape;
    return Call<T>(call, threads).bytes;
}

}  // namespace
}  // namespace contrast

template <typename T>
Status queue_contrast(const QueueContrast<T>& call, int threads) {
    AIMCLR_RETURN_IF_ERROR(contrast::check_shape(call.shape, threads));
    AIMCLR_RETURN_IF_ERROR(contrast::check_terms(call));
    if (!(call.temperature > 0.0)) {
        return invalid_argument("queue_contrast: temperature must be positive");
    }
    AIMCLR_RETURN_IF_ERROR(contrast::check_pointers(call));
    contrast::run(contrast::Call<T>(call, threads), threads);
    return {};
}

template Status queue_contrast(const QueueContrast<float>&, int);
template Status queue_contrast(const QueueContrast<double>&, int);

Status queue_contrast_workspace(const QueueContrastShape& shape, int threads,
                                std::int64_t element_bytes, std::int64_t& bytes) {
    AIMCLR_RETURN_IF_ERROR(contrast::check_shape(shape, threads));
    bytes = element_bytes == sizeof(double) ? contrast::count_bytes<double>(shape, threads)
                                            : contrast::count_bytes<float>(shape, threads);
    return {};
}

}  // namespace aimclr::cpu
