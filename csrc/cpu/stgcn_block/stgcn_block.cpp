#include "cpu/stgcn_block/stgcn_block.h"

#include <algorithm>

#include "cpu/stgcn_block/stgcn_bf16_kernels.h"
#include "cpu/stgcn_block/stgcn_bf16_plan.h"
#include "cpu/stgcn_block/stgcn_block_plan.h"
#include "cpu/stgcn_block/stgcn_kernels.h"

namespace aimclr::cpu {
namespace stgcn {

Status check_sizes(const StgcnShape& shape, int threads) {
    if (shape.batch < 1 || shape.in < 1 || shape.out < 1 || shape.frames < 1 || shape.joints < 1 ||
        shape.parts < 1 || threads < 1 || threads > kMostThreads) {
        return invalid_argument("stgcn_block: every size and threads must be positive");
    }
    if (shape.taps < 1 || shape.taps % 2 == 0 || shape.stride < 1 || shape.stride > 2) {
        return invalid_argument("stgcn_block: taps must be odd and the stride 1 or 2");
    }
    const std::int64_t most = std::int64_t{1} << 40;
    if (shape.in > most || shape.out > most || shape.frames > most || shape.taps > most ||
        !countable(shape.batch, shape.in + shape.out, shape.frames + shape.taps, shape.joints) ||
        !countable(shape.out, shape.out, shape.frames + shape.taps) ||
        !countable(shape.parts, shape.in, shape.out + shape.joints) ||
        !countable(shape.parts, shape.joints, shape.joints)) {
        return invalid_argument("stgcn_block: the sizes are too large");
    }
    return {};
}

Status check_shape(const StgcnShape& shape, const void* workspace, int threads) {
    AIMCLR_RETURN_IF_ERROR(check_sizes(shape, threads));
    if (workspace == nullptr || reinterpret_cast<std::uintptr_t>(workspace) % 64 != 0) {
        return invalid_argument("stgcn_block: the workspace must be aligned to 64 bytes");
    }
    return {};
}

// make(found, false) of the level `highest`, or of the highest below it whose vectors of `bytes` an
// element divide `channels`; make(highest, true) is that of single elements.
template <typename Make>
auto choose(Level highest, Index channels, Index bytes, const Make& make) {
    for (auto at = static_cast<int>(highest); at >= 0; --at) {
        const auto found = static_cast<Level>(at);
        if (channels % (vector_bytes(found) / bytes) == 0) {
            return make(found, false);
        }
    }
    return make(highest, true);
}

template <typename T>
Kernels<T> choose_kernels(Index channels) {
    return choose(level(), channels, sizeof(T), [](Level found, bool scalar) {
        return scalar ? AIMCLR_AT_LEVEL(found, stgcn_scalar_kernels<T>())
                      : AIMCLR_AT_LEVEL(found, stgcn_kernels<T>());
    });
}

template Kernels<float> choose_kernels(Index);
template Kernels<double> choose_kernels(Index);

Bf16Kernels choose_bf16_kernels(Level level, Index channels) {
    return choose(level, channels, sizeof(float), [](Level found, bool scalar) {
        return scalar ? AIMCLR_AT_BF16_LEVEL(found, stgcn_bf16_scalar_kernels())
                      : AIMCLR_AT_BF16_LEVEL(found, stgcn_bf16_kernels());
    });
}

}  // namespace stgcn

Status stgcn_block_workspace(const StgcnShape& shape, bool residual, bool backward,
                             std::int64_t element_bytes, int threads, std::int64_t& bytes) {
    AIMCLR_RETURN_IF_ERROR(stgcn::check_sizes(shape, threads));
    const stgcn::Plan plan(shape, residual);
    if (element_bytes == sizeof(BFloat16)) {
        bytes = 0;
        for (const Level level : {Level::v4_bf16, Level::amx}) {  // whichever will be in use
            const stgcn::Bf16Plan of(shape, residual, level);
            bytes = std::max(bytes, backward ? stgcn::bf16_backward_bytes(of, threads)
                                             : stgcn::bf16_forward_bytes(of, threads));
        }
    } else if (element_bytes == sizeof(double)) {
        bytes = backward ? stgcn::backward_bytes<double>(plan, threads)
                         : stgcn::forward_bytes<double>(plan, threads);
    } else {
        bytes = backward ? stgcn::backward_bytes<float>(plan, threads)
                         : stgcn::forward_bytes<float>(plan, threads);
    }
    return {};
}

}  // namespace aimclr::cpu
