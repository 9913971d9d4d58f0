// Elementwise work on the rows of a frame: norms, ReLUs, their sums and gradients, and the
// transposition from rows to columns.
#pragma once

#include <type_traits>

#include "cpu/stgcn_block/stgcn_vector.h"

namespace aimclr::cpu::stgcn {

template <typename Vec>
AIMCLR_INLINE Vec rectified(Vec x) {
    return x < 0 ? Vec{} : x;  // NaN stays
}

// Transposes a square of vectors: log2(lanes) rounds of exchanges between rows.
template <typename Tl>
AIMCLR_INLINE void transpose(typename Tl::Vec (&m)[Tl::kLanes]) {
    constexpr int kLanes = Tl::kLanes;
    using Vec = typename Tl::Vec;
#ifdef __clang__  // it has no shuffle by a vector of indices
    for (int i = 0; i < kLanes; ++i) {
        for (int j = 0; j < i; ++j) {
            const auto lane = m[i][j];
            m[i][j] = m[j][i];
            m[j][i] = lane;
        }
    }
#else
    using Lane = std::conditional_t<sizeof(m[0][0]) == 4, std::int32_t, std::int64_t>;
    using Lanes [[gnu::vector_size(sizeof(Vec))]] = Lane;
#pragma GCC unroll 4
    for (int step = 1; step < kLanes; step *= 2) {
        Lanes low, high;
#pragma GCC unroll 16
        for (int i = 0; i < kLanes; ++i) {
            const bool second = (i & step) != 0;
            low[i] = second ? kLanes + i - step : i;
            high[i] = second ? kLanes + i : i + step;
        }
#pragma GCC unroll 16
        for (int i = 0; i < kLanes; ++i) {
            if ((i & step) == 0) {
                const Vec a = m[i], b = m[i + step];
                m[i] = __builtin_shuffle(a, b, low);
                m[i + step] = __builtin_shuffle(a, b, high);
            }
        }
    }
#endif
}

// columns[c][joint] = value(joint, c), a vector of channels at a time. The last square of a frame
// overlaps the one before; where there is only one, lanes beyond the joints are zeros.
template <typename Tl, typename T, typename Value>
AIMCLR_INLINE void to_columns(Index joints, Index channels, T* columns, Index pitch,
                              const Value& value) {
    constexpr Index kLanes = Tl::kLanes;
    typename Tl::Vec square[kLanes];
    for (Index c = 0; c < channels; c += kLanes) {
        for (Index next = 0; next < joints; next += kLanes) {
            const Index joint = next + kLanes <= joints ? next : joints - kLanes;
            if (joint >= 0) {
#pragma GCC unroll 16
                for (Index j = 0; j < kLanes; ++j) {
                    square[j] = value(joint + j, c);
                }
            } else {
                for (Index j = 0; j < kLanes; ++j) {
                    square[j] = j < joints ? value(j, c) : typename Tl::Vec{};
                }
            }
            transpose<Tl>(square);
            T* const to = columns + c * pitch + (joint < 0 ? 0 : joint);
#pragma GCC unroll 16
            for (Index j = 0; j < kLanes; ++j) {
                store<Tl>(to + j * pitch, square[j]);
            }
        }
    }
}

template <typename Tl, typename T>
void activation(const Activation<T>& call) {
    using Vec = typename Tl::Vec;
    if (call.channels % Tl::kLanes != 0) {  // a network's input: never normalized here
        for (Index c = 0; c < call.channels; ++c) {
            for (Index joint = 0; joint < call.joints; ++joint) {
                call.columns[c * call.pitch + joint] = call.map[joint * call.channels + c];
            }
        }
        return;
    }
    const auto value = [&](Index joint, Index c) {
        Vec x = load<Tl>(call.map + joint * call.channels + c);
        if (call.scale != nullptr) {
            x = rectified(x * load<Tl>(call.scale + c) + load<Tl>(call.shift + c));
        }
        return x;
    };
    if (call.columns != nullptr) {
        to_columns<Tl>(call.joints, call.channels, call.columns, call.pitch, value);
        return;
    }
    for (Index joint = 0; joint < call.joints; ++joint) {
        for (Index c = 0; c < call.channels; c += Tl::kLanes) {
            store<Tl>(call.rows + joint * call.rows_pitch + c, value(joint, c));
        }
    }
}

// Adds the lanes of `from` to doubles.
template <typename Tl, typename Vec>
AIMCLR_INLINE void widen_and_add(Vec from, double* to) {
    for (Index lane = 0; lane < Tl::kLanes; ++lane) {
        to[lane] += static_cast<double>(from[lane]);
    }
}

template <typename Tl, typename T, typename M>
void moments(const Moments<T, M>& call) {
    using Vec = typename Tl::Vec;
    for (Index c = 0; c < call.channels; c += Tl::kLanes) {
        const Vec pivot = load<Tl>(call.pivot + c);
        Vec sum = {}, square = {};
        for (Index joint = 0; joint < call.joints; ++joint) {
            const Vec x = load<Tl>(call.map + joint * call.channels + c) - pivot;
            sum += x;
            square += x * x;
        }
        widen_and_add<Tl>(sum, call.sums + c);
        widen_and_add<Tl>(square, call.sums + call.channels + c);
    }
}

template <typename Tl, typename T>
AIMCLR_INLINE typename Tl::Vec kept(const Keep<T>& keep, Index at) {
    using Octets [[gnu::vector_size(Tl::kLanes), gnu::may_alias, gnu::aligned(1)]] = std::uint8_t;
    using Vec = typename Tl::Vec;
    const Index first = keep.first + at;
    if (first <= keep.bytes - Tl::kLanes) {
        const Octets octets = *reinterpret_cast<const Octets*>(keep.data + first);
        return __builtin_convertvector(octets & keep.mask, Vec) * keep.scale;
    }
    T found[Tl::kLanes];  // at the end of a place in the bytes, or beyond
    for (Index lane = 0; lane < Tl::kLanes; ++lane) {
        const Index places = (first + lane) / keep.bytes, byte = (first + lane) % keep.bytes;
        const int bit = keep.data[byte] & (keep.mask << places);
        found[lane] = static_cast<T>(bit) * keep.scale / static_cast<T>(1 << places);
    }
    return load<Tl>(found);
}

template <typename Tl, typename T, typename M>
void finish(const Finish<T, M>& call) {
    using Vec = typename Tl::Vec;
    for (Index joint = 0; joint < call.joints; ++joint) {
        const Index row = joint * call.channels;
        for (Index c = 0; c < call.channels; c += Tl::kLanes) {
            Vec x =
                load<Tl>(call.map + row + c) * load<Tl>(call.scale + c) + load<Tl>(call.shift + c);
            if (call.keep.data != nullptr) {
                x *= kept<Tl>(call.keep, row + c);
            }
            if (call.shortcut != nullptr) {
                Vec add = load<Tl>(call.shortcut + row + c);
                if (call.shortcut_scale != nullptr) {
                    add =
                        add * load<Tl>(call.shortcut_scale + c) + load<Tl>(call.shortcut_shift + c);
                }
                x += add;
            }
            store<Tl>(call.y + row + c, rectified(x));
        }
    }
}

template <typename Tl, typename T, typename M>
AIMCLR_INLINE typename Tl::Vec load_incoming(const Incoming<T, M>& call, Index at) {
    using Vec = typename Tl::Vec;
    Vec grad = load<Tl>(call.grad + at);
    if (call.y != nullptr) {
        grad = load<Tl>(call.y + at) <= 0 ? Vec{} : grad;
    }
    if (call.keep.data != nullptr) {
        grad *= kept<Tl>(call.keep, at);
    }
    return grad;
}

template <typename Tl, typename T, typename M>
void norm_sums(const NormSums<T, M>& call) {
    using Vec = typename Tl::Vec;
    for (Index c = 0; c < call.channels; c += Tl::kLanes) {
        const Vec mean = load<Tl>(call.mean + c);
        Vec sum = {}, product = {};
        for (Index joint = 0; joint < call.joints; ++joint) {
            const Index at = joint * call.channels + c;
            const Vec grad = load_incoming<Tl>(call.incoming, at);
            sum += grad;
            product += grad * (load<Tl>(call.map + at) - mean);
        }
        widen_and_add<Tl>(sum, call.sums + c);
        widen_and_add<Tl>(product, call.sums + call.channels + c);
    }
}

template <typename Tl, typename T>
void norm_backward(const NormBackward<T>& call) {
    using Vec = typename Tl::Vec;
    for (Index joint = 0; joint < call.joints; ++joint) {
        for (Index c = 0; c < call.channels; c += Tl::kLanes) {
            const Index at = joint * call.channels + c;
            const Vec centered = load<Tl>(call.map + at) - load<Tl>(call.mean + c);
            store<Tl>(call.rows + joint * call.rows_pitch + c,
                      load<Tl>(call.k0 + c) * load_incoming<Tl>(call.incoming, at) -
                          load<Tl>(call.k1 + c) - load<Tl>(call.k2 + c) * centered);
        }
    }
}

template <typename Tl, typename T, typename M>
void relu_backward(const ReluBackward<T, M>& call) {
    using Vec = typename Tl::Vec;
    for (Index c = 0; c < call.channels; c += Tl::kLanes) {
        const Vec mean = load<Tl>(call.mean + c);
        const Vec scale = load<Tl>(call.scale + c), shift = load<Tl>(call.shift + c);
        Vec sum = {}, product = {};
        for (Index joint = 0; joint < call.joints; ++joint) {
            const Index at = joint * call.channels + c;
            const Vec x = load<Tl>(call.map + at);
            const Vec grad = x * scale + shift <= 0 ? Vec{} : load<Tl>(call.grad + at);
            store<Tl>(call.grad + at, grad);
            sum += grad;
            product += grad * (x - mean);
        }
        widen_and_add<Tl>(sum, call.sums + c);
        widen_and_add<Tl>(product, call.sums + call.channels + c);
    }
}

template <typename Tl, typename T>
void mask(const Mask<T>& call) {
    Index i = 0;
    for (; i + Tl::kLanes <= call.count; i += Tl::kLanes) {
        store<Tl>(call.to + i, load_incoming<Tl>(call.incoming, i));
    }
    for (; i < call.count; ++i) {
        call.to[i] = call.incoming.y[i] <= 0 ? T{0} : call.incoming.grad[i];
    }
}

template <typename Tl, typename T>
void add(const Add<T>& call) {
    for (Index i = 0; i < call.count; ++i) {
        call.to[i] += call.from[i];
    }
}

}  // namespace aimclr::cpu::stgcn
