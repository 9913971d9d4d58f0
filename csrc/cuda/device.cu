#include "cuda/device.h"
#include "cuda/launch.h"

namespace aimclr::cuda {
namespace {

// Never launched: its attributes can be read only where the binary has code for the device.
__global__ void probe_kernel() {}

}  // namespace

Status probe_device() {
    int count = 0;
    AIMCLR_RETURN_IF_ERROR(from_cuda(cudaGetDeviceCount(&count)));
    cudaFuncAttributes attributes;
    return from_cuda(cudaFuncGetAttributes(&attributes, probe_kernel));
}

}  // namespace aimclr::cuda
