#pragma once

#include "common/skelemix.h"
#include "common/status.h"

namespace aimclr::cpu {

// Makes the mixes, on up to `threads` threads.
Status skelemix(const mix::Call& call, int threads);

// The blocks of cuda::skelemix, each of `threads` threads, run on the CPU one after the other.
Status skelemix_emulated(const mix::Call& call, int threads);

}  // namespace aimclr::cpu
