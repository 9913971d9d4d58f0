#include "cpu/stgcn_block/stgcn_block.h"
#include "cpu/stgcn_block/stgcn_block_norms.h"
#include "cpu/stgcn_block/stgcn_block_plan.h"
#include "cpu/stgcn_block/stgcn_gemm.h"

namespace aimclr::cpu {
namespace stgcn {
namespace {

template <typename T>
struct ForwardScratch {
    T *columns, *activated;            // of a frame's inputs, of a sample after the spatial norm
    T *spatial, *temporal, *shortcut;  // a group's maps, where they are not kept
    double* sums;                      // [2][out]
    T *inputs, *products;              // of a group's spectral convolution

    ForwardScratch(const Plan& plan, int threads, Arena& arena) {
        const Index group = plan.group(threads);
        columns = arena.take<T>(plan.wide_inputs * plan.pitch);
        activated = arena.take<T>(plan.frames * plan.out * plan.pitch);
        spatial = arena.take<T>(group * plan.map());
        temporal = arena.take<T>(group * plan.short_map());
        shortcut = arena.take<T>(plan.residual ? group * plan.short_map() : 0);
        sums = arena.take<double>(2 * plan.out);
        const Spectral<T> spectral = plan.template spectral<T>();
        inputs = arena.take<T>(plan.use_spectral() ? spectral.inputs_size(group) : 0);
        products = arena.take<T>(plan.use_spectral() ? spectral.products_size(group) : 0);
    }
    void clear(const Plan&) const {}
};

template <typename T>
struct Forward : ForwardNorms<T> {
    using Norms = ForwardNorms<T>;
    using Scratch = ForwardScratch<T>;
    using Norms::block, Norms::graph, Norms::joint_bias, Norms::maps, Norms::plan;
    using Norms::scale, Norms::shift;
    using Norms::training;

    Kernels<T> kernels{};
    T *packed_spatial, *packed_temporal, *packed_residual;
    SpectralWeights<T> spectral_weights;

    Forward(const Plan& plan_, const StgcnBlock<T>& block_, const StgcnMaps<T>& maps_, Arena& arena)
        : Norms(plan_, block_, maps_, arena), spectral_weights(plan_, arena) {
        packed_spatial = arena.take<T>(plan.inputs * plan.out);
        packed_temporal = arena.take<T>(plan.taps * plan.out * plan.out);
        packed_residual = arena.take<T>(plan.residual ? plan.in * plan.out : 0);
    }

    void prepare(int threads) {
        kernels = choose_kernels<T>(plan.out);
        const Index out = plan.out, taps = plan.taps, in = plan.in;
        this->prepare_graph();
        pack_panels(plan.inputs, out, kernels.lanes, packed_spatial,
                    spatial_weights(plan, block.spatial_weight), threads);
        pack_panels(
            taps * out, out, kernels.lanes, packed_temporal,
            [=](Index row, Index c) {
                return block.temporal_weight[(c * out + row % out) * taps + row / out];
            },
            threads);
        spectral_weights.prepare(plan, kernels, packed_temporal, threads);
        if (plan.residual) {
            pack_panels(
                in, out, kernels.lanes, packed_residual,
                [=](Index row, Index c) { return block.residual_weight[c * in + row]; }, threads);
        }
    }

    // One frame's product with weights, and the moments of what comes out.
    void multiply(const Product<T>& product, const T* pivot, double* sums) const {
        kernels.product(product);
        if (training()) {
            kernels.moments({product.out, pivot, plan.joints, plan.out, sums});
        }
    }

    void convolve_joints(Index sample, T* to, const Scratch& scratch) const {
        const Index frame = plan.joints * plan.in;
        std::fill_n(scratch.sums, 2 * plan.out, 0.0);
        for (Index t = 0; t < plan.frames; ++t) {
            kernels.gather(graph.edges(plan), {block.x + (sample * plan.frames + t) * frame,
                                               plan.in, scratch.columns, plan.pitch, nullptr, 0});
            multiply(
                {scratch.columns, plan.pitch, plan.joints, plan.inputs, packed_spatial, plan.inputs,
                 0, plan.out, joint_bias, plan.out, to + t * plan.joints * plan.out, plan.out},
                to, scratch.sums);
        }
        this->keep_moments(sample, 0, scratch.sums, to, plan.frames * plan.joints);
    }

