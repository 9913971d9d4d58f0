// stgcn_block's gradients: three passes over the batch, then weight gradients added up and written.
#pragma once

#include <vector>

#include "cpu/stgcn_block/stgcn_block.h"
#include "cpu/stgcn_block/stgcn_block_backward_plan.h"
#include "cpu/stgcn_block/stgcn_block_sums.h"
#include "cpu/stgcn_block/stgcn_gemm.h"

namespace aimclr::cpu {
namespace stgcn {

template <typename T>
struct Backward : BackwardSums<T> {
    using Sums = BackwardSums<T>;
    using Scratch = BackwardScratch<T>;
    using Sums::block, Sums::edge_shares, Sums::graph, Sums::grad_y, Sums::offsets, Sums::plan;
    using Sums::k0, Sums::k1, Sums::k2, Sums::saved, Sums::scale, Sums::shift;
    using Sums::mean, Sums::sums_of, Sums::to, Sums::training, Sums::upstream;

    Kernels<T> kernels{};
    T *packed_spatial, *packed_temporal, *packed_residual;
    SpectralWeights<T> spectral_weights;
    BackwardPlanes<T> planes;
    T* inner;  // [batch][T][V][out]: gradient of the spatial norm's output

    Backward(const Plan& plan_, const T* grad_y_, const StgcnBlock<T>& block_,
             const StgcnMaps<T>& saved_, const StgcnGradients<T>& to_, int threads, Arena& arena)
        : Sums(plan_, grad_y_, block_, saved_, to_, threads, arena),
          spectral_weights(plan_, arena),
          planes(plan_, threads, arena) {
        const Index out = plan.out;
        packed_spatial = arena.take<T>(out * plan.wide_inputs);
        packed_temporal = arena.take<T>(plan.taps * out * out);
        packed_residual = arena.take<T>(plan.residual ? out * plan.wide_in : 0);
        inner = arena.take<T>(plan.batch * plan.map());
    }

    void prepare(int threads) {
        kernels = choose_kernels<T>(plan.out);
        const Index out = plan.out, in = plan.in, taps = plan.taps;
        const auto weights = spatial_weights(plan, block.spatial_weight);
        pack_panels(
            out, plan.inputs, kernels.lanes, packed_spatial,
            [&](Index row, Index c) { return weights(c, row); }, threads);
        std::vector<Index> order;
        for (Index remainder = 0; remainder < plan.stride; ++remainder) {
            for (Index i = 0; i < plan.class_taps(remainder); ++i) {
                order.push_back(plan.class_tap(remainder, i));
            }
        }
        pack_panels(
            taps * out, out, kernels.lanes, packed_temporal,
            [&](Index row, Index c) {
                return block.temporal_weight[(row % out * out + c) * taps +
                                             order[static_cast<std::size_t>(row / out)]];
            },
            threads);
        spectral_weights.prepare(plan, kernels, packed_temporal, threads);
        if (plan.residual) {
            pack_panels(
                out, in, kernels.lanes, packed_residual,
                [=](Index row, Index c) { return block.residual_weight[row * in + c]; }, threads);
        }
        this->prepare_norms();
    }

    void norm_backward(Index norm, const Incoming<T>& incoming, const T* map, T* rows,
                       Index rows_pitch) const {
        const Index at = norm * plan.out;
        kernels.norm_backward({incoming, map, mean(norm), k0 + at, k1 + at, k2 + at, plan.joints,
                               plan.out, rows, rows_pitch});
    }

    // Frames that one tap reaches lie in a row: the even ones, then the odd ones.
    Index slot(Index t) const {
        return t % plan.stride * plan.shorter + t / plan.stride;
    }

