// The products of stgcn_bf16_product.h by AMX: tiles of 16 rows of 64 bytes, of which one
// instruction multiplies two and adds the product to a third.
#pragma once

#include <algorithm>

#include "cpu/stgcn_block/stgcn_bf16_product.h"

#ifdef __AMX_BF16__
namespace aimclr::cpu::stgcn {

inline constexpr Index kTileRows = 16;    // of any tile, and words of its rows
inline constexpr Index kTileDepth = 128;  // words of an outer product that are transposed at a time

// Rows and bytes of a row of tiles 0 to 7, as LDTILECFG reads them: sums are tiles 0 to 3 (two
// blocks of rows by two of channels), rows 4 and 5, and words of weights 6 and 7.
struct alignas(64) TileShapes {
    std::uint8_t palette = 1, start = 0, reserved[14] = {};
    std::uint16_t bytes[16] = {};
    std::uint8_t rows[16] = {};

    TileShapes(Index first, Index second, Index depth) {
        const Index counts[8] = {first, first, second, second, first, second, depth, depth};
        for (int i = 0; i < 8; ++i) {
            rows[i] = static_cast<std::uint8_t>(counts[i]);
            bytes[i] = static_cast<std::uint16_t>(i == 4 || i == 5 ? 4 * depth : 64);
            bytes[i] = counts[i] == 0 ? std::uint16_t{0} : bytes[i];
        }
    }
};

inline void configure_tiles(const TileShapes& shapes) {
    asm volatile("ldtilecfg %0" : : "m"(shapes));
}
inline void release_tiles() {
    asm volatile("tilerelease");
}
template <int kTile>
AIMCLR_INLINE void zero_tile() {
    asm volatile("tilezero %%tmm%c0" : : "i"(kTile));
}
template <int kTile>
AIMCLR_INLINE void load_tile(const void* from, Index pitch) {
    asm volatile("tileloadd (%1,%2,1), %%tmm%c0" : : "i"(kTile), "r"(from), "r"(pitch) : "memory");
}
template <int kTile>
AIMCLR_INLINE void store_tile(void* to, Index pitch) {
    asm volatile("tilestored %%tmm%c0, (%1,%2,1)" : : "i"(kTile), "r"(to), "r"(pitch) : "memory");
}
template <int kSum, int kRows, int kWords>
AIMCLR_INLINE void dot_tile() {
    asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kSum), "i"(kRows), "i"(kWords));
}

// Adds tiles of rows (pitches in bytes) times `words`, whose rows of kVecs times 64 bytes are
// `words_pitch` apart, to the sums.
template <int kBlocks, int kVecs>
AIMCLR_INLINE void dot_tiles(const void* first, const void* second, Index rows_pitch,
                             const Word* words, Index words_pitch) {
    load_tile<6>(words, words_pitch);
    if constexpr (kVecs == 2) {
        load_tile<7>(words + kTileRows, words_pitch);
    }
    load_tile<4>(first, rows_pitch);
    dot_tile<0, 4, 6>();
    if constexpr (kVecs == 2) {
        dot_tile<1, 4, 7>();
    }
    if constexpr (kBlocks == 2) {
        load_tile<5>(second, rows_pitch);
        dot_tile<2, 5, 6>();
        if constexpr (kVecs == 2) {
            dot_tile<3, 5, 7>();
        }
    }
}

// Calls step(tile, row, channel) with the constant number of each sum that is in use.
template <int kBlocks, int kVecs, typename Step>
AIMCLR_INLINE void each_sum(const Step& step) {
    step(std::integral_constant<int, 0>{}, 0, 0);
    if constexpr (kVecs == 2) {
        step(std::integral_constant<int, 1>{}, 0, kTileRows);
    }
    if constexpr (kBlocks == 2) {
        step(std::integral_constant<int, 2>{}, kTileRows, 0);
        if constexpr (kVecs == 2) {
            step(std::integral_constant<int, 3>{}, kTileRows, kTileRows);
        }
    }
}

// `count` rows (up to two blocks) of a product, `depth` words at a time.
template <typename Tl, int kBlocks, int kVecs, typename Out>
AIMCLR_INLINE void amx_product_tile(const Bf16Product& call, Index row, Index count, Index channel,
                                    Index depth) {
    const Word* words = call.packed + channel * call.panel_rows + call.first * kVecs * kTileRows;
    each_sum<kBlocks, kVecs>([](auto tile, Index, Index) { zero_tile<tile>(); });
    for (Index segment = 0; segment < call.segments; ++segment) {
        const BFloat16* const rows = call.rows + call.shifts[segment] + row * call.pitch;
        for (Index i = 0; i < call.length; i += depth) {
            dot_tiles<kBlocks, kVecs>(rows + 2 * i, rows + kTileRows * call.pitch + 2 * i,
                                      2 * call.pitch, words, kVecs * 64);
            words += depth * kVecs * kTileRows;
        }
    }
    alignas(64) float sums[kBlocks * kTileRows][kVecs * kTileRows];
    each_sum<kBlocks, kVecs>(
        [&](auto tile, Index at, Index c) { store_tile<tile>(&sums[at][c], sizeof(sums[0])); });
    for (Index j = 0; j < count; ++j) {
        Out* const out = static_cast<Out*>(call.out) + (row + j) * call.out_pitch + channel;
        for (Index c = 0; c < kVecs * kTileRows; c += Tl::kLanes) {
            auto sum = load<Tl>(&sums[j][c]);
            if (call.start != nullptr) {
                sum +=
                    load<Tl>(call.start + (row + j) % call.period * call.start_pitch + channel + c);
            }
            store<Tl>(out + c, sum);
        }
    }
}

