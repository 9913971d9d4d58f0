// Sums over the edges of the graph, and their gradients (see Gather and Scatter).
#pragma once

#include "cpu/stgcn_block/stgcn_rows.h"

namespace aimclr::cpu::stgcn {

template <typename Tl, typename T>
AIMCLR_INLINE typename Tl::Vec gather_one(const Edges<T>& edges, Index group, const T* x,
                                          Index channels) {
    typename Tl::Vec sum = {};
    for (Index edge = edges.first[group]; edge < edges.first[group + 1]; ++edge) {
        sum += load<Tl>(x + edges.from[edge] * channels) * edges.weight[edge];
    }
    return sum;
}

template <typename Tl, typename T>
void gather(const Edges<T>& edges, const Gather<T>& call) {
    const Index channels = call.channels;
    if (channels % Tl::kLanes != 0) {  // a network's input has few
        for (Index group = 0; group < edges.joints * edges.parts; ++group) {
            const Index joint = group / edges.parts, first = group % edges.parts * channels;
            for (Index c = 0; c < channels; ++c) {
                T sum{0};
                for (Index edge = edges.first[group]; edge < edges.first[group + 1]; ++edge) {
                    sum += call.x[edges.from[edge] * channels + c] * edges.weight[edge];
                }
                if (call.columns != nullptr) {
                    call.columns[(first + c) * call.pitch + joint] = sum;
                } else {
                    call.rows[joint * call.rows_pitch + first + c] = sum;
                }
            }
        }
        return;
    }
    for (Index part = 0; part < edges.parts; ++part) {
        const auto value = [&](Index joint, Index c) {
            return gather_one<Tl>(edges, joint * edges.parts + part, call.x + c, channels);
        };
        if (call.columns != nullptr) {
            to_columns<Tl>(edges.joints, channels, call.columns + part * channels * call.pitch,
                           call.pitch, value);
            continue;
        }
        for (Index joint = 0; joint < edges.joints; ++joint) {
            T* const to = call.rows + joint * call.rows_pitch + part * channels;
            for (Index c = 0; c < channels; c += Tl::kLanes) {
                store<Tl>(to + c, value(joint, c));
            }
        }
    }
}

template <typename Tl, typename T>
void scatter(const Edges<T>& edges, const Scatter<T>& call) {
    using Vec = typename Tl::Vec;
    const Index channels = call.channels;
    const bool whole = channels % Tl::kLanes == 0;
    for (Index group = 0; group < edges.joints * edges.parts; ++group) {
        const T* const grad =
            call.grad + group / edges.parts * call.grad_pitch + group % edges.parts * channels;
        for (Index edge = edges.first[group]; edge < edges.first[group + 1]; ++edge) {
            const T* const x = call.x + edges.from[edge] * channels;
            T* const dx = call.dx + edges.from[edge] * channels;
            T* const sums = call.edge_sums + edge * Tl::kLanes;
            const T weight = edges.weight[edge];
            if (!whole) {
                for (Index c = 0; c < channels; ++c) {
                    dx[c] += weight * grad[c];
                    sums[0] += x[c] * grad[c];
                }
                continue;
            }
            Vec sum = load<Tl>(sums);
            for (Index c = 0; c < channels; c += Tl::kLanes) {
                const Vec g = load<Tl>(grad + c);
                store<Tl>(dx + c, load<Tl>(dx + c) + weight * g);
                sum += load<Tl>(x + c) * g;
            }
            store<Tl>(sums, sum);
        }
    }
}

}  // namespace aimclr::cpu::stgcn
