// The blocks of the CUDA kernels run on the CPU, thread by thread and phase by phase: what a
// machine without a GPU can test of them.
#pragma once

#include <cstdint>

#include "common/skeleton_augment.h"
#include "common/status.h"

namespace aimclr::cpu {

// As cuda::skeleton_augment and the like, with blocks of `threads` threads. With `shared`, buffers
// are laid out as in shared memory, else as in the workspace.
Status skeleton_augment_emulated(const void* data, int data_type, float data_scale,
                                 std::int64_t sequences, const void* index, int index_bytes,
                                 std::int64_t n, const augment::Outputs& outputs, int out_type,
                                 const augment::Chain& chain, const augment::Settings& settings,
                                 std::uint32_t key0, std::uint32_t key1, std::uint32_t step,
                                 std::uint32_t offset, bool shared, int threads);

Status apply_augment_emulated(const void* x, const void* noise, void* out, int type, std::int64_t n,
                              const augment::GivenArrays& params, const augment::Chain& chain,
                              int stream, bool shared, int threads);

Status apply_augment_backward_emulated(const void* grad, void* grad_x, void* grad_noise, int type,
                                       std::int64_t n, const augment::GivenArrays& params,
                                       const augment::Chain& chain, int stream, bool shared,
                                       int threads);

}  // namespace aimclr::cpu
