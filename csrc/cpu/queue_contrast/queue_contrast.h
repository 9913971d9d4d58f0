#pragma once

#include <cstdint>

#include "common/fields.h"
#include "common/status.h"

namespace aimclr::cpu {

// Losses, gradients and neighbors of aimclr_fast/reference/queue_contrast.py in one pass over the
// queue. All arrays are contiguous; T is float or double.
template <typename T>
struct QueueContrast {
    const T* query;  // [n, d], like the next three
    const T* extreme;
    const T* dropped;
    const T* key;
    const T* queue;  // [k, d]
    std::int64_t n, k, d;
    double temperature;
    std::int64_t topk;
    void* workspace;          // queue_contrast_workspace() bytes, aligned to 64
    T* losses;                // [3], means over rows: InfoNCE, D3M of the extreme and the dropped
    T* gradients;             // [3, n, d], of each loss, by query, extreme and dropped
    std::int64_t* neighbors;  // [n, 3, topk]: by descending similarity, ties by the lower index
    AIMCLR_FIELDS(query, extreme, dropped, key, queue, n, k, d, temperature, topk, workspace,
                  losses, gradients, neighbors)
};

// The results do not depend on `threads`.
template <typename T>
Status queue_contrast(const QueueContrast<T>& call, int threads);

// Bytes of workspace for elements of `element_bytes` (4 or 8).
Status queue_contrast_workspace(std::int64_t n, std::int64_t k, std::int64_t d, std::int64_t topk,
                                int threads, std::int64_t element_bytes, std::int64_t& bytes);

}  // namespace aimclr::cpu
