// How stgcn_block lays out frames of bfloat16 for its products.
#pragma once

#include <algorithm>

#include "cpu/levels.h"
#include "cpu/stgcn_block/stgcn_bf16_product.h"
#include "cpu/stgcn_block/stgcn_block_plan.h"

namespace aimclr::cpu::stgcn {

inline constexpr Index kBf16ChunkRows = 384;  // rows of the spatial convolution at a time
// With AMX the temporal convolution is direct up to more channels than any block here has: a
// product there costs a sixteenth of one by vdpbf16ps, and the transforms what they cost elsewhere.
// That follows from counts of instructions, not from a measurement.
inline constexpr Index kAmxSpectralChannels = 512;

struct Bf16Plan : Plan {
    Level level;
    Index even_inputs, even_in, even_out;  // in whole words
    Index out_pitch;   // of scratch rows of `out` channels: no multiple of a page's lines
    Index pair_rows;   // of a frame
    Index pair_pitch;  // of scratch pairs of `out` channels
    Index slots;       // for frames with one remainder of the stride, see slot()

    Bf16Plan(const StgcnShape& shape, bool residual_, Level level_ = cpu::level())
        // Channels that fill no tile are multiplied by another level's kernels.
        : Plan(shape, residual_,
               level_ == Level::amx && shape.out % 16 == 0 ? kAmxSpectralChannels
                                                           : kSpectralChannels),
          level(level_),
          even_inputs(round_up(inputs, 2)),
          even_in(round_up(in, 2)),
          even_out(round_up(out, 2)),
          out_pitch(even_out + (out % 256 == 0 ? 32 : 0)),
          pair_rows((joints + 1) / 2),
          pair_pitch(out + (out % 64 == 0 ? kMaxLanes : 0)),
          slots(shorter + (taps - 1) / stride + 1) {}

    Index chunk() const {
        return std::clamp<Index>(kBf16ChunkRows / joints, 1, frames);
    }
    // Of a chunk's inputs of the spatial product, by rows, or by pairs: with a vector after the
    // last.
    Index gathered_size() const {
        return chunk() * joints * even_inputs + kMaxLanes;
    }
    Index gathered_pairs() const {
        return chunk() * pair_rows * inputs + kMaxLanes;
    }
    // From one plane of products of `rows` rows to the next: not as far apart as pages.
    Index products_step(Index rows) const {
        return rows * out + 2 * kMaxLanes;
    }
    // The input of the temporal convolution has taps / 2 frames of zeros on each side. Frames that
    // one tap reaches lie in a row: those of remainder 0, then of remainder 1.
    Index slot(Index padded) const {
        return padded % stride * slots + padded / stride;
    }
};

// Packs weights(segment, row, channel) for products.
template <typename Weights>
void bf16_pack_panels(Index segments, Index rows, Index channels, Index lanes, Word* packed,
                      const Weights& weights, int threads) {
    const Index words = segments * ((rows + 1) / 2);
    each_panel(segments * rows, channels, lanes, threads, [&](Index first, Index count) {
        bf16_pack(
            segments, rows, count, lanes, packed + first * words,
            [&](Index segment, Index row, Index c) { return weights(segment, row, first + c); });
    });
}

// A panel of packed weights as tap_planes reads it, in float, and the planes of all of them.
struct Bf16Spectral {
    float *table, *taps;
    Word* packed;

    Bf16Spectral(const Bf16Plan& plan, Arena& arena) {
        const bool used = plan.use_spectral();
        const Spectral<float> spectral = plan.spectral<float>();
        table = arena.take<float>(used ? spectral.table_size() : 0);
        taps = arena.take<float>(used ? plan.taps * plan.out * plan.out : 0);
        packed = arena.take<Word>(used ? spectral.planes() * plan.even_out / 2 * plan.out : 0);
    }

    // From weights(tap, row, channel).
    template <typename Weights>
    void prepare(const Bf16Plan& plan, const Bf16Kernels& kernels, const Weights& weights,
                 int threads) const {
        if (!plan.use_spectral()) {
            return;
        }
        const Spectral<float> spectral = plan.spectral<float>();
        spectral.fill_table(table);
        const Index out = plan.out, panel = 2 * kernels.lanes, words = plan.even_out / 2;
        for_each((out + panel - 1) / panel, threads, [&](Index at, Index) {
            const Index c = at * panel, width = std::min(panel, out - c);
            float* const from = taps + c * plan.taps * out;
            for (Index tap = 0; tap < plan.taps; ++tap) {
                for (Index row = 0; row < out; ++row) {
                    float* const to = from + (tap * out + row) * width;
                    for (Index i = 0; i < width; ++i) {
                        to[i] = weights(tap, row, c + i);
                    }
                }
            }
            kernels.tap_planes(from, {spectral.tap_waves(table),
                                      out,
                                      width,
                                      out * width,
                                      {nullptr, 0, packed + c * words, width},
                                      0,
                                      words * out,
                                      true});
        });
    }

    // products [plane][row][out] of rows [plane][row][out_pitch], of one plane
    void multiply(const Bf16Plan& plan, const Bf16Kernels& kernels, Index plane,
                  const BFloat16* rows, Index count, float* products) const {
        constexpr Index kNoShift = 0;
        const Index words = plan.even_out / 2;
        kernels.product_to_float({rows + plane * count * plan.out_pitch, plan.out_pitch, count,
                                  &kNoShift, 1, words, packed + plane * words * plan.out, words, 0,
                                  plan.out, nullptr, 0, 1,
                                  products + plane * plan.products_step(count), plan.out});
    }
};

// As choose_kernels.
Bf16Kernels choose_bf16_kernels(Level level, Index channels);

Index bf16_forward_bytes(const Bf16Plan& plan, int threads);
Index bf16_backward_bytes(const Bf16Plan& plan, int threads);

}  // namespace aimclr::cpu::stgcn
