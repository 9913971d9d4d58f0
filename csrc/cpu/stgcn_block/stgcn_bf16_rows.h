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
void bf16_widen(const BFloat16* from, Index rows, Index channels, float* to, Index pitch) {
    for (Index row = 0; row < rows; ++row) {
        Index c = 0;
        for (; c + Tl::kLanes <= channels; c += Tl::kLanes) {
            store<Tl>(to + row * pitch + c, load<Tl>(from + row * channels + c));
        }
        for (; c < channels; ++c) {
            to[row * pitch + c] = bfloat16_to_float(from[row * channels + c].bits);
        }
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

// Where channels fill no vector, the last ones have lanes of zeros in x; what these write is
// overwritten by the next part or joint, or lies after the last.
template <typename Tl>
void bf16_gather(const Edges<float>& graph, const Bf16Gather& given) {
    using Vec = typename Tl::Vec;
    const Edges<float> edges = graph;
    const Bf16Gather call = given;
    const auto sum = [&](Index joint, Index part, Index c) {
        const Index group = joint * edges.parts + part;
        Vec total = {};
        for (Index edge = edges.first[group]; edge < edges.first[group + 1]; ++edge) {
            total += load<Tl>(call.x + edges.from[edge] * call.x_pitch + c) * edges.weight[edge];
        }
        return total;
    };
    for (Index joint = 0; joint < edges.joints; joint += call.to.rows != nullptr ? 1 : 2) {
        for (Index part = 0; part < edges.parts; ++part) {
            for (Index c = 0; c < call.channels; c += Tl::kLanes) {
                const Index at = part * call.channels + c;
                const Vec first = sum(joint, part, c);
                if (call.to.rows != nullptr) {
                    store<Tl>(call.to.rows + joint * call.to.rows_pitch + at, first);
                    continue;
                }
                const Vec second = joint + 1 < edges.joints ? sum(joint + 1, part, c) : Vec{};
                store_words<Tl>(call.to.pairs + joint / 2 * call.to.pairs_pitch + at,
                                pair_words<Tl>(first, second));
            }
        }
    }
}

// Channels from `c` of what reaches a joint: a vector, or with `kRest` its first `rest` lanes.
template <typename Tl, bool kRest>
AIMCLR_INLINE void scatter_channels(const Bf16Edges& edges, const Bf16Scatter& call, Index joint,
                                    Index c) {
    using Vec = typename Tl::Vec;
    using Words = typename Bf16Vec<Tl>::Words;
    const Index rest = call.channels - c;
    Words mask = {};
    for (Index lane = 0; kRest && lane < rest; ++lane) {
        mask[lane] = ~0u;
    }
    const auto masked = [&](Vec x) {
        return kRest ? reinterpret_cast<Vec>(reinterpret_cast<Words>(x) & mask) : x;
    };
    const Vec x = load<Tl>(call.x + joint * call.x_pitch + c);
    Vec sum = {};
    if (!kRest && call.incoming.grad != nullptr) {
        sum = load_incoming<Tl>(call.incoming, joint * call.channels + c);
    } else if (call.start != nullptr) {
        sum = load<Tl>(call.start + joint * call.start_pitch + c);
    }
    for (Index i = edges.first[joint]; i < edges.first[joint + 1]; ++i) {
        const Vec grad = masked(load<Tl>(call.grad + edges.grad[i] + c));
        sum += edges.weight[i] * grad;
        float* const edge_sum = call.edge_sums + i * kMaxLanes;
        store<Tl>(edge_sum, load<Tl>(edge_sum) + x * grad);
    }
    BFloat16* const to = call.dx + joint * call.channels + c;
    if constexpr (kRest) {
        for (Index lane = 0; lane < rest; ++lane) {
            to[lane] = {float_to_bfloat16(sum[lane])};
        }
    } else {
        store<Tl>(to, sum);
    }
}

template <typename Tl>
void bf16_scatter(const Bf16Edges& graph, const Bf16Scatter& given) {
    const Bf16Edges edges = graph;
    const Bf16Scatter call = given;
    for (Index joint = 0; joint < edges.joints; ++joint) {
        Index c = 0;
        for (; c + Tl::kLanes <= call.channels; c += Tl::kLanes) {
            scatter_channels<Tl, false>(edges, call, joint, c);
        }
        if (c < call.channels) {
            scatter_channels<Tl, true>(edges, call, joint, c);
        }
    }
}

}  // namespace aimclr::cpu::stgcn
