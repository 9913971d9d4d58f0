#pragma once

#include "common/status.h"

namespace aimclr::cuda {

// Ok if the current device can run this library: the driver is new enough for the runtime linked
// in, a device is there, and the binary holds code for it.
Status probe_device();

}  // namespace aimclr::cuda
