// Elementwise work on frames of bfloat16, and sums over the edges of the graph. What stgcn_rows.h
// does for any element of a map is not repeated here.
#pragma once

#include "cpu/stgcn_block/stgcn_bf16_tile.h"
#include "cpu/stgcn_block/stgcn_rows.h"

namespace aimclr::cpu::stgcn {

// Writes value(joint, c) for all joints of a frame and channels [c, c + lanes).
template <typename Tl, typename Value>
AIMCLR_INLINE void write_rows(const Bf16Target& to, Index joints, Index c, const Value& value) {
    using Vec = typename Tl::Vec;
    for (Index joint = 0; joint < joints; joint += 2) {
        const bool two = joint + 1 < joints;
        const Vec first = value(joint), second = two ? value(joint + 1) : Vec{};
        if (to.rows != nullptr) {
            store<Tl>(to.rows + joint * to.rows_pitch + c, first);
            if (two) {
                store<Tl>(to.rows + (joint + 1) * to.rows_pitch + c, second);
            }
        }
        if (to.pairs != nullptr) {
            store_words<Tl>(to.pairs + joint / 2 * to.pairs_pitch + c,
                            pair_words<Tl>(first, second));
        }
    }
}

template <typename Tl>
void bf16_widen(const BFloat16* from, Index count, float* to) {
    Index i = 0;
    for (; i + Tl::kLanes <= count; i += Tl::kLanes) {
        store<Tl>(to + i, load<Tl>(from + i));
    }
    for (; i < count; ++i) {
        to[i] = bfloat16_to_float(from[i].bits);
    }
}

template <typename Tl>
AIMCLR_INLINE typename Tl::Vec activated(const Bf16Activation& call, Index at, Index c) {
    return rectified(load<Tl>(call.map + at) * load<Tl>(call.scale + c) + load<Tl>(call.shift + c));
}

template <typename Tl>
void bf16_activation(const Bf16Activation& call) {
    for (Index c = 0; c < call.channels; c += Tl::kLanes) {
        write_rows<Tl>(call.to, call.joints, c, [&](Index joint) {
            return activated<Tl>(call, joint * call.channels + c, c);
        });
    }
}

template <typename Tl>
AIMCLR_INLINE typename Tl::Vec norm_gradient(const Bf16NormBackward& call, Index at, Index c) {
    const auto centered = load<Tl>(call.map + at) - load<Tl>(call.mean + c);
    return load<Tl>(call.k0 + c) * load_incoming<Tl>(call.incoming, at) - load<Tl>(call.k1 + c) -
           load<Tl>(call.k2 + c) * centered;
}

template <typename Tl>
void bf16_norm_backward(const Bf16NormBackward& call) {
    for (Index c = 0; c < call.channels; c += Tl::kLanes) {
        write_rows<Tl>(call.to, call.joints, c, [&](Index joint) {
            const Index at = joint * call.channels + c;
            const auto grad = norm_gradient<Tl>(call, at, c);
            if (call.joint_sums != nullptr) {
                store<Tl>(call.joint_sums + at, load<Tl>(call.joint_sums + at) + grad);
            }
            return grad;
        });
    }
}

template <typename Tl>
void bf16_pairs(const Bf16Pairs& call) {
    using Of = Bf16Vec<Tl>;
    using Words = typename Of::Words;
    const Index channels = call.channels;
    for (Index joint = 0; joint < call.joints; joint += 2) {
        const bool two = joint + 1 < call.joints;
        const BFloat16* const row = call.x + joint * channels;
        Word* const to = call.pairs + joint / 2 * call.pitch;
        const auto words = [](const BFloat16* from) {
            return __builtin_convertvector(*reinterpret_cast<const typename Of::Halves*>(from),
                                           Words);
        };
        Index c = 0;
        for (; c + Tl::kLanes <= channels; c += Tl::kLanes) {
            const Words second = two ? words(row + channels + c) : Words{};
            store_words<Tl>(to + c, words(row + c) | second << 16);
        }
        for (; c < channels; ++c) {
            const std::uint32_t second = two ? row[channels + c].bits : 0;
            to[c] = row[c].bits | second << 16;
        }
    }
}

template <typename Tl>
void bf16_gather(const Edges<float>& edges, const Bf16Gather& call) {
    const Index channels = call.channels, parts = edges.parts;
    const auto sum = [&](auto zero, Index joint, Index part, Index c, const auto& read) {
        const Index group = joint * parts + part;
        for (Index edge = edges.first[group]; edge < edges.first[group + 1]; ++edge) {
            zero += read(call.x + edges.from[edge] * channels + c) * edges.weight[edge];
        }
        return zero;
    };
    for (Index part = 0; part < parts; ++part) {
        Index c = 0;
        for (; c + Tl::kLanes <= channels; c += Tl::kLanes) {
            write_rows<Tl>(call.to, edges.joints, part * channels + c, [&](Index joint) {
                return sum(typename Tl::Vec{}, joint, part, c,
                           [](const float* x) { return load<Tl>(x); });
            });
        }
        for (; c < channels; ++c) {  // a network's input has few
            using One = Tile<float, sizeof(float)>;
            write_rows<One>(call.to, edges.joints, part * channels + c, [&](Index joint) {
                return sum(typename One::Vec{}, joint, part, c,
                           [](const float* x) { return load<One>(x); });
            });
        }
    }
}

template <typename Tl>
AIMCLR_INLINE void scatter_channels(const Bf16Edges& edges, const Bf16Scatter& call, Index joint,
                                    Index c) {
    using Vec = typename Tl::Vec;
    const Index at = joint * call.channels + c;
    const Vec x = load<Tl>(call.x + at);
    Vec sum = {};
    if (call.incoming.grad != nullptr) {
        sum = load_incoming<Tl>(call.incoming, at);
    } else if (call.start != nullptr) {
        sum = load<Tl>(call.start + joint * call.start_pitch + c);
    }
    for (Index i = edges.first[joint]; i < edges.first[joint + 1]; ++i) {
        const Vec grad =
            load<Tl>(call.grad + edges.to[i] * call.grad_pitch + edges.part[i] * call.channels + c);
        sum += edges.weight[i] * grad;
        float* const edge_sum = call.edge_sums + edges.edge[i] * kMaxLanes;
        store<Tl>(edge_sum, load<Tl>(edge_sum) + x * grad);
    }
    store<Tl>(call.dx + at, sum);
}

template <typename Tl>
void bf16_scatter(const Bf16Edges& edges, const Bf16Scatter& call) {
    for (Index joint = 0; joint < edges.joints; ++joint) {
        Index c = 0;
        for (; c + Tl::kLanes <= call.channels; c += Tl::kLanes) {
            scatter_channels<Tl>(edges, call, joint, c);
        }
        for (; c < call.channels; ++c) {
            scatter_channels<Tile<float, sizeof(float)>>(edges, call, joint, c);
        }
    }
}

}  // namespace aimclr::cpu::stgcn