template <typename Tl, int kVecs, typename Out>
AIMCLR_INLINE void amx_product_panel(const Bf16Product& call, Index channel, Index depth) {
    const Index whole = call.count / (2 * kTileRows) * (2 * kTileRows), rest = call.count - whole;
    if (whole > 0) {
        configure_tiles(TileShapes(kTileRows, kTileRows, depth));
        for (Index row = 0; row < whole; row += 2 * kTileRows) {
            amx_product_tile<Tl, 2, kVecs, Out>(call, row, 2 * kTileRows, channel, depth);
        }
    }
    if (rest > kTileRows) {
        configure_tiles(TileShapes(kTileRows, rest - kTileRows, depth));
        amx_product_tile<Tl, 2, kVecs, Out>(call, whole, rest, channel, depth);
    } else if (rest > 0) {
        configure_tiles(TileShapes(rest, 0, depth));
        amx_product_tile<Tl, 1, kVecs, Out>(call, whole, rest, channel, depth);
    }
}

// The widest tiles that fill a segment evenly: sums stay in tiles, whose shapes cannot change.
inline Index tile_depth(Index length) {
    Index depth = std::min(kTileRows, length);
    while (depth > 1 && length % depth != 0) {
        --depth;
    }
    return std::max<Index>(depth, 1);
}

template <typename Tl, typename Out>
void amx_product(const Bf16Product& call) {
    const Index depth = tile_depth(call.length);
    Index channel = 0;
    for (; channel + 2 * kTileRows <= call.width; channel += 2 * kTileRows) {
        amx_product_panel<Tl, 2, Out>(call, channel, depth);
    }
    if (channel < call.width) {
        amx_product_panel<Tl, 1, Out>(call, channel, depth);
    }
    release_tiles();
}

// Inputs [input, input + count) of an outer product, of words [first, first + length), which are
// whole tiles or, with a `depth` below that, one.
template <int kBlocks>
AIMCLR_INLINE void amx_outer_inputs(const Bf16Outer& call, Index input, Index count, Index first,
                                    Index length, Index depth) {
    alignas(64) Word rows[2 * kTileRows][kTileDepth];
    for (Index i = 0; i < length; ++i) {
        for (Index j = 0; j < count; ++j) {
            rows[j][i] = call.a[(first + i) * call.a_pitch + input + j];
        }
    }
    configure_tiles(
        TileShapes(std::min(count, kTileRows), count - std::min(count, kTileRows), depth));
    const auto panel = [&](auto vecs, Index channel) {
        constexpr int kVecs = decltype(vecs)::value;
        float* const sum = call.sum + input * call.sum_pitch + channel;
        const Index pitch = 4 * call.sum_pitch;
        each_sum<kBlocks, kVecs>([&](auto tile, Index at, Index c) {
            load_tile<tile>(sum + at * call.sum_pitch + c, pitch);
        });
        for (Index i = 0; i < length; i += depth) {
            dot_tiles<kBlocks, kVecs>(&rows[0][i], &rows[kTileRows][i], sizeof(rows[0]),
                                      call.b + (first + i) * call.b_pitch + channel,
                                      4 * call.b_pitch);
        }
        each_sum<kBlocks, kVecs>([&](auto tile, Index at, Index c) {
            store_tile<tile>(sum + at * call.sum_pitch + c, pitch);
        });
    };
    Index channel = 0;
    for (; channel + 2 * kTileRows <= call.b_width; channel += 2 * kTileRows) {
        panel(std::integral_constant<int, 2>{}, channel);
    }
    if (channel < call.b_width) {
        panel(std::integral_constant<int, 1>{}, channel);
    }
}

inline void amx_outer(const Bf16Outer& call) {
    for (Index first = 0; first < call.length;) {
        const Index left = call.length - first;
        const Index length =
            left < kTileRows ? left : std::min(left / kTileRows * kTileRows, kTileDepth);
        const Index depth = std::min(length, kTileRows);
        for (Index input = 0; input < call.a_width; input += 2 * kTileRows) {
            const Index count = std::min(2 * kTileRows, call.a_width - input);
            if (count > kTileRows) {
                amx_outer_inputs<2>(call, input, count, first, length, depth);
            } else {
                amx_outer_inputs<1>(call, input, count, first, length, depth);
            }
        }
        first += length;
    }
    release_tiles();
}

}  // namespace aimclr::cpu::stgcn
#endif