    // A sample's upstream gradient at the temporal convolution, and the convolution's input.
    void load_time(Index sample, const Scratch& scratch) const {
        const Index out = plan.out, joints = plan.joints, row = joints * out;
        const Index frame = joints * plan.rows_pitch;
        for (Index t = 0; t < plan.shorter; ++t) {
            const Index at = sample * plan.short_map() + t * row;
            norm_backward(1, upstream(at, true), saved.temporal + at, scratch.rows + t * frame,
                          plan.rows_pitch);
        }
        for (Index t = 0; t < plan.frames; ++t) {
            kernels.activation({saved.spatial + sample * plan.map() + t * row, scale, shift, joints,
                                out, nullptr, 0, scratch.activated + slot(t) * frame,
                                plan.rows_pitch});
        }
    }

    void time_backward(Index sample, T* sums, const Scratch& scratch) const {
        const Index out = plan.out, joints = plan.joints;
        const Index frame = joints * plan.rows_pitch;
        load_time(sample, scratch);
        for (Index tap = 0; tap < plan.taps; ++tap) {
            const Index offset = tap - plan.taps / 2;
            const auto [begin, end] = plan.outputs_of(tap);
            if (begin < end) {
                kernels.outer({scratch.activated + slot(begin * plan.stride + offset) * frame,
                               plan.rows_pitch, out, scratch.rows + begin * frame, plan.rows_pitch,
                               out, (end - begin) * joints,
                               sums + offsets.temporal + tap * out * out, out});
            }
        }
        for (Index t = 0; t < plan.frames; ++t) {
            const Plan::Reach reach = plan.reach_back(t);
            kernels.product({scratch.rows + reach.frame * frame, 1, joints, out, packed_temporal,
                             plan.taps * out, reach.tap * out, out, nullptr, 0,
                             inner + sample * plan.map() + t * joints * out, out, plan.rows_pitch,
                             reach.taps, frame});
        }
        spatial_relu_backward(sample);
    }

    void spatial_relu_backward(Index sample) const {
        for (Index t = 0; t < plan.frames; ++t) {
            const Index at = sample * plan.map() + t * plan.joints * plan.out;
            kernels.relu_backward({inner + at, saved.spatial + at, scale, shift, mean(0),
                                   plan.joints, plan.out, sums_of(sample, 0)});
        }
    }

    // Planes of a sample, number `index` of the `samples` of a pass.
    void load_planes(Index sample, Index index, Index samples, const Scratch& scratch) const {
        const Spectral<T> spectral = plan.template spectral<T>();
        const Index group = index / kSpectralSamples, at = index % kSpectralSamples;
        const Index count = plan.group_size(samples, group);
        const Index frame = plan.joints * plan.rows_pitch;
        const T* const table = spectral_weights.table;
        const auto to_planes = [&](const T* rows, T* to, bool conjugate) {
            kernels.spectral_input({spectral.frame_waves(table), rows, frame,
                                    to + group * planes.row_size + at * frame, count * frame, frame,
                                    conjugate});
        };
        load_time(sample, scratch);
        to_planes(scratch.rows, planes.inputs, false);
        to_planes(scratch.rows, planes.grads, true);
        to_planes(scratch.activated, planes.activations, false);
    }

    // Products of a group's planes of one frequency with the taps'.
    void multiply_plane(Index plane, Index group, Index samples) const {
        const Index out = plan.out, frame = plan.joints * plan.rows_pitch;
        const Index count = plan.group_size(samples, group), width = 2 * kernels.lanes;
        const T* const from = planes.inputs + group * planes.row_size + plane * count * frame;
        T* const to = planes.products + group * planes.product_size + plane * plan.joints * out;
        const Index step = plan.template spectral<T>().planes() * plan.joints * out;
        // A panel of weights stays in the cache while all samples use it.
        for (Index c = 0; c < out; c += width) {
            for (Index i = 0; i < count; ++i) {
                kernels.product({from + i * frame, 1, plan.joints, out,
                                 spectral_weights.packed + (plane * out + c) * out, out, 0,
                                 std::min(width, out - c), nullptr, 0, to + i * step + c, out,
                                 plan.rows_pitch});
            }
        }
    }

