// The blocks of the CUDA kernels run on the CPU, thread by thread and phase by phase: what a
// machine without a GPU can test of them.
#pragma once

#include "common/skeleton_augment_call.h"
#include "common/status.h"

namespace aimclr::cpu {

// As cuda::skeleton_augment and cuda::apply_augment, with blocks of `threads` threads. With
// `shared`, buffers are laid out as in shared memory, else as in the workspace.
Status skeleton_augment_emulated(const augment::DrawnCall& call, bool shared, int threads);
Status apply_augment_emulated(const augment::GivenCall& call, bool shared, int threads);

}  // namespace aimclr::cpu
