#include <vector>

#include "cpu/stgcn_block/stgcn_bf16_plan.h"
#include "cpu/stgcn_block/stgcn_block_sums.h"

namespace aimclr::cpu {
namespace stgcn {
namespace {

// Where gradients of the temporal convolution's output lie, so that a frame of its input reads them
// at one distance for each tap.
struct Padding {
    Index front, frames;

    explicit Padding(const Bf16Plan& plan)
        : front(plan.class_taps(0) - 1),
          frames(front + (plan.frames - 1 + plan.taps / 2) / plan.stride + 1) {}
};

struct Bf16BackwardScratch {
    float* frame;      // of the input
    BFloat16* rows;    // gradients of a sample's temporal map, or of a chunk's spatial map,
    Word* pairs;       // and the same as pairs
    Word* activated;   // a sample after the spatial norm, padded in time
    Word* gathered;    // a chunk's inputs of the spatial product
    float* product;    // gradients of a frame's inputs, of the spatial and
    float* residual;   // the residual product
    BFloat16* beside;  // gradients of a frame's shortcut,
    Word *beside_pairs, *input_pairs;  // a chunk's, and its inputs
    float* edge_sums;
    Index product_size, rows_size;

    Bf16BackwardScratch(const Bf16Plan& plan, Arena& arena) {
        const Index joints = plan.joints, pairs_size = plan.pair_rows * plan.pair_pitch;
        const bool spectral = plan.use_spectral(), beside_too = plan.residual;
        const Index chunk = plan.chunk();
        frame = arena.take<float>(joints * plan.wide_in);
        rows_size = std::max(spectral ? 0 : Padding(plan).frames, chunk) * joints * plan.out_pitch;
        rows = arena.take<BFloat16>(rows_size);
        pairs = arena.take<Word>(std::max(spectral ? 0 : plan.shorter, chunk) * pairs_size);
        activated = arena.take<Word>(spectral ? 0 : plan.stride * plan.slots * pairs_size);
        gathered = arena.take<Word>(plan.gathered_pairs());
        product_size = joints * plan.wide_inputs + kMaxLanes;
        product = arena.take<float>(product_size);
        residual = arena.take<float>(beside_too ? joints * plan.wide_in : 0);
        beside = arena.take<BFloat16>(beside_too ? joints * plan.out_pitch : 0);
        beside_pairs = arena.take<Word>(beside_too ? chunk * pairs_size : 0);
        input_pairs = arena.take<Word>(beside_too ? chunk * plan.pair_rows * plan.in : 0);
        edge_sums = arena.take<float>(plan.parts * joints * joints * kMaxLanes);
    }

    // What no frame is written to: padding in time, and the last of an odd number of channels.
    void clear(const Bf16Plan& plan) const {
        std::fill_n(frame, plan.joints * plan.wide_in, 0.0f);
        std::fill_n(product, product_size, 0.0f);
        std::fill_n(rows, rows_size, BFloat16{});
        if (plan.out != plan.even_out) {
            std::fill_n(beside, plan.residual ? plan.joints * plan.out_pitch : 0, BFloat16{});
        }
    }
};

// As BackwardPlanes: of each group of samples planes of the upstream gradient by rows and by pairs,
// of the activated map by pairs, and products; then planes of the taps' gradient.
struct Bf16BackwardPlanes {
    Index groups, rows_size, pairs_size, product_size;  // sizes of a group
    BFloat16* grads;
    Word *grad_pairs, *activations;
    float *products, *taps;

    Bf16BackwardPlanes(const Bf16Plan& plan, int threads, Arena& arena) {
        const Spectral<float> spectral = plan.spectral<float>();
        const Index samples = plan.by_planes ? kSpectralSamples * spectral.planes() : 0;
        groups = plan.by_planes ? plan.pass_samples(threads) / kSpectralSamples : 0;
        rows_size = samples * plan.joints * plan.out_pitch;
        pairs_size = samples * plan.pair_rows * plan.pair_pitch;
        product_size = plan.by_planes
                           ? spectral.planes() * plan.products_step(kSpectralSamples * plan.joints)
                           : 0;
        grads = arena.take<BFloat16>(groups * rows_size);
        grad_pairs = arena.take<Word>(groups * pairs_size);
        activations = arena.take<Word>(groups * pairs_size);
        products = arena.take<float>(groups * product_size);
        taps = arena.take<float>(plan.by_planes ? spectral.packed_size() : 0);
    }

