#pragma once

#include <cstdint>

#include "common/skeleton_augment.h"
#include "common/status.h"

namespace aimclr::cuda {

// Bytes of workspace that apply_augment and its backward need for n samples on the current device:
// 0 where a sequence fits shared memory twice, as floats, or as doubles if `wide`.
Status apply_augment_workspace(const augment::Chain& chain, std::int64_t n, bool wide,
                               std::int64_t& bytes);

// As in cpu/apply_augment.h, over device pointers, on `stream`.
Status apply_augment(const void* x, const void* noise, void* out, int type, std::int64_t n,
                     const augment::GivenArrays& params, const augment::Chain& chain,
                     int stream_kind, void* workspace, std::int64_t workspace_bytes, void* stream);

Status apply_augment_backward(const void* grad, void* grad_x, void* grad_noise, int type,
                              std::int64_t n, const augment::GivenArrays& params,
                              const augment::Chain& chain, int stream_kind, void* workspace,
                              std::int64_t workspace_bytes, void* stream);

}  // namespace aimclr::cuda
