#pragma once

#include <cstdint>

#include "common/status.h"

namespace aimclr::cpu {

// Losses, gradients and neighbors of aimclr_fast/reference/queue_contrast.py in one pass over the
// queue. All arrays are contiguous.
//
//   query, extreme, dropped, key [n, d] and queue [k, d]: in
//   workspace: queue_contrast_workspace() bytes, aligned to 64
//   losses [3]: means over rows of InfoNCE and of D3M of the extreme and of the dropped view
//   gradients [3, n, d]: of each loss, by query, extreme and dropped
//   neighbors [n, 3, topk]: by descending similarity, ties by the lower index
//
// The results do not depend on `threads`.
Status queue_contrast_f32(const float* query, const float* extreme, const float* dropped,
                          const float* key, const float* queue, std::int64_t n, std::int64_t k,
                          std::int64_t d, double temperature, std::int64_t topk, void* workspace,
                          float* losses, float* gradients, std::int64_t* neighbors, int threads);
Status queue_contrast_f64(const double* query, const double* extreme, const double* dropped,
                          const double* key, const double* queue, std::int64_t n, std::int64_t k,
                          std::int64_t d, double temperature, std::int64_t topk, void* workspace,
                          double* losses, double* gradients, std::int64_t* neighbors, int threads);

// Bytes of workspace for elements of `element_bytes` (4 or 8).
Status queue_contrast_workspace(std::int64_t n, std::int64_t k, std::int64_t d, std::int64_t topk,
                                int threads, std::int64_t element_bytes, std::int64_t& bytes);

}  // namespace aimclr::cpu
