// What the backward passes have in common, whatever the maps are made of: all but the gradients of
// the convolutions.
#pragma once

#include <algorithm>
#include <cmath>
#include <type_traits>
#include <vector>

#include "cpu/pages.h"
#include "cpu/stgcn_block/stgcn_block.h"
#include "cpu/stgcn_block/stgcn_block_plan.h"

namespace aimclr::cpu::stgcn {

// Offsets of the weight gradients in a block of sums. The batch has one, and after it come those of
// the shares that are computed at a time; then, where only the batch has them, the gradients of the
// temporal convolution.
struct SumOffsets {
    Index temporal, spatial, residual, joints, total, all;
    Index at_a_time;

    SumOffsets(const Plan& plan, int threads) {
        constexpr Index kWorth = Index{1} << 20;             // elements: what fewer pauses may cost
        const Index taps = plan.taps * plan.out * plan.out;  // [taps][out][out]
        spatial = plan.by_planes ? 0 : taps;                 // [parts * in][out]
        residual = spatial + plan.inputs * plan.out;         // [in][out]
        joints = residual + (plan.residual ? plan.in * plan.out : 0);  // [V][out]
        total = round_up(joints + plan.joints * plan.out, kMaxLanes);
        const Index wanted = round_up(std::max<Index>(8 * threads, kWorth / total), threads);
        at_a_time = std::min(plan.shares, wanted);
        temporal = plan.by_planes ? (1 + at_a_time) * total : 0;
        all = (1 + at_a_time) * total + (plan.by_planes ? taps : 0);
    }
};

template <typename T, typename M = T, typename P = Plan>
struct BackwardSums {
    using PlanOf = P;

    const P plan;
    const SumOffsets offsets;
    const M* const grad_y;
    const StgcnBlock<T, M> block;
    const StgcnMaps<T, M> saved;
    const StgcnGradients<T, M> to;

    Graph<T> graph;
    T *scale, *shift, *k0, *k1, *k2;  // [norms][out]
    double* norm_sums;                // [batch][norms][2][out]
    T* totals;                        // [offsets.all]: [1 + at_a_time][offsets.total] and the rest
    double* edge_shares;              // [shares][edges]

    BackwardSums(const P& plan_, const M* grad_y_, const StgcnBlock<T, M>& block_,
                 const StgcnMaps<T, M>& saved_, const StgcnGradients<T, M>& to_, int threads,
                 Arena& arena)
        : plan(plan_),
          offsets(plan_, threads),
          grad_y(grad_y_),
          block(block_),
          saved(saved_),
          to(to_),
          graph(plan_, arena) {
        for (T** of : {&scale, &shift, &k0, &k1, &k2}) {
            *of = arena.take<T>(plan.norms * plan.out);
        }
        norm_sums = arena.take<double>(plan.batch * plan.norms * 2 * plan.out);
        totals = arena.take<T>(offsets.all);
        edge_shares = arena.take<double>(plan.shares * plan.parts * plan.joints * plan.joints);
    }

    bool training() const {
        return block.running == nullptr;
    }

    void prepare_norms() {
        const Index out = plan.out;
        graph.fill(plan, block.adjacency);
        for (Index norm = 0; norm < plan.norms; ++norm) {
            norm_coefficients(block.norms + norm * 2 * out, saved.statistics + norm * 2 * out, out,
                              block.eps, scale + norm * out, shift + norm * out);
        }
    }

    const T* mean(Index norm) const {
        return saved.statistics + norm * 2 * plan.out;
    }
    double* sums_of(Index sample, Index norm) const {
        return norm_sums + (sample * plan.norms + norm) * 2 * plan.out;
    }

    // The gradient of y, at element `at`, that reaches the temporal norm (through dropout) and the
    // residual branch.
    Incoming<T, M> upstream(Index at, bool dropped) const {
        return {grad_y + at, saved.y + at, dropped ? kept_from(block, at) : Keep<T>{}};
    }

    // The sums that the last norms' gradients need; `frame` is the kernel of the level.
    template <typename Kernel>
    void sum_last_norms(const Kernel& frame, Index sample) const {
        const Index row = plan.joints * plan.out;
        std::fill_n(sums_of(sample, 0), plan.norms * 2 * plan.out, 0.0);
        for (Index norm = 1; norm < plan.norms; ++norm) {
            const M* const map = norm == 1 ? saved.temporal : saved.shortcut;
            for (Index t = 0; t < plan.shorter; ++t) {
                const Index at = sample * plan.short_map() + t * row;
                frame({upstream(at, norm == 1), map + at, mean(norm), plan.joints, plan.out,
                       sums_of(sample, norm)});
            }
        }
    }