    // What a group adds to channels [c, c + width) of the taps' gradient of one frequency.
    void add_taps(Index plane, Index group, Index samples, Index c, Index width) const {
        const Index out = plan.out, rows = plan.group_size(samples, group) * plan.joints;
        const Index at = group * planes.row_size + plane * rows * plan.rows_pitch;
        kernels.outer({planes.activations + at, plan.rows_pitch, out, planes.grads + at + c,
                       plan.rows_pitch, width, rows, planes.taps + plane * out * out + c, out});
    }

    void restore_planes(Index sample, Index index, Index) const {
        plan.template spectral<T>().restore(
            kernels, spectral_weights.table,
            planes.products + index / kSpectralSamples * planes.product_size,
            index % kSpectralSamples, nullptr, inner + sample * plan.map());
        spatial_relu_backward(sample);
    }

    // The gradient of a frame of x that does not pass through the spatial convolution.
    void residual_backward(Index sample, Index t, T* dx, T* sums, const Scratch& scratch) const {
        const Index out = plan.out, joints = plan.joints, size = joints * plan.in;
        if (block.identity) {
            kernels.mask({upstream(sample * plan.map() + t * joints * out, false), size, dx});
            return;
        }
        std::fill_n(dx, size, T{0});
        if (!plan.residual || t % plan.stride != 0) {
            return;
        }
        const Index at = sample * plan.short_map() + t / plan.stride * joints * out;
        norm_backward(2, upstream(at, false), saved.shortcut + at, scratch.residual_rows, out);
        const Index width = round_up(plan.in, kernels.lanes);
        kernels.product({scratch.residual_rows, 1, joints, out, packed_residual, out, 0, width,
                         nullptr, 0, scratch.residual, width, out});
        for (Index joint = 0; joint < joints; ++joint) {
            std::copy_n(scratch.residual + joint * width, plan.in, dx + joint * plan.in);
        }
        kernels.outer({block.x + (sample * plan.frames + t) * size, plan.in, plan.in,
                       scratch.residual_rows, out, out, joints, sums + offsets.residual, out});
    }

    void joints_backward(Index sample, T* sums, double* edges, const Scratch& scratch) const {
        const Index out = plan.out, joints = plan.joints, chunk = chunk_frames(plan);
        const Index width = round_up(plan.inputs, kernels.lanes);
        std::fill_n(scratch.edge_sums, graph.count * kernels.lanes, T{0});
        for (Index first = 0; first < plan.frames; first += chunk) {
            const Index last = std::min(first + chunk, plan.frames);
            for (Index t = first; t < last; ++t) {
                const Index at = (sample * plan.frames + t) * joints;
                const T* const input = block.x + at * plan.in;
                T* const rows = scratch.rows + (t - first) * joints * plan.rows_pitch;
                norm_backward(0, {inner + at * out, nullptr, {}}, saved.spatial + at * out, rows,
                              plan.rows_pitch);
                for (Index joint = 0; joint < joints; ++joint) {
                    kernels.add(
                        {rows + joint * plan.rows_pitch, sums + offsets.joints + joint * out, out});
                }
                kernels.gather(
                    graph.edges(plan),
                    {input, plan.in, nullptr, 0,
                     scratch.gathered + (t - first) * joints * plan.inputs, plan.inputs});
                kernels.product({rows, 1, joints, out, packed_spatial, out, 0, width, nullptr, 0,
                                 scratch.product, width, plan.rows_pitch});
                T* const dx = to.d_x + at * plan.in;
                residual_backward(sample, t, dx, sums, scratch);
                kernels.scatter(graph.edges(plan),
                                {input, scratch.product, width, plan.in, dx, scratch.edge_sums});
            }
            kernels.outer({scratch.gathered, plan.inputs, plan.inputs, scratch.rows,
                           plan.rows_pitch, out, (last - first) * joints, sums + offsets.spatial,
                           out});
        }
        for (Index edge = 0; edge < graph.count; ++edge) {
            for (Index lane = 0; lane < kernels.lanes; ++lane) {
                edges[edge] += static_cast<double>(scratch.edge_sums[edge * kernels.lanes + lane]);
            }
        }
    }
};

}  // namespace stgcn
}  // namespace aimclr::cpu
