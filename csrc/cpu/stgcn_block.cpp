#include "cpu/stgcn_block.h"

#include "cpu/stgcn_block_plan.h"

namespace aimclr::cpu {
namespace stgcn {

Status check_shape(const StgcnShape& shape, const void* workspace, int threads) {
    if (shape.batch < 1 || shape.in < 1 || shape.out < 1 || shape.frames < 1 || shape.joints < 1 ||
        shape.parts < 1 || threads < 1) {
        return invalid_argument("stgcn_block: every size and threads must be positive");
    }
    if (shape.taps < 1 || shape.taps % 2 == 0 || shape.stride < 1) {
        return invalid_argument("stgcn_block: taps must be odd and the stride positive");
    }
    if (workspace == nullptr || reinterpret_cast<std::uintptr_t>(workspace) % 64 != 0) {
        return invalid_argument("stgcn_block: the workspace must be aligned to 64 bytes");
    }
    return {};
}

}  // namespace stgcn

std::int64_t stgcn_block_workspace(bool backward, std::int64_t batch, std::int64_t in,
                                   std::int64_t out, std::int64_t frames, std::int64_t joints,
                                   std::int64_t parts, std::int64_t taps, std::int64_t stride,
                                   bool residual, int threads, std::int64_t element_bytes) {
    const stgcn::Plan plan({batch, in, out, frames, joints, parts, taps, stride}, residual);
    if (element_bytes == sizeof(double)) {
        return backward ? stgcn::backward_bytes<double>(plan, threads)
                        : stgcn::forward_bytes<double>(plan, threads);
    }
    return backward ? stgcn::backward_bytes<float>(plan, threads)
                    : stgcn::forward_bytes<float>(plan, threads);
}

}  // namespace aimclr::cpu
