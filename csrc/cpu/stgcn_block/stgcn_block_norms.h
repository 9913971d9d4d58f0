// What the forward passes have in common, whatever the maps are made of: all but the convolutions.
#pragma once

#include <algorithm>
#include <type_traits>
#include <vector>

#include "cpu/pages.h"
#include "cpu/stgcn_block/stgcn_block.h"
#include "cpu/stgcn_block/stgcn_block_plan.h"

namespace aimclr::cpu::stgcn {

template <typename T, typename M = T, typename P = Plan>
struct ForwardNorms {
    using PlanOf = P;

    const P plan;
    const StgcnBlock<T, M> block;
    const StgcnMaps<T, M> maps;

    Graph<T> graph;
    T* joint_bias;     // [V][out]
    T *scale, *shift;  // [norms][out]
    double* moments;   // [batch][norms][2][out]: mean and sum of squares around it, by sample

    ForwardNorms(const P& plan_, const StgcnBlock<T, M>& block_, const StgcnMaps<T, M>& maps_,
                 Arena& arena)
        : plan(plan_), block(block_), maps(maps_), graph(plan_, arena) {
        joint_bias = arena.take<T>(plan.joints * plan.out);
        scale = arena.take<T>(plan.norms * plan.out);
        shift = arena.take<T>(plan.norms * plan.out);
        moments = arena.take<double>(plan.batch * plan.norms * 2 * plan.out);
    }

    bool training() const {
        return block.running == nullptr;
    }

    void prepare_graph() {
        const Index out = plan.out;
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

    // From the maps and the shortcut of a sample to y; `frame` is the kernel of the level.
    template <typename Kernel>
    void finish_with(const Kernel& frame, Index sample, const M* map, const M* shortcut) const {
        const Index out = plan.out, row = plan.joints * out;
        const M* const input = block.identity ? block.x + sample * plan.short_map() : nullptr;
        for (Index t = 0; t < plan.shorter; ++t) {
            const Index at = sample * plan.short_map() + t * row;
            Finish<T, M> call{};
            call.map = map + t * row;
            call.scale = scale + out;
            call.shift = shift + out;
            call.keep = kept_from(block, at);
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
            frame(call);
        }
    }
};

// Runs a pass (a ForwardNorms with the convolutions) over all samples.
template <typename Pass>
void run_forward(const Pass& pass, const typename Pass::Scratch* scratch, int threads) {
    using M = std::remove_pointer_t<decltype(pass.maps.y)>;
    const auto& plan = pass.plan;
    const auto& maps = pass.maps;
    const auto of = [](M* map, Index sample, Index size, M* otherwise) {
        return map ? map + sample * size : otherwise;
    };
    const Index map = plan.map(), short_map = plan.short_map(), size = plan.group(threads);
    const auto groups = [&](const auto& body) {
        for_each((plan.batch + size - 1) / size, threads, [&](Index group, Index worker) {
            const Index first = group * size;
            body(first, std::min(size, plan.batch - first), scratch[worker]);
        });
    };
    if (!pass.training()) {  // no statistics to wait for
        for (Index norm = 0; norm < plan.norms; ++norm) {
            pass.normalize(norm);
        }
        groups([&](Index first, Index count, const typename Pass::Scratch& own) {
            M* const spatial = of(maps.spatial, first, map, own.spatial);
            M* const temporal = of(maps.temporal, first, short_map, own.temporal);
            M* const shortcut = of(maps.shortcut, first, short_map, own.shortcut);
            for (Index i = 0; i < count; ++i) {
                pass.convolve_joints(first + i, spatial + i * map, own);
            }
            pass.convolve_time(first, count, spatial, temporal, shortcut, own);
            for (Index i = 0; i < count; ++i) {
                pass.finish_with(pass.kernels.finish, first + i, temporal + i * short_map,
                                 shortcut + i * short_map);
            }
        });
        return;
    }
    for_each(plan.batch, threads, [&](Index b, Index worker) {
        pass.convolve_joints(b, maps.spatial + b * map, scratch[worker]);
    });
    pass.normalize(0);
    groups([&](Index first, Index count, const typename Pass::Scratch& own) {
        pass.convolve_time(first, count, maps.spatial + first * map,
                           maps.temporal + first * short_map, maps.shortcut + first * short_map,
                           own);
    });
    for (Index norm = 1; norm < plan.norms; ++norm) {
        pass.normalize(norm);
    }
    for_each(plan.batch, threads, [&](Index b, Index) {
        pass.finish_with(pass.kernels.finish, b, maps.temporal + b * short_map,
                         maps.shortcut + b * short_map);
    });
}

template <typename Pass>
Index forward_pass_bytes(const typename Pass::PlanOf& plan, int threads) {
    Arena arena(nullptr);
    Pass(plan, {}, {}, arena);
    for (int i = 0; i < threads; ++i) {
        typename Pass::Scratch(plan, threads, arena);
    }
    return arena.bytes();
}

// The whole of a forward pass, with all checks.
template <typename Pass, typename T, typename M>
Status forward_pass(const StgcnBlock<T, M>& block, const StgcnMaps<T, M>& to, int threads) {
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
    const typename Pass::PlanOf plan(block.shape, residual);
    Arena arena(block.workspace);
    Pass pass(plan, block, to, arena);
    std::vector<typename Pass::Scratch> scratch;
    for (int i = 0; i < threads; ++i) {
        scratch.emplace_back(plan, threads, arena);
    }
    advise_huge_pages(static_cast<std::uint8_t*>(block.workspace), arena.bytes());
    advise_huge_pages(to.spatial, plan.batch * plan.map());
    for (M* map : {to.y, to.temporal, to.shortcut}) {
        advise_huge_pages(map, plan.batch * plan.short_map());
    }
    clear_scratch(plan, scratch.data(), threads);
    pass.prepare(threads);
    run_forward(pass, scratch.data(), threads);
    return {};
}

}  // namespace aimclr::cpu::stgcn
