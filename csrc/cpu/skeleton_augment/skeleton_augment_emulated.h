// The blocks of the CUDA kernels run on the CPU, thread by thread and phase by phase: what a
// machine without a GPU can test of them.
#pragma once

#include <cstdint>

#include "common/skeleton_augment_call.h"
#include "common/status.h"

namespace aimclr::cpu {

// As cuda::skeleton_augment and cuda::apply_augment, with blocks of `threads` threads, `parts` of
// them for a sample. With `shared`, buffers are laid out as in shared memory, else as in the
// workspace.
Status skeleton_augment_emulated(const augment::DrawnCall& call, bool shared, int threads,
                                 int parts);
Status apply_augment_emulated(const augment::GivenCall& call, bool shared, int threads);

// How many blocks cuda::skeleton_augment has for each of n samples, where `room` run at a time.
Status skeleton_augment_parts(const augment::Chain& chain, std::int64_t n, std::int64_t room,
                              std::int64_t& parts);

}  // namespace aimclr::cpu
