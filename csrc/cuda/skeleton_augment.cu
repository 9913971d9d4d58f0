#include <cassert>

#include "cuda/skeleton_augment.h"
#include "cuda/skeleton_augment_placement.h"

namespace aimclr::cuda {
namespace {

using augment::BlockState;
using augment::DrawnCall;
using augment::Launch;

// One block per sample; with buffers in the workspace, each block goes from sample to sample.
template <typename Out, bool kShared>
__global__ void __launch_bounds__(kMaxThreads<float, kShared>)
    skeleton_augment_kernel(const DrawnCall call, const Launch launch, const Buffers buffers) {
    __shared__ BlockState<float> state;
    for (std::int64_t sample = blockIdx.x; sample < call.samples; sample += gridDim.x) {
        if (!call.in_range(sample)) {
            __assert_fail("index is in the data's range", __FILE__, __LINE__, __func__);
        }
        augment::Prefetched prefetched;
        augment::run_views(
            augment::DrawnViews<Out, kShared>{
                call, state, buffers.block<float, kShared>(launch, state.weights), sample},
            BlockPhases{prefetched});
    }
}

template <typename Out>
Status launch_to(const DrawnCall& call, Workspace workspace, void* stream) {
    Placement placement{};
    AIMCLR_RETURN_IF_ERROR(place_buffers<float>(call.chain, call.samples, placement));
    const auto start = [&](auto* kernel) {
        return launch_blocks(kernel, placement, call, augment::launch_of(call), workspace, stream);
    };
    return placement.in_shared() ? start(skeleton_augment_kernel<Out, true>)
                                 : start(skeleton_augment_kernel<Out, false>);
}

}  // namespace

Status skeleton_augment_workspace(const augment::Chain& chain, std::int64_t n,
                                  std::int64_t& bytes) {
    Placement placement{};
    AIMCLR_RETURN_IF_ERROR(place_buffers<float>(chain, n, placement));
    bytes = placement.workspace_bytes();
    return {};
}

Status skeleton_augment(const void* data, int data_type, float data_scale, std::int64_t sequences,
                        const void* index, int index_bytes, std::int64_t n,
                        const augment::Outputs& outputs, int out_type, const augment::Chain& chain,
                        const augment::Settings& settings, std::uint32_t key0, std::uint32_t key1,
                        std::uint32_t step, std::uint32_t offset, bool data_on_host,
                        void* workspace, std::int64_t workspace_bytes, void* stream) {
    AIMCLR_RETURN_IF_ERROR(augment::check(chain));
    if (n == 0 || chain.shape.elements() == 0) {
        return {};
    }
    if (data_on_host) {
        AIMCLR_RETURN_IF_ERROR(to_device_pointer(data));
    }
    const DrawnCall call{data,
                         static_cast<DataType>(data_type),
                         data_scale,
                         sequences,
                         index,
                         index_bytes,
                         n,
                         outputs,
                         chain,
                         settings,
                         {key0, key1, step, offset}};
    const Workspace memory{workspace, workspace_bytes};
    switch (static_cast<DataType>(out_type)) {
        case DataType::kFloat32:
            return launch_to<float>(call, memory, stream);
        case DataType::kFloat16:
            return launch_to<Half>(call, memory, stream);
        case DataType::kBFloat16:
            return launch_to<BFloat16>(call, memory, stream);
        default:
            return invalid_argument("skeleton_augment: unknown dtype of the views");
    }
}

}  // namespace aimclr::cuda
