#include "cpu/queue_contrast/queue_contrast_kernels.h"

#include <algorithm>
#include <limits>

#include "cpu/queue_contrast/queue_contrast_finish.h"
#include "cpu/queue_contrast/queue_contrast_tile.h"

namespace aimclr::cpu {
namespace contrast {
namespace {

template <typename Tl, typename T>
AIMCLR_INLINE void pack_rows(const Stream<T>& stream) {
    const Plan& plan = stream.plan;
    std::fill_n(stream.packed_rows, plan.padded_rows * plan.padded_d, T{0});
    for (Index row = 0; row < plan.rows; ++row) {
        const T* const from = stream.rows + row * plan.d;
        T* const to =
            stream.packed_rows + row / Tl::kPanel * Tl::kPanel * plan.padded_d + row % Tl::kPanel;
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

// What a score must beat to enter a row's list: infinity, if the row's set does not mine. After the
// chunk before, a score below that one's last neighbor need not be kept.
template <typename T>
AIMCLR_INLINE T bar_of(const Call<T>& call, const Plan& plan, Index row, const T* before) {
    constexpr T kMost = std::numeric_limits<T>::infinity();
    if (row < plan.rows && !call.given.mines[row / plan.n]) {
        return kMost;
    }
    return before != nullptr ? before[plan.topk - 1] : -kMost;
}

// One block of rows against one chunk of the queue.
template <typename Tl, typename T>
AIMCLR_INLINE void scan_chunk(const Call<T>& call, const Stream<T>& work, Part of, T* scratch) {
    const Plan& plan = work.plan;
    const Index topk = plan.topk, padded_d = plan.padded_d;
    const Index begin = of.block * kBlockRows;
    const Index end = std::min(begin + kBlockRows, plan.padded_rows);
    const Index part = of.chunk * plan.padded_rows;
    const T scale = static_cast<T>(1.4426950408889634 / call.given.temperature);
    constexpr T kNone = -std::numeric_limits<T>::infinity();

    std::fill(work.maxima + part + begin, work.maxima + part + end, kNone);
    std::fill(work.normalizers + part + begin, work.normalizers + part + end, T{0});
    std::fill(work.key_sums + (part + begin) * padded_d, work.key_sums + (part + end) * padded_d,
              T{0});
    for (Index row = begin; topk > 0 && row < end; ++row) {
        T* const list = work.near_scores + (part + row) * topk;
        const T* const before = of.follows ? list - plan.padded_rows * topk : nullptr;
        std::fill_n(list, topk, bar_of(call, plan, row, before));
        std::fill_n(work.near_indices + (part + row) * topk, topk, Index{-1});
    }

    T* const keys = scratch;
    T* const scores = scratch + kTileKeys * padded_d;
    for (Index tile = plan.first_tile(of.chunk); tile < plan.first_tile(of.chunk + 1); ++tile) {
        const Index first_key = tile * kTileKeys;
        const Index count = std::min(kTileKeys, plan.k - first_key);
        pack_keys<Tl>(work.queue + first_key * plan.d, count, plan, keys);
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

}  // namespace
}  // namespace contrast

namespace AIMCLR_LEVEL {

template <typename T>
using Tile = contrast::Tile<T, vector_bytes(Level::AIMCLR_LEVEL)>;

template <typename T>
void contrast_pack(const contrast::Stream<T>& stream) {
    contrast::pack_rows<Tile<T>>(stream);
}

template <typename T>
void contrast_scan(const contrast::Call<T>& call, const contrast::Stream<T>& stream,
                   contrast::Part part, T* scratch) {
    contrast::scan_chunk<Tile<T>>(call, stream, part, scratch);
}

template <typename T>
void contrast_finish(const contrast::Call<T>& call, contrast::Index i) {
    contrast::finish_row(call, i);
}

#define AIMCLR_CONTRAST(T)                                                            \
    template void contrast_pack(const contrast::Stream<T>&);                          \
    template void contrast_scan(const contrast::Call<T>&, const contrast::Stream<T>&, \
                                contrast::Part, T*);                                  \
    template void contrast_finish(const contrast::Call<T>&, contrast::Index);
AIMCLR_CONTRAST(float)
AIMCLR_CONTRAST(double)
#undef AIMCLR_CONTRAST

}  // namespace AIMCLR_LEVEL
}  // namespace aimclr::cpu
