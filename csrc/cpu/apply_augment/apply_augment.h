#pragma once

#include "common/skeleton_augment_call.h"
#include "common/status.h"

namespace aimclr::cpu {

// Augments, or takes gradients, on up to `threads` threads.
Status apply_augment(const augment::GivenCall& call, int threads);

}  // namespace aimclr::cpu
