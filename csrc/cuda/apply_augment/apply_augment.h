#pragma once

#include <cstdint>

#include "common/skeleton_augment_call.h"
#include "common/status.h"

namespace aimclr::cuda {

// Bytes of workspace that apply_augment needs for n samples of `type` on the current device: 0
// where a sequence fits shared memory twice, in the type of the arithmetic.
Status apply_augment_workspace(const augment::Chain& chain, std::int64_t n, int type,
                               std::int64_t& bytes);

// Augments, or takes gradients, on `stream`; all pointers are the device's.
Status apply_augment(const augment::GivenCall& call, void* workspace, std::int64_t workspace_bytes,
                     void* stream);

}  // namespace aimclr::cuda
