// Where the blocks of the augmentation kernels keep a sequence, how many there are, and how they
// are launched.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "common/skeleton_augment_phases.h"
#include "cuda/launch.h"

namespace aimclr::cuda {

// Doubles, and buffers in global memory, whose addresses are longer, take more registers.
template <typename Real, bool kShared>
constexpr int kMaxThreads = kShared && sizeof(Real) == 4 ? 640 : 512;

// Memory that Python allocated.
struct Workspace {
    void* memory;
    std::int64_t bytes;
};

struct Placement {
    // The two buffers of a block: in shared memory, or else in the workspace.
    std::int64_t shared_bytes, buffer_bytes;
    std::int64_t blocks, parts;  // `parts` rows of `blocks` blocks
    int threads;

    bool in_shared() const {
        return buffer_bytes == 0;
    }
    std::int64_t workspace_bytes() const {
        return 2 * buffer_bytes * blocks * parts;
    }
};

// With `split`, several blocks share each of a few samples.
template <typename Real>
Status place_buffers(const augment::Chain& chain, std::int64_t samples, bool split,
                     Placement& placement) {
    int device = 0, limit = 0, processors = 0;
    AIMCLR_RETURN_IF_ERROR(from_cuda(cudaGetDevice(&device)));
    AIMCLR_RETURN_IF_ERROR(
        from_cuda(cudaDeviceGetAttribute(&limit, cudaDevAttrMaxSharedMemoryPerBlockOptin, device)));
    AIMCLR_RETURN_IF_ERROR(
        from_cuda(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device)));

    const std::int64_t elements = chain.shape.elements();
    const std::int64_t shared =
        2 * sizeof(Real) * augment::Block<Real, true>::buffer_size(elements);
    const std::int64_t state = ceil_div(sizeof(augment::BlockState<Real>), 16) * 16;
    if (state + shared > limit) {
        // Buffers start where packs may. Two blocks keep a multiprocessor busy.
        const std::int64_t bytes =
            sizeof(Real) * augment::Block<Real, false>::buffer_size(elements);
        const std::int64_t room = 2 * std::int64_t{processors};
        const std::int64_t parts = split ? augment::parts_of(chain, samples, room) : 1;
        placement = {0, ceil_div(bytes, 16) * 16, std::min(samples, room), parts,
                     kMaxThreads<Real, false>};
        return {};
    }
    const std::int64_t parts = split ? augment::parts_of(chain, samples, processors) : 1;
    // A block that has a multiprocessor for itself gets more threads. Their number divides the
    // packs of a plane evenly, so that few idle in the last round: 640 or 320 for 50 x 25 x 2.
    const std::int64_t packs = ceil_div(chain.shape.plane(), 4);
    const std::int64_t rounds =
        ceil_div(packs, samples <= processors ? kMaxThreads<Real, true> : 320);
    const std::int64_t even = ceil_div(ceil_div(packs, rounds), 32) * 32;
    placement = {shared, 0, std::min(samples, kMaxBlocks), parts,
                 static_cast<int>(std::max<std::int64_t>(even, 128))};
    return {};
}

// Where the device finds pinned host memory.
inline Status to_device_pointer(const void*& host) {
    void* device = nullptr;
    AIMCLR_RETURN_IF_ERROR(
        from_cuda(cudaHostGetDevicePointer(&device, const_cast<void*>(host), 0)));
    host = device;
    return {};
}

// What a kernel knows of its buffers.
struct Buffers {
    void* workspace;
    std::int64_t bytes;

    // The block's own two, in dynamic shared memory or in the workspace.
    template <typename Real, bool kShared>
    __device__ augment::Block<Real, kShared> block(const augment::Launch& launch,
                                                   Real* weights) const {
        using Block = augment::Block<Real, kShared>;
        const int threads = static_cast<int>(blockDim.x), part = static_cast<int>(blockIdx.y);
        if constexpr (kShared) {
            extern __shared__ double shared[];
            Real* const first = reinterpret_cast<Real*>(shared);
            const auto size = Block::buffer_size(launch.chain.shape.elements());
            return {launch, first, first + size, weights, threads, part};
        } else {
            const std::int64_t block = std::int64_t{gridDim.x} * blockIdx.y + blockIdx.x;
            char* const first = static_cast<char*>(workspace) + 2 * bytes * block;
            return {launch,
                    reinterpret_cast<Real*>(first),
                    reinterpret_cast<Real*>(first + bytes),
                    weights,
                    threads,
                    part};
        }
    }
};

// Runs one phase on all threads of this block.
struct BlockPhases {
    augment::Prefetched& prefetched;

    template <typename Body>
    AIMCLR_HD void operator()(const Body& body) const {
#if defined(__CUDA_ARCH__)
        body(static_cast<int>(threadIdx.x), prefetched);
        __syncthreads();
#else
        static_cast<void>(body);
#endif
    }
};

template <typename Call>
Status launch_blocks(void (*kernel)(Call, augment::Launch, Buffers), const Placement& placement,
                     const augment::Launch& shared, const Call& call, Workspace workspace,
                     void* stream) {
    if (workspace.bytes < placement.workspace_bytes() ||
        (workspace.memory == nullptr && placement.workspace_bytes() > 0)) {
        return invalid_argument("augment: the workspace is too small");
    }
    const Grid grid{placement.blocks, placement.threads,
                    static_cast<std::size_t>(placement.shared_bytes), placement.parts};
    return launch(kernel, grid, stream, call, shared,
                  Buffers{workspace.memory, placement.buffer_bytes});
}

}  // namespace aimclr::cuda
