#include <vector>

#include "cpu/pages.h"
#include "cpu/stgcn_block/stgcn_block.h"
#include "cpu/stgcn_block/stgcn_block_plan.h"
#include "cpu/stgcn_block/stgcn_gemm.h"

namespace aimclr::cpu {
namespace stgcn {
namespace {

template <typename T>
struct Scratch {
    T *columns, *activated;            // of a frame's inputs, of a sample after the spatial norm
    T *spatial, *temporal, *shortcut;  // a group's maps, where they are not kept
    double* sums;                      // [2][out]
    T *inputs, *products;              // of a group's spectral convolution

    Scratch(const Plan& plan, int threads, Arena& arena) {
        const Index group = plan.group(threads);
        columns = arena.take<T>(plan.wide_inputs * plan.pitch);
        activated = arena.take<T>(plan.frames * plan.out * plan.pitch);
        spatial = arena.take<T>(group * plan.map());
        temporal = arena.take<T>(group * plan.short_map());
        shortcut = arena.take<T>(plan.residual ? group * plan.short_map() : 0);
        sums = arena.take<double>(2 * plan.out);
        const Spectral<T> spectral = plan.spectral<T>();
        inputs = arena.take<T>(plan.use_spectral() ? spectral.inputs_size(group) : 0);
        products = arena.take<T>(plan.use_spectral() ? spectral.products_size(group) : 0);
    }
};

template <typename T>
struct Forward {
    const Plan plan;
    Kernels<T> kernels{};
    const StgcnBlock<T> block;
    const StgcnMaps<T> maps;

    Graph<T> graph;
    T *joint_bias, *packed_spatial, *packed_temporal, *packed_residual;
    SpectralWeights<T> spectral_weights;
    T *scale, *shift;  // [norms][out]
    double* moments;   // [batch][norms][2][out]: mean and sum of squares around it, by sample

    Forward(const Plan& plan_, const StgcnBlock<T>& block_, const StgcnMaps<T>& maps_, Arena& arena)
        : plan(plan_),
          block(block_),
          maps(maps_),
          graph(plan_, arena),
          spectral_weights(plan_, arena) {
        joint_bias = arena.take<T>(plan.joints * plan.out);
        packed_spatial = arena.take<T>(plan.inputs * plan.out);
        packed_temporal = arena.take<T>(plan.taps * plan.out * plan.out);
        packed_residual = arena.take<T>(plan.residual ? plan.in * plan.out : 0);
        scale = arena.take<T>(plan.norms * plan.out);
        shift = arena.take<T>(plan.norms * plan.out);
        moments = arena.take<double>(plan.batch * plan.norms * 2 * plan.out);
    }

    bool training() const {
        return block.running == nullptr;
    }

    void prepare(int threads) {
        const Index out = plan.out, taps = plan.taps, in = plan.in;
        graph.fill(plan, block.adjacency);
        std::fill_n(joint_bias, plan.joints * out, T{0});
        for (Index group = 0; group < plan.joints * plan.parts; ++group) {
            T total{0};
            for (Index edge = graph.first[group]; edge < graph.first[group + 1]; ++edge) {
                total += graph.weight[edge];
            }
            const T* const bias = block.spatial_bias + group % plan.parts * out;
            for (Index c = 0; c < out; ++c) {
                joint_bias[group / plan.parts * out + c] += total * bias[c];
            }
        }
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

    // From sums of a sample's `count` rows around a pivot to its mean and squares around that.
    void keep_moments(Index sample, Index norm, const double* sums, const T* pivot,
                      Index count) const {
        double* const to = moments + (sample * plan.norms + norm) * 2 * plan.out;
        for (Index c = 0; training() && c < plan.out; ++c) {
            const double mean = sums[c] / static_cast<double>(count);
            to[c] = static_cast<double>(pivot[c]) + mean;
            to[plan.out + c] = std::max(sums[plan.out + c] - mean * sums[c], 0.0);
        }
    }

    void convolve_joints(Index sample, T* to, const Scratch<T>& scratch) const {
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
        keep_moments(sample, 0, scratch.sums, to, plan.frames * plan.joints);
    }

    void activate(const T* from, const Scratch<T>& scratch) const {
        const Index out = plan.out, joints = plan.joints;
        for (Index t = 0; t < plan.frames; ++t) {
            kernels.activation({from + t * joints * out, scale, shift, joints, out,
                                scratch.activated + t * out * plan.pitch, plan.pitch, nullptr, 0});
        }
    }

    // Of `count` samples, between maps of the batch or of the scratch.
    void convolve_time(Index first, Index count, const T* from, T* to, T* shortcut,
                       const Scratch<T>& scratch) const {
        const Spectral<T> spectral = plan.spectral<T>();
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
            keep_moments(first + i, 1, scratch.sums, map, plan.shorter * plan.joints);
            if (plan.residual) {
                convolve_residual(first + i, shortcut + i * plan.short_map(), scratch);
            }
        }
    }

