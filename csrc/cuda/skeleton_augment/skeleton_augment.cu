#include <cassert>

#include "cuda/skeleton_augment/skeleton_augment.h"
#include "cuda/skeleton_augment/skeleton_augment_placement.h"

namespace aimclr::cuda {
namespace {

using augment::BlockState;
using augment::DrawnCall;
using augment::Launch;

// For a full device: 64 registers, so that three blocks of 320 threads share a multiprocessor, as
// their shared memory lets them for sequences of 3 x 50 x 25 x 2. On Turing that fits once, and 64
// registers do not suffice.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
constexpr int kSharedBound = kMaxThreads<float, true>;
#else
constexpr int kSharedBound = 1024;
#endif
template <bool kShared>
constexpr int kBound = kShared ? kSharedBound : kMaxThreads<float, false>;

// One block per sample, or a row of blocks for each part of the samples; with buffers in the
// workspace, each block goes from sample to sample.
template <typename Out, bool kShared>
__global__ void __launch_bounds__(kBound<kShared>, 1)
    skeleton_augment_kernel(const DrawnCall call, const Launch launch, const Buffers buffers) {
    __shared__ BlockState<float> state;
    for (std::int64_t sample = blockIdx.x; sample < call.samples; sample += gridDim.x) {
        if (!call.in_range(sample)) {
            __assert_fail("index is in the data's range", __FILE__, __LINE__, __func__);
        }
        augment::Prefetched prefetched;
        augment::run(
            augment::DrawnViews<Out, kShared>{
                call, state, buffers.block<float, kShared>(launch, state.weights), sample},
            BlockPhases{prefetched});
    }
}

}  // namespace

Status skeleton_augment_workspace(const augment::Chain& chain, std::int64_t n,
                                  std::int64_t& bytes) {
    Placement placement{};
    AIMCLR_RETURN_IF_ERROR(place_buffers<float>(chain, n, true, placement));
    bytes = placement.workspace_bytes();
    return {};
}

Status skeleton_augment(const DrawnCall& asked, bool data_on_host, void* workspace,
                        std::int64_t workspace_bytes, void* stream) {
    AIMCLR_RETURN_IF_ERROR(augment::check(asked));
    if (asked.samples == 0 || asked.chain.shape.elements() == 0) {
        return {};
    }
    DrawnCall call = asked;
    if (data_on_host) {
        AIMCLR_RETURN_IF_ERROR(to_device_pointer(call.data));
    }
    Placement placement{};
    AIMCLR_RETURN_IF_ERROR(place_buffers<float>(call.chain, call.samples, true, placement));
    const Workspace memory{workspace, workspace_bytes};
    return for_type<float, Half, BFloat16>(call.out_type, [&](auto tag) {
        using Out = typename decltype(tag)::Type;
        auto* const kernel = placement.in_shared() ? skeleton_augment_kernel<Out, true>
                                                   : skeleton_augment_kernel<Out, false>;
        return augment::for_launches(call, [&](const DrawnCall& launched) {
            const Launch launch = augment::launch_of(launched, placement.parts);
            return launch_blocks(kernel, placement, launch, launched, memory, stream);
        });
    });
}

}  // namespace aimclr::cuda
