// Shared by the CUDA sources only; bindings include each op's own header, which needs no toolkit.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "common/status.h"

namespace aimclr::cuda {

inline Status from_cuda(cudaError_t error) {
    return error == cudaSuccess ? Status{} : device_error(cudaGetErrorString(error));
}

// After a launch: catches a bad configuration without waiting for the kernel. Errors inside the
// kernel surface at torch's next synchronisation, as for torch's own kernels.
inline Status launch_status() {
    return from_cuda(cudaGetLastError());
}

inline cudaStream_t as_stream(void* stream) {
    return static_cast<cudaStream_t>(stream);
}

inline std::int64_t ceil_div(std::int64_t a, std::int64_t b) {
    return (a + b - 1) / b;
}

}  // namespace aimclr::cuda