    void convolve_frames(T* to, const Scratch<T>& scratch) const {
        const Index out = plan.out;
        for (Index t = 0; t < plan.shorter; ++t) {
            const Plan::Reach reach = plan.reach(t);
            multiply({scratch.activated + reach.frame * out * plan.pitch, plan.pitch, plan.joints,
                      reach.taps * out, packed_temporal, plan.taps * out, reach.tap * out, out,
                      block.temporal_bias, 0, to + t * plan.joints * out, out},
                     to, scratch.sums);
        }
    }

    void convolve_residual(Index sample, T* to, const Scratch<T>& scratch) const {
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
        keep_moments(sample, 2, scratch.sums, to, plan.shorter * joints);
    }

    void finish(Index sample, const T* map, const T* shortcut) const {
        const Index out = plan.out, row = plan.joints * out;
        const T* const input = block.identity ? block.x + sample * plan.short_map() : nullptr;
        for (Index t = 0; t < plan.shorter; ++t) {
            const Index at = sample * plan.short_map() + t * row;
            Finish<T> call{};
            call.map = map + t * row;
            call.scale = scale + out;
            call.shift = shift + out;
            call.keep = block.keep ? block.keep + at : nullptr;
            call.keep_scale = static_cast<T>(block.scale);
            if (plan.residual) {
                call.shortcut = shortcut + t * row;
                call.shortcut_scale = scale + 2 * out;
                call.shortcut_shift = shift + 2 * out;
            } else if (block.identity) {
                call.shortcut = input + t * row;
            }
            call.joints = plan.joints;
            call.channels = out;
            call.y = maps.y + at;
            kernels.finish(call);
        }
    }

    // Statistics of the batch from those of its samples (Chan et al.), or the running ones.
    void normalize(Index norm) const {
        const Index out = plan.out;
        const double rows =
            static_cast<double>((norm == 0 ? plan.frames : plan.shorter) * plan.joints);
        for (Index c = 0; c < out; ++c) {
            const Index at = norm * 2 * out + c;
            if (training()) {
                double mean = 0.0, squares = 0.0;
                for (Index b = 0; b < plan.batch; ++b) {
                    const double* const of = moments + b * plan.norms * 2 * out + at;
                    const double step = of[0] - mean, before = static_cast<double>(b);
                    mean += step / (before + 1.0);
                    squares += of[out] + step * step * rows * before / (before + 1.0);
                }
                maps.statistics[at] = static_cast<T>(mean);
                maps.statistics[at + out] =
                    static_cast<T>(squares / (rows * static_cast<double>(plan.batch)));
            } else {
                maps.statistics[at] = block.running[at];
                maps.statistics[at + out] = block.running[at + out];
            }
        }
        norm_coefficients(block.norms + norm * 2 * out, maps.statistics + norm * 2 * out, out,
                          block.eps, scale + norm * out, shift + norm * out);
    }

