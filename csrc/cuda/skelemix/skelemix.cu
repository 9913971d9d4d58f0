#include "common/skelemix_block.h"
#include "cuda/launch.h"
#include "cuda/skelemix/skelemix.h"

namespace aimclr::cuda {
namespace {

constexpr int kThreads = 256;

// One block for each mix of each sample.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    skelemix_kernel(const mix::Call call, const mix::Launch launch) {
    mix::MixedSample<T>{call, launch, blockIdx.x, kThreads}.write(static_cast<int>(threadIdx.x));
}

}  // namespace

Status skelemix(const mix::Call& call, void* stream) {
    AIMCLR_RETURN_IF_ERROR(mix::check(call));
    if (call.samples == 0) {
        return {};
    }
    const std::int64_t pairs = call.settings.count * call.samples;
    if (pairs > kMaxBlocks) {
        return invalid_argument("skelemix: more mixes than a grid has blocks");
    }
    return for_type<float, double, Half, BFloat16>(call.type, [&](auto tag) {
        using T = typename decltype(tag)::Type;
        return launch(skelemix_kernel<T>, {pairs, kThreads}, stream, call, mix::Launch::of(call));
    });
}

}  // namespace aimclr::cuda
