#include "cpu/stgcn_block/stgcn_bf16_plan.h"
#include "cpu/stgcn_block/stgcn_block_norms.h"

namespace aimclr::cpu {
namespace stgcn {
namespace {

struct Bf16Scratch {
    float* frame;                             // of the input
    BFloat16* gathered;                       // a chunk's inputs of the spatial product
    BFloat16* activated;                      // a sample after the spatial norm, padded in time
    BFloat16 *spatial, *temporal, *shortcut;  // a group's maps, where they are not kept
    BFloat16* even;                           // a frame of an odd number of channels
    double* sums;                             // [2][out]
    float* pivot;                             // [out]
    BFloat16* planes;                         // of a group's spectral convolution, and its products
    Index planes_size;
    float* products;

    Bf16Scratch(const Bf16Plan& plan, int threads, Arena& arena) {
        const Index group = plan.group(threads);
        frame = arena.take<float>(plan.joints * plan.wide_in);
        gathered = arena.take<BFloat16>(plan.gathered_size());
        activated = arena.take<BFloat16>(
            plan.use_spectral() ? 0 : plan.stride * plan.slots * plan.joints * plan.out_pitch);
        spatial = arena.take<BFloat16>(group * plan.map());
        temporal = arena.take<BFloat16>(group * plan.short_map());
        shortcut = arena.take<BFloat16>(plan.residual ? group * plan.short_map() : 0);
        even = arena.take<BFloat16>(plan.joints * plan.even_in);
        sums = arena.take<double>(2 * plan.out);
        pivot = arena.take<float>(plan.out);
        const Spectral<float> spectral = plan.spectral<float>();
        const Index rows = plan.use_spectral() ? group * plan.joints * spectral.planes() : 0;
        planes_size = rows * plan.out_pitch;
        planes = arena.take<BFloat16>(planes_size);
        products = arena.take<float>(
            plan.use_spectral() ? spectral.planes() * plan.products_step(group * plan.joints) : 0);
    }

    // What no frame is written to.
    void clear(const Bf16Plan& plan) const {
        std::fill_n(frame, plan.joints * plan.wide_in, 0.0f);
        std::fill_n(gathered, plan.gathered_size(), BFloat16{});
        std::fill_n(even, plan.joints * plan.even_in, BFloat16{});
        if (!plan.use_spectral()) {
            std::fill_n(activated, plan.stride * plan.slots * plan.joints * plan.out_pitch,
                        BFloat16{});
        } else if (plan.even_out != plan.out) {
            std::fill_n(planes, planes_size, BFloat16{});
        }
    }
};

struct Bf16Forward : ForwardNorms<float, BFloat16, Bf16Plan> {
    using Scratch = Bf16Scratch;

    Bf16Kernels kernels{};
    Word *packed_spatial, *packed_temporal, *packed_residual;
    Bf16Spectral spectral_weights;
    Index* shifts;  // [taps]

    Bf16Forward(const Bf16Plan& plan_, const StgcnBlock<float, BFloat16>& block_,
                const StgcnMaps<float, BFloat16>& maps_, Arena& arena)
        : ForwardNorms(plan_, block_, maps_, arena), spectral_weights(plan_, arena) {
        packed_spatial = arena.take<Word>(plan.even_inputs / 2 * plan.out);
        packed_temporal =
            arena.take<Word>(plan.use_spectral() ? 0 : plan.taps * plan.even_out / 2 * plan.out);
        packed_residual = arena.take<Word>(plan.residual ? plan.even_in / 2 * plan.out : 0);
        shifts = arena.take<Index>(plan.taps);
    }

    void prepare(int threads) {
        kernels = choose_bf16_kernels(plan.level, plan.out);
        const Index out = plan.out, in = plan.in, lanes = kernels.lanes;
        prepare_graph();
        const auto spatial = spatial_weights(plan, block.spatial_weight);
        bf16_pack_panels(
            1, plan.inputs, out, lanes, packed_spatial,
            [&](Index, Index row, Index c) { return spatial(row, c); }, threads);
        const auto temporal = [this, out](Index tap, Index row, Index c) {
            return block.temporal_weight[(c * out + row) * plan.taps + tap];
        };
        if (plan.use_spectral()) {
            spectral_weights.prepare(plan, kernels, temporal, threads);
        } else {
            bf16_pack_panels(plan.taps, out, out, lanes, packed_temporal, temporal, threads);
        }
        for (Index tap = 0; tap < plan.taps; ++tap) {
            shifts[tap] = plan.slot(tap) * plan.joints * plan.out_pitch;
        }
        if (plan.residual) {
            bf16_pack_panels(
                1, in, out, lanes, packed_residual,
                [&](Index, Index row, Index c) { return block.residual_weight[c * in + row]; },
                threads);
        }
    }

    // The first row of a sample's map, around which its moments are taken.
    void set_pivot(const BFloat16* map, const Bf16Scratch& scratch) const {
        kernels.widen(map, 1, plan.out, scratch.pivot, plan.out);
    }

    void add_moments(const BFloat16* map, Index frames, const Bf16Scratch& scratch) const {
        for (Index t = 0; training() && t < frames; ++t) {
            kernels.moments({map + t * plan.joints * plan.out, scratch.pivot, plan.joints, plan.out,
                             scratch.sums});
        }
    }