    // From the samples' sums to the gradients of a norm's weight and bias, and the coefficients of
    // its input's.
    void reduce(Index norm) const {
        const Index out = plan.out;
        const double rows = static_cast<double>(plan.batch * plan.joints *
                                                (norm == 0 ? plan.frames : plan.shorter));
        for (Index c = 0; c < out; ++c) {
            double sum = 0.0, product = 0.0;
            for (Index b = 0; b < plan.batch; ++b) {
                sum += sums_of(b, norm)[c];
                product += sums_of(b, norm)[out + c];
            }
            const Index at = norm * 2 * out + c;
            const double inverse =
                1.0 / std::sqrt(static_cast<double>(saved.statistics[at + out]) + block.eps);
            const double factor = static_cast<double>(block.norms[at]) * inverse;
            to.d_norms[at] = static_cast<T>(product * inverse);
            to.d_norms[at + out] = static_cast<T>(sum);
            k0[norm * out + c] = static_cast<T>(factor);
            k1[norm * out + c] = static_cast<T>(training() ? factor * sum / rows : 0.0);
            k2[norm * out + c] =
                static_cast<T>(training() ? factor * inverse * inverse * product / rows : 0.0);
        }
    }

    // Calls body(share, sums, worker) for each share, which adds to elements [begin, end) of
    // `sums`. They are added up in the order of the shares, however many are computed at a time.
    template <typename Body>
    void each_share(Index begin, Index end, void (*add)(const Add<T>&), int threads,
                    const Body& body) const {
        constexpr Index kSlice = 8192;
        for (Index first = 0; first < plan.shares; first += offsets.at_a_time) {
            const Index count = std::min(offsets.at_a_time, plan.shares - first);
            for_each(count, threads, [&](Index i, Index worker) {
                T* const sums = totals + (1 + i) * offsets.total;
                std::fill_n(sums + begin, end - begin, T{0});
                body(first + i, sums, worker);
            });
            for_each((end - begin + kSlice - 1) / kSlice, threads, [&](Index slice, Index) {
                const Index at = begin + slice * kSlice, size = std::min(kSlice, end - at);
                if (first == 0) {
                    std::fill_n(totals + at, size, T{0});
                }
                for (Index i = 1; i <= count; ++i) {
                    add({totals + i * offsets.total + at, totals + at, size});
                }
            });
        }
    }

    // Weight gradients in PyTorch's layout.
    void write_weights(int threads) const {
        const Index out = plan.out, in = plan.in, taps = plan.taps;
        for_each(out, threads, [&](Index c, Index) {
            for (Index row = 0; row < out; ++row) {
                for (Index tap = 0; tap < taps; ++tap) {
                    to.d_temporal_weight[(c * out + row) * taps + tap] =
                        totals[offsets.temporal + (tap * out + row) * out + c];
                }
            }
            for (Index row = 0; row < plan.inputs; ++row) {
                to.d_spatial_weight[(row / in * out + c) * in + row % in] =
                    totals[offsets.spatial + row * out + c];
            }
            for (Index row = 0; plan.residual && row < in; ++row) {
                to.d_residual_weight[c * in + row] = totals[offsets.residual + row * out + c];
            }
        });
    }

    // The spatial bias reaches joint w through the sum of its edges.
    void write_edges() const {
        const Index out = plan.out, parts = plan.parts;
        const T* const joint_sums = totals + offsets.joints;
        std::fill_n(to.d_spatial_bias, parts * out, T{0});
        std::fill_n(to.d_adjacency, parts * plan.joints * plan.joints, T{0});
        for (Index group = 0; group < plan.joints * parts; ++group) {
            const Index part = group % parts;
            const T* const sum = joint_sums + group / parts * out;
            double through = 0.0;
            for (Index c = 0; c < out; ++c) {
                through += static_cast<double>(block.spatial_bias[part * out + c]) *
                           static_cast<double>(sum[c]);
            }
            T weight{0};
            for (Index edge = graph.first[group]; edge < graph.first[group + 1]; ++edge) {
                double total = through;
                for (Index share = 0; share < plan.shares; ++share) {
                    total += edge_shares[share * graph.count + edge];
                }
                to.d_adjacency[graph.index[edge]] = static_cast<T>(total);
                weight += graph.weight[edge];
            }
            for (Index c = 0; c < out; ++c) {
                to.d_spatial_bias[part * out + c] += weight * sum[c];
            }
        }
    }