    // The last of an odd number of channels.
    void clear(const Bf16Plan& plan) const {
        if (plan.out != plan.even_out) {
            std::fill_n(grads, groups * rows_size, BFloat16{});
        }
    }
};

struct Bf16Backward : BackwardSums<float, BFloat16, Bf16Plan> {
    using Scratch = Bf16BackwardScratch;

    const Padding padding;
    Bf16Kernels kernels{};
    Word *packed_spatial, *packed_temporal, *packed_residual;
    Bf16Spectral spectral_weights;
    Bf16BackwardPlanes planes;
    Index* shifts;    // [stride][taps]: of the rows that the first frame of a class reads
    BFloat16* inner;  // gradient of the spatial norm's output, [batch][T][V][out]
    Bf16Edges edges{};
    Index *edges_first, *edges_grad, *edges_index;  // index: of the edge in the graph
    float* edges_weight;

    Bf16Backward(const Bf16Plan& plan_, const BFloat16* grad_y_,
                 const StgcnBlock<float, BFloat16>& block_,
                 const StgcnMaps<float, BFloat16>& saved_,
                 const StgcnGradients<float, BFloat16>& to_, int threads, Arena& arena)
        : BackwardSums(plan_, grad_y_, block_, saved_, to_, threads, arena),
          padding(plan_),
          spectral_weights(plan_, arena),
          planes(plan_, threads, arena) {
        const Index words = plan.even_out / 2, most = plan.parts * plan.joints * plan.joints;
        packed_spatial = arena.take<Word>(words * plan.wide_inputs);
        packed_temporal = arena.take<Word>(plan.use_spectral() ? 0 : plan.taps * words * plan.out);
        packed_residual = arena.take<Word>(plan.residual ? words * plan.wide_in : 0);
        shifts = arena.take<Index>(plan.stride * plan.taps);
        inner = arena.take<BFloat16>(plan.batch * plan.map());
        edges_first = arena.take<Index>(plan.joints + 1);
        edges_grad = arena.take<Index>(most);
        edges_index = arena.take<Index>(most);
        edges_weight = arena.take<float>(most);
    }

    void prepare(int threads) {
        kernels = choose_bf16_kernels(plan.level, plan.out);
        const Index out = plan.out, in = plan.in, taps = plan.taps, lanes = kernels.lanes;
        planes.clear(plan);
        prepare_norms();
        prepare_edges();
        const auto spatial = spatial_weights(plan, block.spatial_weight);
        bf16_pack_panels(
            1, out, plan.inputs, lanes, packed_spatial,
            [&](Index, Index row, Index c) { return spatial(c, row); }, threads);
        std::vector<Index> order;
        for (Index remainder = 0; remainder < plan.stride; ++remainder) {
            for (Index i = 0; i < plan.class_taps(remainder); ++i) {
                order.push_back(plan.class_tap(remainder, i));
            }
        }
        const auto temporal = [&](Index segment, Index row, Index c) {
            return block
                .temporal_weight[(row * out + c) * taps + order[static_cast<std::size_t>(segment)]];
        };
        if (plan.use_spectral()) {
            spectral_weights.prepare(plan, kernels, temporal, threads);
        } else {
            bf16_pack_panels(taps, out, out, lanes, packed_temporal, temporal, threads);
        }
        for (Index t = 0; t < plan.stride; ++t) {
            const Index first = (t + taps / 2) / plan.stride;
            const Index count = plan.class_taps((t + taps / 2) % plan.stride);
            for (Index i = 0; i < count; ++i) {
                shifts[t * taps + i] =
                    (padding.front + first - (count - 1) + i) * plan.joints * plan.out_pitch;
            }
        }
        if (plan.residual) {
            bf16_pack_panels(
                1, out, in, lanes, packed_residual,
                [&](Index, Index row, Index c) { return block.residual_weight[row * in + c]; },
                threads);
        }
    }

