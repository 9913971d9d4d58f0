#include "cuda/apply_augment/apply_augment.h"
#include "cuda/skeleton_augment/skeleton_augment_placement.h"

namespace aimclr::cuda {
namespace {

using augment::BlockState;
using augment::GivenCall;
using augment::Launch;

template <typename T, bool kShared, bool kBackward>
__global__ void __launch_bounds__(kMaxThreads<RealOf<T>, kShared>, 1)
    apply_augment_kernel(const GivenCall call, const Launch launch, const Buffers buffers) {
    using Real = RealOf<T>;
    __shared__ BlockState<Real> state;
    for (std::int64_t sample = blockIdx.x; sample < call.samples; sample += gridDim.x) {
        augment::Prefetched prefetched;
        augment::run<kBackward>(
            augment::GivenView<T, kShared>{
                call, state, buffers.block<Real, kShared>(launch, state.weights), sample},
            BlockPhases{prefetched});
    }
}

template <typename T>
auto* kernel_for(bool in_shared, bool backward) {
    if (in_shared) {
        return backward ? apply_augment_kernel<T, true, true>
                        : apply_augment_kernel<T, true, false>;
    }
    return backward ? apply_augment_kernel<T, false, true> : apply_augment_kernel<T, false, false>;
}

}  // namespace

Status apply_augment_workspace(const augment::Chain& chain, std::int64_t n, int type,
                               std::int64_t& bytes) {
    Placement placement{};
    AIMCLR_RETURN_IF_ERROR(static_cast<DataType>(type) == DataType::kFloat64
                               ? place_buffers<double>(chain, n, false, placement)
                               : place_buffers<float>(chain, n, false, placement));
    bytes = placement.workspace_bytes();
    return {};
}

Status apply_augment(const GivenCall& call, void* workspace, std::int64_t workspace_bytes,
                     void* stream) {
    AIMCLR_RETURN_IF_ERROR(augment::check(call));
    if (call.samples == 0 || call.chain.shape.elements() == 0) {
        return {};
    }
    const Workspace memory{workspace, workspace_bytes};
    return for_type<float, double, Half, BFloat16>(call.type, [&](auto tag) {
        using T = typename decltype(tag)::Type;
        Placement placement{};
        AIMCLR_RETURN_IF_ERROR(
            place_buffers<RealOf<T>>(call.chain, call.samples, false, placement));
        auto* const kernel = kernel_for<T>(placement.in_shared(), call.backward);
        return launch_blocks(kernel, placement, augment::launch_of(call), call, memory, stream);
    });
}

}  // namespace aimclr::cuda
