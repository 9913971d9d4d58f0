#pragma once

#include <cstdint>

#include "common/skeleton_augment_call.h"
#include "common/status.h"

namespace aimclr::cuda {

// Bytes of workspace that skeleton_augment needs for n samples on the current device: 0 where a
// sequence fits shared memory twice, as floats.
Status skeleton_augment_workspace(const augment::Chain& chain, std::int64_t n, std::int64_t& bytes);

// Writes the views, on `stream`; all pointers are the device's. With `data_on_host` the data lie in
// pinned host memory and are read there.
Status skeleton_augment(const augment::DrawnCall& call, bool data_on_host, void* workspace,
                        std::int64_t workspace_bytes, void* stream);

}  // namespace aimclr::cuda