    void run(const Scratch<T>* scratch, int threads) const {
        const auto of = [](T* map, Index sample, Index size, T* otherwise) {
            return map ? map + sample * size : otherwise;
        };
        const Index map = plan.map(), short_map = plan.short_map(), size = plan.group(threads);
        const auto groups = [&](const auto& body) {
            for_each((plan.batch + size - 1) / size, threads, [&](Index group, Index worker) {
                const Index first = group * size;
                body(first, std::min(size, plan.batch - first), scratch[worker]);
            });
        };
        if (!training()) {  // no statistics to wait for
            for (Index norm = 0; norm < plan.norms; ++norm) {
                normalize(norm);
            }
            groups([&](Index first, Index count, const Scratch<T>& own) {
                T* const spatial = of(maps.spatial, first, map, own.spatial);
                T* const temporal = of(maps.temporal, first, short_map, own.temporal);
                T* const shortcut = of(maps.shortcut, first, short_map, own.shortcut);
                for (Index i = 0; i < count; ++i) {
                    convolve_joints(first + i, spatial + i * map, own);
                }
                convolve_time(first, count, spatial, temporal, shortcut, own);
                for (Index i = 0; i < count; ++i) {
                    finish(first + i, temporal + i * short_map, shortcut + i * short_map);
                }
            });
            return;
        }
        for_each(plan.batch, threads, [&](Index b, Index worker) {
            convolve_joints(b, maps.spatial + b * map, scratch[worker]);
        });
        normalize(0);
        groups([&](Index first, Index count, const Scratch<T>& own) {
            convolve_time(first, count, maps.spatial + first * map,
                          maps.temporal + first * short_map, maps.shortcut + first * short_map,
                          own);
        });
        for (Index norm = 1; norm < plan.norms; ++norm) {
            normalize(norm);
        }
        for_each(plan.batch, threads, [&](Index b, Index) {
            finish(b, maps.temporal + b * short_map, maps.shortcut + b * short_map);
        });
    }
};

}  // namespace

// Bytes of workspace of the forward pass.
template <typename T>
Index forward_bytes(const Plan& plan, int threads) {
    Arena arena(nullptr);
    Forward<T>(plan, {}, {}, arena);
    for (int i = 0; i < threads; ++i) {
        Scratch<T>(plan, threads, arena);
    }
    return arena.bytes();
}

template Index forward_bytes<float>(const Plan&, int);
template Index forward_bytes<double>(const Plan&, int);

}  // namespace stgcn

template <typename T>
Status stgcn_block_forward(const StgcnBlock<T>& block, const StgcnMaps<T>& to, int threads) {
    using namespace stgcn;
    AIMCLR_RETURN_IF_ERROR(check_shape(block.shape, block.workspace, threads));
    const void* const pointers[] = {block.x,
                                    block.adjacency,
                                    block.spatial_weight,
                                    block.spatial_bias,
                                    block.temporal_weight,
                                    block.temporal_bias,
                                    block.norms,
                                    to.y,
                                    to.statistics};
    const bool residual = block.residual_weight != nullptr;
    const bool kept =
        to.spatial != nullptr && to.temporal != nullptr && (to.shortcut != nullptr || !residual);
    if (has_null(pointers) || (residual && block.residual_bias == nullptr) ||
        (block.running == nullptr && !kept)) {
        return invalid_argument("stgcn_block: null pointer");
    }
    const Plan plan(block.shape, residual);
    Arena arena(block.workspace);
    Forward<T> call(plan, block, to, arena);
    std::vector<Scratch<T>> scratch;
    for (int i = 0; i < threads; ++i) {
        scratch.emplace_back(plan, threads, arena);
    }
    advise_huge_pages(static_cast<std::uint8_t*>(block.workspace), arena.bytes());
    advise_huge_pages(to.spatial, plan.batch * plan.map());
    for (T* map : {to.y, to.temporal, to.shortcut}) {
        advise_huge_pages(map, plan.batch * plan.short_map());
    }
    call.kernels = choose_kernels<T>(plan.out);
    call.prepare(threads);
    call.run(scratch.data(), threads);
    return {};
}

template Status stgcn_block_forward(const StgcnBlock<float>&, const StgcnMaps<float>&, int);
template Status stgcn_block_forward(const StgcnBlock<double>&, const StgcnMaps<double>&, int);

}  // namespace aimclr::cpu
