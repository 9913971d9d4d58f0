// stgcn_block over bfloat16: vectors, and the arguments of the kernels that only these maps have.
// The others are those of stgcn_tile.h with M = BFloat16.
//
// A product's operands lie in words of 32 bits, each two neighbors of what is summed over. Those
// neighbors are two channels of a row where channels are summed over (forward, and gradients of
// inputs): rows are such words as they are, and weights are packed as [channel / 2][out][2]. They
// are two rows where rows are summed over (gradients of weights): "pairs" are [row /
// 2][channel][2], with a row of zeros after a frame of odd many joints.
#pragma once

#include "cpu/stgcn_block/stgcn_tile.h"
#include "cpu/stgcn_block/stgcn_vector.h"

namespace aimclr::cpu::stgcn {

// out[row][c] = start[row % period][c] + sum over segments s and i < 2 * length of
// rows[row * pitch + shifts[s] + i] * packed(2 * (first + s * length) + i, c)
struct Bf16Product {
    const BFloat16* rows;
    Index pitch, count;  // of rows; the pitch and the shifts are even
    const Index* shifts;
    Index segments, length;  // the length in words
    const Word* packed;      // panels as in Product, [panel_rows][panel width] words
    Index panel_rows, first;
    Index width;         // output channels, a multiple of the lanes
    const float* start;  // null for zero
    Index start_pitch, period;
    void* out;  // BFloat16 or float
    Index out_pitch;
};

// sum[i][c] += sum over r < 2 * length of a(r, i) * b(r, c), of pairs
struct Bf16Outer {
    const Word* a;
    Index a_pitch, a_width;
    const Word* b;
    Index b_pitch, b_width;  // the width is a multiple of the lanes
    Index length;
    float* sum;
    Index sum_pitch;
};

// Where elementwise work of a frame goes: to rows, to pairs, or to both.
struct Bf16Target {
    BFloat16* rows;  // null for none
    Index rows_pitch;
    Word* pairs;  // null for none
    Index pairs_pitch;
};

struct Bf16Activation {
    const BFloat16* map;
    const float *scale, *shift;
    Index joints, channels;
    Bf16Target to;
};

struct Bf16NormBackward {
    Incoming<float, BFloat16> incoming;
    const BFloat16* map;
    const float *mean, *k0, *k1, *k2;
    Index joints, channels;
    Bf16Target to;
    float* joint_sums;  // [joints][channels], to which the gradient is added; null for none
};

// x as pairs, for any number of channels.
struct Bf16Pairs {
    const BFloat16* x;
    Index joints, channels;
    Word* pairs;
    Index pitch;
};

// As Gather, of x by rows in whole vectors, whose last lanes may be zeros. To rows or to pairs,
// with space for a vector after them.
struct Bf16Gather {
    const float* x;
    Index x_pitch, channels;
    Bf16Target to;
};

// Edges by the joint they come from: those of v are first[v] and on.
struct Bf16Edges {
    const Index *first, *grad;  // grad: where the gradient of its end and part begins
    const float* weight;
    Index joints;
};

// As Scatter.
struct Bf16Scatter {
    const float* x;
    Index x_pitch, channels;
    const float* grad;                   // with space for a vector after it
    Incoming<float, BFloat16> incoming;  // what dx starts from; where its grad is null, `start`,
    const float* start;                  // and where that is null zero
    Index start_pitch;
    BFloat16* dx;
    float* edge_sums;  // [edges][kMaxLanes]
};

// Positions of a frame's rows to planes (stgcn_spectral.h): rows as they are, and pairs conjugated
// or not.
struct Bf16Planes {
    Waves<float> waves;
    Index joints, channels;
    Index position;  // elements from one position of the maps to the next
    Bf16Target to;   // of the first plane
    Index rows_step, pairs_step;
    bool conjugate;
};

// Planes [plane][joint][channel] of products, `step` apart, to a map, [position][joint][channel].
struct Bf16Restore {
    Waves<float> waves;
    const float* planes;
    Index step;
    Index joints, channels;
    const float* bias;  // null for zero
    BFloat16* to;
    // Sums of the map's elements around a pivot, which is written, too, as Moments has them; or
    // where `relu` has a map, of the gradient `to` that ReluBackward describes.
    double* sums;
    float* pivot;
    ReluBackward<float, BFloat16> relu;
};

struct Bf16Kernels {
    Index lanes;
    void (*product)(const Bf16Product&);           // to BFloat16
    void (*product_to_float)(const Bf16Product&);  // to float
    void (*outer)(const Bf16Outer&);
    void (*widen)(const BFloat16* from, Index rows, Index channels, float* to, Index pitch);
    void (*activation)(const Bf16Activation&);
    void (*moments)(const Moments<float, BFloat16>&);
    void (*finish)(const Finish<float, BFloat16>&);
    void (*norm_sums)(const NormSums<float, BFloat16>&);
    void (*norm_backward)(const Bf16NormBackward&);
    void (*relu_backward)(const ReluBackward<float, BFloat16>&);
    void (*pairs)(const Bf16Pairs&);
    void (*gather)(const Edges<float>&, const Bf16Gather&);
    void (*scatter)(const Bf16Edges&, const Bf16Scatter&);
    void (*activation_planes)(const Bf16Activation&, const Bf16Planes&);
    void (*gradient_planes)(const Bf16NormBackward&, const Bf16Planes&);
    void (*tap_planes)(const float*, const Bf16Planes&);
    void (*restore)(const Bf16Restore&);
    void (*spectral_output)(const SpectralOutput<float>&);
    void (*add)(const Add<float>&);
};

}  // namespace aimclr::cpu::stgcn
