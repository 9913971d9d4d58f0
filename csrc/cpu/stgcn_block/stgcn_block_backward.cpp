#include "cpu/stgcn_block/stgcn_block_backward.h"

#include <vector>

#include "cpu/pages.h"
#include "cpu/stgcn_block/stgcn_block.h"

namespace aimclr::cpu {
namespace stgcn {

template <typename T>
Index backward_bytes(const Plan& plan, int threads) {
    Arena arena(nullptr);
    Backward<T>(plan, arena);
    for (int i = 0; i < threads; ++i) {
        BackwardScratch<T>(plan, arena);
    }
    return arena.bytes();
}

template Index backward_bytes<float>(const Plan&, int);
template Index backward_bytes<double>(const Plan&, int);

}  // namespace stgcn

template <typename T>
Status stgcn_block_backward(
    const T* grad_y, const T* x, const T* adjacency, const T* spatial_weight, const T* spatial_bias,
    const T* temporal_weight, const T* norms, const T* residual_weight, const std::uint8_t* keep,
    const T* y, const T* statistics, const T* spatial, const T* temporal, const T* shortcut,
    std::int64_t batch, std::int64_t in, std::int64_t out, std::int64_t frames, std::int64_t joints,
    std::int64_t parts, std::int64_t taps, std::int64_t stride, bool identity, bool training,
    double keep_scale, double eps, T* d_x, T* d_adjacency, T* d_spatial_weight, T* d_spatial_bias,
    T* d_temporal_weight, T* d_temporal_bias, T* d_norms, T* d_residual_weight, T* d_residual_bias,
    void* workspace, int threads, int vector_bytes) {
    using namespace stgcn;
    const StgcnShape shape{batch, in, out, frames, joints, parts, taps, stride};
    AIMCLR_RETURN_IF_ERROR(check_shape(shape, workspace, threads));
    const void* const pointers[] = {grad_y,          x,
                                    adjacency,       spatial_weight,
                                    spatial_bias,    temporal_weight,
                                    norms,           y,
                                    statistics,      spatial,
                                    temporal,        d_x,
                                    d_adjacency,     d_spatial_weight,
                                    d_spatial_bias,  d_temporal_weight,
                                    d_temporal_bias, d_norms};
    if (has_null(pointers)) {
        return invalid_argument("stgcn_block: null pointer");
    }
    const Plan plan(shape, residual_weight != nullptr);
    Arena arena(workspace);
    Backward<T> call(plan, arena);
    std::vector<BackwardScratch<T>> scratch;
    for (int i = 0; i < threads; ++i) {
        scratch.emplace_back(plan, arena);
    }
    advise_huge_pages(static_cast<std::uint8_t*>(workspace), arena.bytes());
    advise_huge_pages(d_x, batch * in * frames * joints);
    call.kernels = choose_kernels<T>(out, vector_bytes);
    call.grad_y = grad_y;
    call.x = x;
    call.norms = norms;
    call.y = y;
    call.statistics = statistics;
    call.spatial = spatial;
    call.temporal = temporal;
    call.shortcut = shortcut;
    call.keep = keep;
    call.identity = identity;
    call.training = training;
    call.keep_scale = static_cast<T>(keep_scale);
    call.eps = eps;
    call.d_x = d_x;
    call.d_norms = d_norms;
    call.prepare(adjacency, spatial_weight, temporal_weight, residual_weight, threads);
    call.run(scratch.data(), threads);
    call.write_weights(d_spatial_weight, d_temporal_weight, d_residual_weight, threads);
    call.write_edges(spatial_bias, d_spatial_bias, d_adjacency);
    call.write_bias(1, d_temporal_bias);
    if (plan.residual) {
        call.write_bias(2, d_residual_bias);
    }
    return {};
}

#define AIMCLR_STGCN_BACKWARD(T)                                                                  \
    template Status stgcn_block_backward<T>(                                                      \
        const T*, const T*, const T*, const T*, const T*, const T*, const T*, const T*,           \
        const std::uint8_t*, const T*, const T*, const T*, const T*, const T*, std::int64_t,      \
        std::int64_t, std::int64_t, std::int64_t, std::int64_t, std::int64_t, std::int64_t,       \
        std::int64_t, bool, bool, double, double, T*, T*, T*, T*, T*, T*, T*, T*, T*, void*, int, \
        int)
AIMCLR_STGCN_BACKWARD(float);
AIMCLR_STGCN_BACKWARD(double);

}  // namespace aimclr::cpu
