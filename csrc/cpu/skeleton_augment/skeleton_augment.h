#pragma once

#include "common/skeleton_augment_call.h"
#include "common/status.h"

namespace aimclr::cpu {

// Writes the views, on up to `threads` threads.
Status skeleton_augment(const augment::DrawnCall& call, int threads);

Status skeleton_augment_draws(const augment::DrawsCall& call);

}  // namespace aimclr::cpu