    // The graph's edges by the joint they come from, and where the gradients of their ends lie.
    void prepare_edges() {
        const Index width = round_up(plan.inputs, kernels.lanes);
        Index count = 0;
        for (Index joint = 0; joint < plan.joints; ++joint) {
            edges_first[joint] = count;
            for (Index group = 0; group < plan.joints * plan.parts; ++group) {
                for (Index edge = graph.first[group]; edge < graph.first[group + 1]; ++edge) {
                    if (graph.from[edge] == joint) {
                        edges_grad[count] =
                            group / plan.parts * width + group % plan.parts * plan.in;
                        edges_weight[count] = graph.weight[edge];
                        edges_index[count++] = edge;
                    }
                }
            }
        }
        edges_first[plan.joints] = count;
        edges = {edges_first, edges_grad, edges_weight, plan.joints};
    }

    Bf16NormBackward norm_backward(Index norm, const Incoming<float, BFloat16>& incoming,
                                   const BFloat16* map, const Bf16Target& target) const {
        const Index at = norm * plan.out;
        return {incoming, map,         mean(norm), k0 + at, k1 + at,
                k2 + at,  plan.joints, plan.out,   target,  nullptr};
    }
    Bf16Activation activation(Index at, const Bf16Target& target) const {
        return {saved.spatial + at, scale, shift, plan.joints, plan.out, target};
    }
    // Of the spatial norm's output; `grad` is null where another kernel has the gradient.
    ReluBackward<float, BFloat16> relu(Index sample, BFloat16* grad, Index at) const {
        return {grad,    saved.spatial + at, scale,    shift,
                mean(0), plan.joints,        plan.out, sums_of(sample, 0)};
    }

    // Where `inner` has a frame: those with one remainder of the stride lie in a row.
    BFloat16* inner_frame(Index sample, Index t) const {
        const Index slot = t % plan.stride * plan.shorter + t / plan.stride;
        return inner + sample * plan.map() + slot * plan.joints * plan.out;
    }

    // A sample's upstream gradient at the temporal convolution, and the convolution's input.
    void load_time(Index sample, const Bf16BackwardScratch& scratch) const {
        const Index row = plan.joints * plan.out, pairs = plan.pair_rows * plan.pair_pitch;
        for (Index t = 0; t < plan.shorter; ++t) {
            const Index at = sample * plan.short_map() + t * row;
            kernels.norm_backward(
                norm_backward(1, upstream(at, true), saved.temporal + at,
                              {scratch.rows + (padding.front + t) * plan.joints * plan.out_pitch,
                               plan.out_pitch, scratch.pairs + t * pairs, plan.pair_pitch}));
        }
        for (Index t = 0; t < plan.frames; ++t) {
            kernels.activation(
                activation(sample * plan.map() + t * row,
                           {nullptr, 0, scratch.activated + plan.slot(t + plan.taps / 2) * pairs,
                            plan.pair_pitch}));
        }
    }

    void time_backward(Index sample, float* sums, const Bf16BackwardScratch& scratch) const {
        const Index out = plan.out, joints = plan.joints, words = plan.even_out / 2;
        const Index pairs = plan.pair_rows * plan.pair_pitch;
        load_time(sample, scratch);
        for (Index tap = 0; tap < plan.taps; ++tap) {
            const auto [begin, end] = plan.outputs_of(tap);
            if (begin < end) {
                kernels.outer({scratch.activated + (plan.slot(tap) + begin) * pairs,
                               plan.pair_pitch, out, scratch.pairs + begin * pairs, plan.pair_pitch,
                               out, (end - begin) * plan.pair_rows,
                               sums + offsets.temporal + tap * out * out, out});
            }
        }
        for (Index t = 0; t < std::min(plan.stride, plan.frames); ++t) {
            const Index remainder = (t + plan.taps / 2) % plan.stride;
            const Index count = (plan.frames - t + plan.stride - 1) / plan.stride;
            kernels.product({scratch.rows, plan.out_pitch, count * joints, shifts + t * plan.taps,
                             plan.class_taps(remainder), words, packed_temporal, plan.taps * words,
                             plan.class_start(remainder) * words, out, nullptr, 0, 1,
                             inner_frame(sample, t), out});
        }
        for (Index t = 0; t < plan.frames; ++t) {
            kernels.relu_backward(
                relu(sample, inner_frame(sample, t), sample * plan.map() + t * joints * out));
        }
    }

