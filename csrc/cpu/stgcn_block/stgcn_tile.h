// stgcn_block's vectors, and the arguments of the kernels that are compiled once a level
// (stgcn_kernels.cpp). Everything else of the op is plain C++ on top of them.
//
// A frame is [V][C] in memory ("rows"), or [C][pitch] with pitch >= V a multiple of the lanes
// ("columns"): products broadcast one channel of all joints after the other, so they want columns.
#pragma once

#include <cstdint>
#include <utility>

#define AIMCLR_INLINE [[gnu::always_inline]] inline

namespace aimclr::cpu::stgcn {

using Index = std::int64_t;

inline constexpr Index kMaxLanes = 16;

// T computes, and M is an element of a map: T itself, or BFloat16 (stgcn_bf16_tile.h).

constexpr Index round_up(Index a, Index b) {
    return (a + b - 1) / b * b;
}

// Vectors of kBytes; every channel count that a kernel vectorizes is a multiple of the lanes.
template <typename T, int kBytes>
struct Tile {
    using Element = T;
    using Vec [[gnu::vector_size(kBytes), gnu::may_alias, gnu::aligned(alignof(T))]] = T;
    static constexpr Index kLanes = kBytes / sizeof(T);
    // Sums kept in registers: joints of a product, or input channels of an outer product, times one
    // or two vectors of output channels. AVX-512 has 32 registers, and so has 64-bit ARM, which
    // keeps what it broadcasts in some of them; the others have 16.
    static constexpr Index kOne = kBytes == 64 ? 26 : 12;
#ifdef __aarch64__
    static constexpr Index kTwo = 10;
#else
    static constexpr Index kTwo = kBytes == 64 ? 13 : 6;
#endif
};

// out[joint][c] = start[joint][c] + sum over i < length of columns[i][joint] * packed(i, c)
//
// Rows are columns with a pitch of 1, joint_step apart. Segments of `length` follow each other in
// the packed weights.
template <typename T>
struct Product {
    const T* columns;  // [length][pitch]
    Index pitch, joints, length;
    const T* packed;    // panels of two vectors of channels (the last of one or two), each
    Index panel_rows;   // [panel_rows][panel width]
    Index first_row;    // of the packed weights: the one of columns[0]
    Index width;        // output channels, a multiple of the lanes
    const T* start;     // null for zero
    Index start_pitch;  // 0 if all joints start alike
    T* out;
    Index out_pitch;
    Index joint_step = 1;
    Index segments = 1, segment_step = 0;
};

// sum[i][c] += sum over rows of a[row][i] * b[row][c]
template <typename T>
struct Outer {
    const T* a;
    Index a_pitch, a_width;
    const T* b;
    Index b_pitch, b_width;  // the width is a multiple of the lanes
    Index rows;
    T* sum;
    Index sum_pitch;
};

// max(map * scale + shift, 0), as columns or as rows.
template <typename T>
struct Activation {
    const T* map;
    const T *scale, *shift;  // null for the map as it is
    Index joints, channels;
    T* columns;
    Index pitch;
    T* rows;  // one of the two is null
    Index rows_pitch;
};

// Sums of map - pivot and of its square, added to sums [2][channels].
template <typename T, typename M = T>
struct Moments {
    const M* map;
    const T* pivot;
    Index joints, channels;
    double* sums;
};

// What dropout keeps of the elements of a call, from `first` on: bytes & mask, times `scale`. Where
// elements are bits, `bytes` bytes have one of each place, and those of the next place follow.
template <typename T>
struct Keep {
    const std::uint8_t* data;  // null: keep all
    Index first, bytes;
    std::uint8_t mask;
    T scale;
};

// y = max((map * scale + shift) * keep + shortcut * shortcut_scale + shortcut_shift, 0)
template <typename T, typename M = T>
struct Finish {
    const M* map;
    const T *scale, *shift;
    Keep<T> keep;
    const M* shortcut;                         // null for none
    const T *shortcut_scale, *shortcut_shift;  // null for the identity
    Index joints, channels;
    M* y;
};

// The upstream gradient of a norm: grad where y > 0, times keep.
template <typename T, typename M = T>
struct Incoming {
    const M* grad;
    const M* y;  // null: pass all
    Keep<T> keep;
};

// Adds to sums [2][channels] the sum of the incoming gradient, and of it times (map - mean).
template <typename T, typename M = T>
struct NormSums {
    Incoming<T, M> incoming;
    const M* map;
    const T* mean;
    Index joints, channels;
    double* sums;
};

// Gradient of the norm's input, k0 * incoming - k1 - k2 * (map - mean).
template <typename T>
struct NormBackward {
    Incoming<T> incoming;
    const T *map, *mean, *k0, *k1, *k2;
    Index joints, channels;
    T* rows;
    Index rows_pitch;
};

// grad = 0 where map * scale + shift <= 0, and the sums that NormSums makes.
template <typename T, typename M = T>
struct ReluBackward {
    M* grad;
    const M* map;
    const T *scale, *shift, *mean;
    Index joints, channels;
    double* sums;
};

// Edges of the graph by (joint to, part): those of (w, p) are first[w * parts + p] and on.
template <typename T>
struct Edges {
    const Index* first;
    const Index* from;
    const T* weight;
    Index parts, joints;
};

// sum over v of x[v][c] * A[p][v][w] at (w, p * channels + c), as columns or as rows.
template <typename T>
struct Gather {
    const T* x;
    Index channels;
    T* columns;
    Index pitch;
    T* rows;  // one of the two is null
    Index rows_pitch;
};

// The way back: dx[v][c] += sum over (w, p) of A[p][v][w] * grad[w][p * channels + c], and per edge
// of x[v] . grad[w, p], added to edge_sums [edges][lanes].
template <typename T>
struct Scatter {
    const T* x;
    const T* grad;
    Index grad_pitch, channels;
    T* dx;
    T* edge_sums;
};

// to[i] = incoming[i], which has y and no keep
template <typename T>
struct Mask {
    Incoming<T> incoming;
    Index count;
    T* to;
};

// cos and sin of 2 pi k position / length at [k][position][2], for the lower half of frequencies.
template <typename T>
struct Waves {
    const T* table;
    Index positions, length;  // the length is even
    Index odd;                // 1 if the first position is
};

// Positions, `from_step` apart, to planes, `to_step` apart (stgcn_spectral.h).
template <typename T>
struct SpectralInput {
    Waves<T> waves;
    const T* from;
    Index from_step;
    T* to;
    Index to_step;
    Index count;  // elements of a position, a multiple of the lanes
    bool conjugate;
};

// Products of planes, `step` apart, to positions of rows, `to_step` apart.
template <typename T>
struct SpectralOutput {
    Waves<T> waves;
    const T* planes;
    Index step;
    const T* bias;  // null for zero
    Index rows, channels;
    T* to;
    Index to_step;
};

// to[i] += from[i]
template <typename T>
struct Add {
    const T* from;
    T* to;
    Index count;
};

template <typename T>
struct Kernels {
    Index lanes;
    void (*product)(const Product<T>&);
    void (*outer)(const Outer<T>&);
    void (*activation)(const Activation<T>&);
    void (*moments)(const Moments<T>&);
    void (*finish)(const Finish<T>&);
    void (*norm_sums)(const NormSums<T>&);
    void (*norm_backward)(const NormBackward<T>&);
    void (*relu_backward)(const ReluBackward<T>&);
    void (*gather)(const Edges<T>&, const Gather<T>&);
    void (*scatter)(const Edges<T>&, const Scatter<T>&);
    void (*mask)(const Mask<T>&);
    void (*spectral_input)(const SpectralInput<T>&);
    void (*spectral_output)(const SpectralOutput<T>&);
    void (*add)(const Add<T>&);
};

// Those of the level in use, or of the highest below it whose vectors divide `channels`.
template <typename T>
Kernels<T> choose_kernels(Index channels);

}  // namespace aimclr::cpu::stgcn
