#include "cpu/stgcn_block/stgcn_block_backward.h"

#include <vector>

#include "cpu/pages.h"
#include "cpu/stgcn_block/stgcn_block.h"

namespace aimclr::cpu {
namespace stgcn {

template <typename T>
Index backward_bytes(const Plan& plan, int threads) {
    Arena arena(nullptr);
    Backward<T>(plan, nullptr, {}, {}, {}, arena);
    BackwardPlanes<T>(plan, threads, arena);
    for (int i = 0; i < threads; ++i) {
        BackwardScratch<T>(plan, arena);
    }
    return arena.bytes();
}

template Index backward_bytes<float>(const Plan&, int);
template Index backward_bytes<double>(const Plan&, int);

}  // namespace stgcn

template <typename T>
Status stgcn_block_backward(const T* grad_y, const StgcnBlock<T>& block, const StgcnMaps<T>& saved,
                            const StgcnGradients<T>& to, int threads) {
    using namespace stgcn;
    AIMCLR_RETURN_IF_ERROR(check_shape(block.shape, block.workspace, threads));
    const void* const pointers[] = {grad_y,
                                    block.x,
                                    block.adjacency,
                                    block.spatial_weight,
                                    block.spatial_bias,
                                    block.temporal_weight,
                                    block.norms,
                                    saved.y,
                                    saved.statistics,
                                    saved.spatial,
                                    saved.temporal,
                                    to.d_x,
                                    to.d_adjacency,
                                    to.d_spatial_weight,
                                    to.d_spatial_bias,
                                    to.d_temporal_weight,
                                    to.d_temporal_bias,
                                    to.d_norms};
    const void* const residual[] = {saved.shortcut, to.d_residual_weight, to.d_residual_bias};
    if (has_null(pointers) || (block.residual_weight != nullptr && has_null(residual))) {
        return invalid_argument("stgcn_block: null pointer");
    }
    const Plan plan(block.shape, block.residual_weight != nullptr);
    Arena arena(block.workspace);
    Backward<T> call(plan, grad_y, block, saved, to, arena);
    const BackwardPlanes<T> planes(plan, threads, arena);
    std::vector<BackwardScratch<T>> scratch;
    for (int i = 0; i < threads; ++i) {
        scratch.emplace_back(plan, arena);
    }
    advise_huge_pages(static_cast<std::uint8_t*>(block.workspace), arena.bytes());
    advise_huge_pages(to.d_x, plan.batch * plan.frames * plan.joints * plan.in);
    call.kernels = choose_kernels<T>(plan.out);
    call.prepare(threads);
    call.run(planes, scratch.data(), threads);
    call.write_weights(threads);
    call.write_edges();
    call.write_bias(1, to.d_temporal_bias);
    if (plan.residual) {
        call.write_bias(2, to.d_residual_bias);
    }
    return {};
}

template Status stgcn_block_backward(const float*, const StgcnBlock<float>&,
                                     const StgcnMaps<float>&, const StgcnGradients<float>&, int);
template Status stgcn_block_backward(const double*, const StgcnBlock<double>&,
                                     const StgcnMaps<double>&, const StgcnGradients<double>&, int);

}  // namespace aimclr::cpu