    // Planes of a sample, number `index` of the `samples` of a pass.
    void load_planes(Index sample, Index index, Index samples, const Bf16BackwardScratch&) const {
        const Waves<float> waves = plan.spectral<float>().frame_waves(spectral_weights.table);
        const Index group = index / kSpectralSamples, i = index % kSpectralSamples;
        const Index count = plan.group_size(samples, group), at = sample * plan.map();
        const Index row = plan.joints * plan.out, rows = plan.joints * plan.out_pitch;
        const Index pairs = plan.pair_rows * plan.pair_pitch;
        const Index first_pair = group * planes.pairs_size + i * pairs;
        kernels.gradient_planes(norm_backward(1, upstream(at, true), saved.temporal + at, {}),
                                {waves,
                                 plan.joints,
                                 plan.out,
                                 row,
                                 {planes.grads + group * planes.rows_size + i * rows,
                                  plan.out_pitch, planes.grad_pairs + first_pair, plan.pair_pitch},
                                 count * rows,
                                 count * pairs,
                                 true});
        kernels.activation_planes(activation(at, {}),
                                  {waves,
                                   plan.joints,
                                   plan.out,
                                   row,
                                   {nullptr, 0, planes.activations + first_pair, plan.pair_pitch},
                                   0,
                                   count * pairs,
                                   false});
    }

    // Products of a group's planes of one frequency with the taps'.
    void multiply_plane(Index plane, Index group, Index samples) const {
        spectral_weights.multiply(plan, kernels, plane, planes.grads + group * planes.rows_size,
                                  plan.group_size(samples, group) * plan.joints,
                                  planes.products + group * planes.product_size);
    }

    // What a group adds to channels [c, c + width) of the taps' gradient of one frequency.
    void add_taps(Index plane, Index group, Index samples, Index c, Index width) const {
        const Index out = plan.out, length = plan.group_size(samples, group) * plan.pair_rows;
        const Index at = group * planes.pairs_size + plane * length * plan.pair_pitch;
        kernels.outer({planes.activations + at, plan.pair_pitch, out, planes.grad_pairs + at + c,
                       plan.pair_pitch, width, length, planes.taps + plane * out * out + c, out});
    }

    void restore_planes(Index sample, Index index, Index samples) const {
        const Index group = index / kSpectralSamples, joints = plan.joints;
        const float* const products = planes.products + group * planes.product_size +
                                      index % kSpectralSamples * joints * plan.out;
        kernels.restore({plan.spectral<float>().frame_waves(spectral_weights.table), products,
                         plan.products_step(plan.group_size(samples, group) * joints), joints,
                         plan.out, nullptr, inner_frame(sample, 0), sums_of(sample, 0), nullptr,
                         relu(sample, nullptr, sample * plan.map())});
    }

    // Frame t's gradient of x through the residual convolution, and its operands as the `index`th
    // of a chunk's pairs.
    void residual_backward(Index sample, Index t, Index index,
                           const Bf16BackwardScratch& scratch) const {
        constexpr Index kNoShift = 0;
        const Index out = plan.out, in = plan.in, joints = plan.joints, words = plan.even_out / 2;
        const Index at = sample * plan.short_map() + t / plan.stride * joints * out;
        const Index width = round_up(in, kernels.lanes);
        kernels.norm_backward(norm_backward(
            2, upstream(at, false), saved.shortcut + at,
            {scratch.beside, plan.out_pitch,
             scratch.beside_pairs + index * plan.pair_rows * plan.pair_pitch, plan.pair_pitch}));
        kernels.product_to_float({scratch.beside, plan.out_pitch, joints, &kNoShift, 1, words,
                                  packed_residual, words, 0, width, nullptr, 0, 1, scratch.residual,
                                  width});
        kernels.pairs({block.x + (sample * plan.frames + t) * joints * in, joints, in,
                       scratch.input_pairs + index * plan.pair_rows * in, in});
    }

