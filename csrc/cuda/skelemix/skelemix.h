#pragma once

#include "common/skelemix.h"
#include "common/status.h"

namespace aimclr::cuda {

// Makes the mixes, on `stream`; all pointers are the device's.
Status skelemix(const mix::Call& call, void* stream);

}  // namespace aimclr::cuda
