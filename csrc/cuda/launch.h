// Shared by the CUDA sources only; bindings include each op's own header, which needs no toolkit.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <type_traits>
#include <utility>

#include "common/status.h"

namespace aimclr::cuda {

// An error that was reported is cleared, or the next call that looks for one would report it again.
// One that broke the context stays: no call clears those, and torch's runtime sees them, too.
inline Status from_cuda(cudaError_t error) {
    if (error == cudaSuccess) {
        return {};
    }
    static_cast<void>(cudaGetLastError());
    return device_error(cudaGetErrorString(error));
}

inline cudaStream_t as_stream(void* stream) {
    return static_cast<cudaStream_t>(stream);
}

inline std::int64_t ceil_div(std::int64_t a, std::int64_t b) {
    return (a + b - 1) / b;
}

// Blocks of a launch; no device has larger grids.
constexpr std::int64_t kMaxBlocks = 2147483647;

struct Grid {
    std::int64_t blocks;
    int threads;
    std::size_t shared_bytes = 0;
    std::int64_t rows = 1;  // of so many blocks; at most 65,535
};

// Lets `kernel` have that much dynamic shared memory on the current device. The limit is only
// raised: lowered to what this launch needs, it could be too low for a launch of another thread.
inline Status allow_shared_memory(const void* kernel, std::size_t bytes) {
    static std::mutex mutex;
    static std::map<std::pair<int, const void*>, std::size_t> allowed;
    int device = 0;
    AIMCLR_RETURN_IF_ERROR(from_cuda(cudaGetDevice(&device)));
    const std::lock_guard<std::mutex> lock(mutex);
    std::size_t& most = allowed[{device, kernel}];
    if (bytes > most) {
        AIMCLR_RETURN_IF_ERROR(from_cuda(cudaFuncSetAttribute(
            kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes))));
        most = bytes;
    }
    return {};
}

// Launches without waiting. The status is that of this launch, or an error of earlier work that
// broke the context; errors inside the kernel surface at torch's next synchronization, as for
// torch's own kernels.
template <typename... Parameters>
Status launch(void (*kernel)(Parameters...), Grid grid, void* stream,
              const std::common_type_t<Parameters>&... arguments) {
    const void* const function = reinterpret_cast<const void*>(kernel);
    if (grid.shared_bytes > 0) {
        AIMCLR_RETURN_IF_ERROR(allow_shared_memory(function, grid.shared_bytes));
    }
    void* addresses[] = {const_cast<void*>(static_cast<const void*>(&arguments))...};
    const dim3 blocks(static_cast<unsigned>(grid.blocks), static_cast<unsigned>(grid.rows));
    return from_cuda(cudaLaunchKernel(function, blocks, dim3(static_cast<unsigned>(grid.threads)),
                                      addresses, grid.shared_bytes, as_stream(stream)));
}

}  // namespace aimclr::cuda