    void joints_backward(Index sample, float* sums, double* edge_totals,
                         const Bf16BackwardScratch& scratch) const {
        constexpr Index kNoShift = 0;
        const Index out = plan.out, in = plan.in, joints = plan.joints, chunk = plan.chunk();
        const Index width = round_up(plan.inputs, kernels.lanes), words = plan.even_out / 2;
        std::fill_n(scratch.edge_sums, graph.count * kMaxLanes, 0.0f);
        for (Index first = 0; first < plan.frames; first += chunk) {
            const Index last = std::min(first + chunk, plan.frames);
            Index beside = 0;
            for (Index t = first; t < last; ++t) {
                const Index at = (sample * plan.frames + t) * joints;
                BFloat16* const rows = scratch.rows + (t - first) * joints * plan.out_pitch;
                Bf16NormBackward norm = norm_backward(
                    0, {inner_frame(sample, t), nullptr, {}}, saved.spatial + at * out,
                    {rows, plan.out_pitch,
                     scratch.pairs + (t - first) * plan.pair_rows * plan.pair_pitch,
                     plan.pair_pitch});
                norm.joint_sums = sums + offsets.joints;
                kernels.norm_backward(norm);
                kernels.widen(block.x + at * in, joints, in, scratch.frame, plan.wide_in);
                kernels.gather(
                    graph.edges(plan),
                    {scratch.frame,
                     plan.wide_in,
                     in,
                     {nullptr, 0, scratch.gathered + (t - first) * plan.pair_rows * plan.inputs,
                      plan.inputs}});
                kernels.product_to_float({rows, plan.out_pitch, joints, &kNoShift, 1, words,
                                          packed_spatial, words, 0, width, nullptr, 0, 1,
                                          scratch.product, width});
                Bf16Scatter scatter{
                    scratch.frame,    plan.wide_in,     in, scratch.product, {}, nullptr, 0,
                    to.d_x + at * in, scratch.edge_sums};
                if (block.identity) {
                    scatter.incoming = upstream(at * out, false);
                } else if (plan.residual && t % plan.stride == 0) {
                    residual_backward(sample, t, beside++, scratch);
                    scatter.start = scratch.residual;
                    scatter.start_pitch = round_up(in, kernels.lanes);
                }
                kernels.scatter(edges, scatter);
            }
            kernels.outer({scratch.gathered, plan.inputs, plan.inputs, scratch.pairs,
                           plan.pair_pitch, out, (last - first) * plan.pair_rows,
                           sums + offsets.spatial, out});
            if (beside > 0) {
                kernels.outer({scratch.input_pairs, in, in, scratch.beside_pairs, plan.pair_pitch,
                               out, beside * plan.pair_rows, sums + offsets.residual, out});
            }
        }
        for (Index edge = 0; edge < graph.count; ++edge) {
            for (Index lane = 0; lane < kMaxLanes; ++lane) {
                edge_totals[edges_index[edge]] +=
                    static_cast<double>(scratch.edge_sums[edge * kMaxLanes + lane]);
            }
        }
    }
};

}  // namespace

Index bf16_backward_bytes(const Bf16Plan& plan, int threads) {
    return backward_pass_bytes<Bf16Backward>(plan, threads);
}

}  // namespace stgcn

template <>
Status stgcn_block_backward(const BFloat16* grad_y, const StgcnBlock<float, BFloat16>& block,
                            const StgcnMaps<float, BFloat16>& saved,
                            const StgcnGradients<float, BFloat16>& to, int threads) {
    return stgcn::backward_pass<stgcn::Bf16Backward>(grad_y, block, saved, to, threads);
}

}  // namespace aimclr::cpu
