#ifdef AIMCLR_WITH_CUDA

#include "cuda/device.h"

#include "bindings/binding.h"

AIMCLR_BINDINGS(device, module) {
    aimclr::bindings::define_call<&aimclr::cuda::probe_device>(module, "probe_device");
}

#endif