    void convolve_joints(Index sample, BFloat16* to, const Bf16Scratch& scratch) const {
        constexpr Index kNoShift = 0;
        const Index frame = plan.joints * plan.in, chunk = plan.chunk();
        std::fill_n(scratch.sums, 2 * plan.out, 0.0);
        for (Index first = 0; first < plan.frames; first += chunk) {
            const Index count = std::min(chunk, plan.frames - first);
            for (Index t = 0; t < count; ++t) {
                kernels.widen(block.x + (sample * plan.frames + first + t) * frame, plan.joints,
                              plan.in, scratch.frame, plan.wide_in);
                kernels.gather(graph.edges(plan),
                               {scratch.frame,
                                plan.wide_in,
                                plan.in,
                                {scratch.gathered + t * plan.joints * plan.even_inputs,
                                 plan.even_inputs, nullptr, 0}});
            }
            BFloat16* const rows = to + first * plan.joints * plan.out;
            kernels.product({scratch.gathered, plan.even_inputs, count * plan.joints, &kNoShift, 1,
                             plan.even_inputs / 2, packed_spatial, plan.even_inputs / 2, 0,
                             plan.out, joint_bias, plan.out, plan.joints, rows, plan.out});
            if (first == 0) {
                set_pivot(to, scratch);
            }
            add_moments(rows, count, scratch);
        }
        keep_moments(sample, 0, scratch.sums, scratch.pivot, plan.frames * plan.joints);
    }

    // Of `count` samples, between maps of the batch or of the scratch.
    void convolve_time(Index first, Index count, const BFloat16* from, BFloat16* to,
                       BFloat16* shortcut, const Bf16Scratch& scratch) const {
        const Index rows = plan.joints, out = plan.out;
        const Spectral<float> spectral = plan.spectral<float>();
        for (Index i = 0; plan.use_spectral() && i < count; ++i) {
            kernels.activation_planes(
                {from + i * plan.map(), scale, shift, rows, out, {}},
                {spectral.frame_waves(spectral_weights.table),
                 rows,
                 out,
                 rows * out,
                 {scratch.planes + i * rows * plan.out_pitch, plan.out_pitch, nullptr, 0},
                 count * rows * plan.out_pitch,
                 0,
                 false});
        }
        for (Index plane = 0; plan.use_spectral() && plane < spectral.planes(); ++plane) {
            spectral_weights.multiply(plan, kernels, plane, scratch.planes, count * rows,
                                      scratch.products);
        }
        for (Index i = 0; i < count; ++i) {
            BFloat16* const map = to + i * plan.short_map();
            std::fill_n(scratch.sums, 2 * out, 0.0);
            if (plan.use_spectral()) {
                kernels.restore({spectral.frame_waves(spectral_weights.table),
                                 scratch.products + i * rows * out,
                                 plan.products_step(count * rows),
                                 rows,
                                 out,
                                 block.temporal_bias,
                                 map,
                                 scratch.sums,
                                 scratch.pivot,
                                 {}});
            } else {
                convolve_frames(from + i * plan.map(), map, scratch);
            }
            keep_moments(first + i, 1, scratch.sums, scratch.pivot, plan.shorter * plan.joints);
            if (plan.residual) {
                convolve_residual(first + i, shortcut + i * plan.short_map(), scratch);
            }
        }
    }

    void convolve_frames(const BFloat16* from, BFloat16* to, const Bf16Scratch& scratch) const {
        const Index out = plan.out, row = plan.joints * plan.out_pitch;
        for (Index t = 0; t < plan.frames; ++t) {
            kernels.activation({from + t * plan.joints * out,
                                scale,
                                shift,
                                plan.joints,
                                out,
                                {scratch.activated + plan.slot(t + plan.taps / 2) * row,
                                 plan.out_pitch, nullptr, 0}});
        }
        kernels.product({scratch.activated, plan.out_pitch, plan.shorter * plan.joints, shifts,
                         plan.taps, plan.even_out / 2, packed_temporal,
                         plan.taps * plan.even_out / 2, 0, out, block.temporal_bias, 0, 1, to,
                         out});
        set_pivot(to, scratch);
        add_moments(to, plan.shorter, scratch);
    }

    void convolve_residual(Index sample, BFloat16* to, const Bf16Scratch& scratch) const {
        constexpr Index kNoShift = 0;
        const Index joints = plan.joints, in = plan.in;
        std::fill_n(scratch.sums, 2 * plan.out, 0.0);
        for (Index t = 0; t < plan.shorter; ++t) {
            const BFloat16* frame =
                block.x + (sample * plan.frames + t * plan.stride) * joints * in;
            for (Index joint = 0; in != plan.even_in && joint < joints; ++joint) {
                std::copy_n(frame + joint * in, in, scratch.even + joint * plan.even_in);
            }
            kernels.product({in == plan.even_in ? frame : scratch.even, plan.even_in, joints,
                             &kNoShift, 1, plan.even_in / 2, packed_residual, plan.even_in / 2, 0,
                             plan.out, block.residual_bias, 0, 1, to + t * joints * plan.out,
                             plan.out});
        }
        set_pivot(to, scratch);
        add_moments(to, plan.shorter, scratch);
        keep_moments(sample, 2, scratch.sums, scratch.pivot, plan.shorter * joints);
    }
};

}  // namespace

Index bf16_forward_bytes(const Bf16Plan& plan, int threads) {
    return forward_pass_bytes<Bf16Forward>(plan, threads);
}

}  // namespace stgcn

template <>
Status stgcn_block_forward(const StgcnBlock<float, BFloat16>& block,
                           const StgcnMaps<float, BFloat16>& to, int threads) {
    return stgcn::forward_pass<stgcn::Bf16Forward>(block, to, threads);
}

}  // namespace aimclr::cpu
