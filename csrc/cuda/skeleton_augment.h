#pragma once

#include <cstdint>

#include "common/skeleton_augment.h"
#include "common/status.h"

namespace aimclr::cuda {

// Bytes of workspace that skeleton_augment needs for n samples on the current device: 0 where a
// sequence fits shared memory twice, as floats.
Status skeleton_augment_workspace(const augment::Chain& chain, std::int64_t n, std::int64_t& bytes);

// As in cpu/skeleton_augment.h, over device pointers, on `stream`. With `data_on_host` the
// data lie in pinned host memory and are read there.
Status skeleton_augment(const void* data, int data_type, float data_scale, std::int64_t sequences,
                        const void* index, int index_bytes, std::int64_t n,
                        const augment::Outputs& outputs, int out_type, const augment::Chain& chain,
                        const augment::Settings& settings, std::uint32_t key0, std::uint32_t key1,
                        std::uint32_t step, std::uint32_t offset, bool data_on_host,
                        void* workspace, std::int64_t workspace_bytes, void* stream);

}  // namespace aimclr::cuda
