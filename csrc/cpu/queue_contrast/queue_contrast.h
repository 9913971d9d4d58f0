#pragma once

#include <cstdint>

#include "common/fields.h"
#include "common/status.h"

namespace aimclr::cpu {

inline constexpr std::int64_t kMaxStreams = 8;
inline constexpr std::int64_t kMaxSets = 16;

struct QueueContrastShape {
    std::int64_t streams;
    std::int64_t sets;      // of rows, in each stream
    std::int64_t key_sets;  // of keys, in each stream
    std::int64_t n, d;
    std::int64_t k[kMaxStreams];  // keys in the queue of each stream
    std::int64_t topk;
    AIMCLR_FIELDS(streams, sets, key_sets, n, d, k, topk)
};

// Losses, gradients and neighbors of aimclr_fast/reference/queue_contrast.py in one pass over the
// queues. All arrays are contiguous; T is float or double.
template <typename T>
struct QueueContrast {
    QueueContrastShape shape;
    const T* rows;                 // [streams, sets, n, d]
    const T* keys;                 // [streams, key_sets, n, d]
    const T* queues[kMaxStreams];  // [k, d]
    // What each set learns: aimclr_fast/ops/queue_contrast.py, Call.
    std::int64_t teacher[kMaxSets];
    std::int64_t negative[kMaxSets];
    bool mines[kMaxSets];
    bool positives[kMaxSets];
    std::int64_t own_key[kMaxSets];
    double temperature;
    std::int64_t votes;
    void* workspace;          // queue_contrast_workspace() bytes, aligned to 64
    T* losses;                // [streams, sets], means over rows
    T* gradients;             // [streams, sets, n, d], of each loss, by its rows
    std::int64_t* neighbors;  // [streams, n, sets that mine, topk]: by descending similarity, ties
                              // by the lower index
    std::int64_t* counts;     // [streams, n], of positives
    AIMCLR_FIELDS(shape, rows, keys, queues, teacher, negative, mines, positives, own_key,
                  temperature, votes, workspace, losses, gradients, neighbors, counts)
};

// The results do not depend on `threads`.
template <typename T>
Status queue_contrast(const QueueContrast<T>& call, int threads);

// Bytes of workspace for elements of `element_bytes` (4 or 8).
Status queue_contrast_workspace(const QueueContrastShape& shape, int threads,
                                std::int64_t element_bytes, std::int64_t& bytes);

}  // namespace aimclr::cpu