    void activate(const T* from, const Scratch& scratch) const {
        const Index out = plan.out, joints = plan.joints;
        for (Index t = 0; t < plan.frames; ++t) {
            kernels.activation({from + t * joints * out, scale, shift, joints, out,
                                scratch.activated + t * out * plan.pitch, plan.pitch, nullptr, 0});
        }
    }

    // Of `count` samples, between maps of the batch or of the scratch.
    void convolve_time(Index first, Index count, const T* from, T* to, T* shortcut,
                       const Scratch& scratch) const {
        const Spectral<T> spectral = plan.template spectral<T>();
        for (Index i = 0; plan.use_spectral() && i < count; ++i) {
            activate(from + i * plan.map(), scratch);
            spectral.transform(kernels, spectral_weights.table, scratch.activated, i, count,
                               scratch.inputs);
        }
        if (plan.use_spectral()) {
            spectral.multiply(kernels, scratch.inputs, count, spectral_weights.packed,
                              scratch.products);
        }
        for (Index i = 0; i < count; ++i) {
            T* const map = to + i * plan.short_map();
            std::fill_n(scratch.sums, 2 * plan.out, 0.0);
            if (plan.use_spectral()) {
                spectral.restore(kernels, spectral_weights.table, scratch.products, i,
                                 block.temporal_bias, map);
                for (Index t = 0; training() && t < plan.shorter; ++t) {
                    kernels.moments({map + t * plan.joints * plan.out, map, plan.joints, plan.out,
                                     scratch.sums});
                }
            } else {
                activate(from + i * plan.map(), scratch);
                convolve_frames(map, scratch);
            }
            this->keep_moments(first + i, 1, scratch.sums, map, plan.shorter * plan.joints);
            if (plan.residual) {
                convolve_residual(first + i, shortcut + i * plan.short_map(), scratch);
            }
        }
    }

    void convolve_frames(T* to, const Scratch& scratch) const {
        const Index out = plan.out;
        for (Index t = 0; t < plan.shorter; ++t) {
            const Plan::Reach reach = plan.reach(t);
            multiply({scratch.activated + reach.frame * out * plan.pitch, plan.pitch, plan.joints,
                      reach.taps * out, packed_temporal, plan.taps * out, reach.tap * out, out,
                      block.temporal_bias, 0, to + t * plan.joints * out, out},
                     to, scratch.sums);
        }
    }

    void convolve_residual(Index sample, T* to, const Scratch& scratch) const {
        const Index joints = plan.joints;
        std::fill_n(scratch.sums, 2 * plan.out, 0.0);
        for (Index t = 0; t < plan.shorter; ++t) {
            const T* const frame =
                block.x + (sample * plan.frames + t * plan.stride) * joints * plan.in;
            kernels.activation({frame, nullptr, nullptr, joints, plan.in, scratch.columns,
                                plan.pitch, nullptr, 0});
            multiply({scratch.columns, plan.pitch, joints, plan.in, packed_residual, plan.in, 0,
                      plan.out, block.residual_bias, 0, to + t * joints * plan.out, plan.out},
                     to, scratch.sums);
        }
        this->keep_moments(sample, 2, scratch.sums, to, plan.shorter * joints);
    }
};

}  // namespace

template <typename T>
Index forward_bytes(const Plan& plan, int threads) {
    return forward_pass_bytes<Forward<T>>(plan, threads);
}

template Index forward_bytes<float>(const Plan&, int);
template Index forward_bytes<double>(const Plan&, int);

}  // namespace stgcn

template <typename T, typename M>
Status stgcn_block_forward(const StgcnBlock<T, M>& block, const StgcnMaps<T, M>& to, int threads) {
    return stgcn::forward_pass<stgcn::Forward<T>>(block, to, threads);
}

template Status stgcn_block_forward(const StgcnBlock<float>&, const StgcnMaps<float>&, int);
template Status stgcn_block_forward(const StgcnBlock<double>&, const StgcnMaps<double>&, int);

}  // namespace aimclr::cpu
