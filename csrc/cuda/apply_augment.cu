#include "cuda/apply_augment.h"
#include "cuda/skeleton_augment_placement.h"

namespace aimclr::cuda {
namespace {

using augment::BlockState;
using augment::GivenCall;
using augment::Launch;

template <typename Real, typename T, bool kShared>
__global__ void __launch_bounds__(kMaxThreads<Real, kShared>)
    apply_augment_kernel(const GivenCall call, const Launch launch, const Buffers buffers) {
    __shared__ BlockState<Real> state;
    for (std::int64_t sample = blockIdx.x; sample < call.samples; sample += gridDim.x) {
        augment::Prefetched prefetched;
        augment::run_views(
            augment::GivenView<Real, T, kShared>{
                call, state, buffers.block<Real, kShared>(launch, state.weights), sample},
            BlockPhases{prefetched});
    }
}

template <typename Real, typename T, bool kShared>
__global__ void __launch_bounds__(kMaxThreads<Real, kShared>)
    apply_augment_backward_kernel(const GivenCall call, const Launch launch,
                                  const Buffers buffers) {
    __shared__ BlockState<Real> state;
    for (std::int64_t sample = blockIdx.x; sample < call.samples; sample += gridDim.x) {
        augment::Prefetched prefetched;
        augment::run_gradient(
            augment::GivenGradient<Real, T, kShared>{
                call, state, buffers.block<Real, kShared>(launch, state.weights), sample},
            BlockPhases{prefetched});
    }
}

template <typename Real, typename T>
Status launch_as(bool backward, const GivenCall& call, Workspace workspace, void* stream) {
    Placement placement{};
    AIMCLR_RETURN_IF_ERROR(place_buffers<Real>(call.chain, call.samples, placement));
    const auto start = [&](auto* kernel) {
        return launch_blocks(kernel, placement, call, augment::launch_of(call), workspace, stream);
    };
    if (placement.in_shared()) {
        return backward ? start(apply_augment_backward_kernel<Real, T, true>)
                        : start(apply_augment_kernel<Real, T, true>);
    }
    return backward ? start(apply_augment_backward_kernel<Real, T, false>)
                    : start(apply_augment_kernel<Real, T, false>);
}

Status launch(bool backward, const GivenCall& call, Workspace workspace, void* stream) {
    AIMCLR_RETURN_IF_ERROR(augment::check(call.chain));
    if (call.samples == 0 || call.chain.shape.elements() == 0) {
        return {};
    }
    switch (call.type) {
        case DataType::kFloat32:
            return launch_as<float, float>(backward, call, workspace, stream);
        case DataType::kFloat64:
            return launch_as<double, double>(backward, call, workspace, stream);
        case DataType::kFloat16:
            return launch_as<float, Half>(backward, call, workspace, stream);
        case DataType::kBFloat16:
            return launch_as<float, BFloat16>(backward, call, workspace, stream);
        default:
            return invalid_argument("apply_augment: unknown dtype");
    }
}

}  // namespace

Status apply_augment_workspace(const augment::Chain& chain, std::int64_t n, bool wide,
                               std::int64_t& bytes) {
    Placement placement{};
    AIMCLR_RETURN_IF_ERROR(wide ? place_buffers<double>(chain, n, placement)
                                : place_buffers<float>(chain, n, placement));
    bytes = placement.workspace_bytes();
    return {};
}

Status apply_augment(const void* x, const void* noise, void* out, int type, std::int64_t n,
                     const augment::GivenArrays& params, const augment::Chain& chain,
                     int stream_kind, void* workspace, std::int64_t workspace_bytes, void* stream) {
    return launch(false,
                  {x, noise, out, nullptr, static_cast<DataType>(type),
                   static_cast<augment::Stream>(stream_kind), n, params, chain},
                  {workspace, workspace_bytes}, stream);
}

Status apply_augment_backward(const void* grad, void* grad_x, void* grad_noise, int type,
                              std::int64_t n, const augment::GivenArrays& params,
                              const augment::Chain& chain, int stream_kind, void* workspace,
                              std::int64_t workspace_bytes, void* stream) {
    return launch(true,
                  {grad, nullptr, grad_x, grad_noise, static_cast<DataType>(type),
                   static_cast<augment::Stream>(stream_kind), n, params, chain},
                  {workspace, workspace_bytes}, stream);
}

}  // namespace aimclr::cuda