    // In training batch norm subtracts a bias again; in evaluation it passes on k0 of the sum.
    void write_bias(Index norm, T* d_bias) const {
        for (Index c = 0; c < plan.out; ++c) {
            d_bias[c] = training() ? T{0}
                                   : k0[norm * plan.out + c] *
                                         to.d_norms[norm * 2 * plan.out + plan.out + c];
        }
    }
};

// Products of the planes of a pass's samples. Sums over samples are in the order of the groups.
template <typename Pass>
void multiply_planes(const Pass& pass, Index samples, int threads) {
    using T = std::remove_pointer_t<decltype(pass.totals)>;
    const Index planes = pass.plan.template spectral<T>().planes(), out = pass.plan.out;
    const Index groups = (samples + kSpectralSamples - 1) / kSpectralSamples;
    const Index width = std::min(out, 4 * pass.kernels.lanes), slabs = (out + width - 1) / width;
    const Index outer = planes * slabs;
    for_each(outer + planes * groups, threads, [&](Index item, Index) {
        if (item >= outer) {
            pass.multiply_plane((item - outer) / groups, (item - outer) % groups, samples);
            return;
        }
        const Index plane = item / slabs, c = item % slabs * width;
        for (Index group = 0; group < groups; ++group) {
            pass.add_taps(plane, group, samples, c, std::min(width, out - c));
        }
    });
}

// The temporal convolution's gradients over frequencies. Threads share the samples of a pass, then
// the planes, whose products are of all samples, then the samples again.
template <typename Pass>
void spectral_backward(const Pass& pass, const typename Pass::Scratch* scratch, int threads) {
    using T = std::remove_pointer_t<decltype(pass.totals)>;
    const auto& plan = pass.plan;
    const Spectral<T> spectral = plan.template spectral<T>();
    const Index most = plan.pass_samples(threads), out = plan.out;
    T* const taps = pass.planes.taps;
    for_each(spectral.planes(), threads,
             [&](Index plane, Index) { std::fill_n(taps + plane * out * out, out * out, T{0}); });
    for (Index first = 0; first < plan.batch; first += most) {
        const Index samples = std::min(most, plan.batch - first);
        for_each(samples, threads, [&](Index index, Index worker) {
            pass.load_planes(first + index, index, samples, scratch[worker]);
        });
        multiply_planes(pass, samples, threads);
        for_each(samples, threads,
                 [&](Index index, Index) { pass.restore_planes(first + index, index, samples); });
    }
    constexpr Index kRows = 16;
    for_each((out + kRows - 1) / kRows, threads, [&](Index slice, Index) {
        const Index row = slice * kRows;
        pass.kernels.spectral_output({spectral.tap_waves(pass.spectral_weights.table),
                                      taps + row * out, out * out, nullptr,
                                      std::min(kRows, out - row), out,
                                      pass.totals + pass.offsets.temporal + row * out, out * out});
    });
}

// Runs a pass (a BackwardSums with the convolutions) over all samples.
template <typename Pass>
void run_backward(const Pass& pass, const typename Pass::Scratch* scratch, int threads) {
    using T = std::remove_pointer_t<decltype(pass.totals)>;
    const auto& plan = pass.plan;
    for_each(plan.batch, threads,
             [&](Index b, Index) { pass.sum_last_norms(pass.kernels.norm_sums, b); });
    for (Index norm = 1; norm < plan.norms; ++norm) {
        pass.reduce(norm);
    }
    if (plan.by_planes) {
        spectral_backward(pass, scratch, threads);
    } else {
        pass.each_share(0, pass.offsets.spatial, pass.kernels.add, threads,
                        [&](Index share, T* sums, Index worker) {
                            for (Index b = plan.first_sample(share);
                                 b < plan.first_sample(share + 1); ++b) {
                                pass.time_backward(b, sums, scratch[worker]);
                            }
                        });
    }
    pass.reduce(0);
    pass.each_share(pass.offsets.spatial, pass.offsets.total, pass.kernels.add, threads,
                    [&](Index share, T* sums, Index worker) {
                        double* const edges = pass.edge_shares + share * pass.graph.count;
                        std::fill_n(edges, pass.graph.count, 0.0);
                        for (Index b = plan.first_sample(share); b < plan.first_sample(share + 1);
                             ++b) {
                            pass.joints_backward(b, sums, edges, scratch[worker]);
                        }
                    });
}

template <typename Pass>
Index backward_pass_bytes(const typename Pass::PlanOf& plan, int threads) {
    Arena arena(nullptr);
    Pass(plan, nullptr, {}, {}, {}, threads, arena);
    for (int i = 0; i < threads; ++i) {
        typename Pass::Scratch(plan, arena);
    }
    return arena.bytes();
}

// The whole of a backward pass, with all checks.
template <typename Pass, typename T, typename M>
Status backward_pass(const M* grad_y, const StgcnBlock<T, M>& block, const StgcnMaps<T, M>& saved,
                     const StgcnGradients<T, M>& to, int threads) {
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
    const typename Pass::PlanOf plan(block.shape, block.residual_weight != nullptr);
    Arena arena(block.workspace);
    Pass pass(plan, grad_y, block, saved, to, threads, arena);
    std::vector<typename Pass::Scratch> scratch;
    for (int i = 0; i < threads; ++i) {
        scratch.emplace_back(plan, arena);
    }
    advise_huge_pages(static_cast<std::uint8_t*>(block.workspace), arena.bytes());
    advise_huge_pages(to.d_x, plan.batch * plan.frames * plan.joints * plan.in);
    clear_scratch(plan, scratch.data(), threads);
    pass.prepare(threads);
    run_backward(pass, scratch.data(), threads);
    pass.write_weights(threads);
    pass.write_edges();
    pass.write_bias(1, to.d_temporal_bias);
    if (plan.residual) {
        pass.write_bias(2, to.d_residual_bias);
    }
    return {};
}

}  // namespace aimclr::cpu::stgcn
