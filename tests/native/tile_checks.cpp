// Products of bfloat16 by tiles against the plain ones: AMX's instructions in plain C++ take the
// place of the instructions, so that what is loaded from where is checked on any processor.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "cpu/stgcn_block/stgcn_bf16_amx.h"

using namespace aimclr;
using namespace aimclr::cpu::stgcn;

namespace {

int failures = 0;

void expect(bool holds, const char* what) {
    if (!holds) {
        std::printf("%s\n", what);
        ++failures;
    }
}

// Each as Intel's manual describes it. Tiles keep what they hold until they are configured anew.
struct EmulatedTiles {
    static inline std::unique_ptr<TileShapes> shapes;
    static inline std::uint32_t held[8][16][16];

    static void configure(const TileShapes& wanted) {
        for (int tile = 0; tile < 8; ++tile) {
            const bool none = wanted.rows[tile] == 0;
            expect(wanted.rows[tile] <= 16 && wanted.bytes[tile] <= 64, "a tile is too large");
            expect(none == (wanted.bytes[tile] == 0), "a tile has rows or bytes alone");
        }
        expect(wanted.palette == 1 && wanted.start == 0, "the palette is another");
        shapes = std::make_unique<TileShapes>(wanted);
        std::memset(held, 0, sizeof(held));
    }
    static void release() {
        shapes.reset();
    }
    static void check(int tile) {
        expect(shapes != nullptr && shapes->rows[tile] > 0, "a tile is used without a shape");
    }
    template <int kTile>
    static void zero() {
        check(kTile);
        std::memset(held[kTile], 0, sizeof(held[kTile]));
    }
    template <int kTile>
    static void load(const void* from, Index pitch) {
        check(kTile);
        std::memset(held[kTile], 0, sizeof(held[kTile]));
        for (int row = 0; row < shapes->rows[kTile]; ++row) {
            std::memcpy(held[kTile][row], static_cast<const char*>(from) + row * pitch,
                        shapes->bytes[kTile]);
        }
    }
    template <int kTile>
    static void store(void* to, Index pitch) {
        check(kTile);
        for (int row = 0; row < shapes->rows[kTile]; ++row) {
            std::memcpy(static_cast<char*>(to) + row * pitch, held[kTile][row],
                        shapes->bytes[kTile]);
        }
    }
    template <int kSum, int kRows, int kWords>
    static void dot() {
        check(kSum);
        check(kRows);
        check(kWords);
        const int depth = shapes->bytes[kRows] / 4;
        expect(shapes->rows[kSum] == shapes->rows[kRows] &&
                   shapes->bytes[kSum] == shapes->bytes[kWords] && depth == shapes->rows[kWords],
               "tiles do not fit");
        for (int row = 0; row < shapes->rows[kSum]; ++row) {
            for (int c = 0; c < 16; ++c) {
                float sum = bits_float(held[kSum][row][c]);
                for (int i = 0; i < depth; ++i) {
                    const std::uint32_t a = held[kRows][row][i], b = held[kWords][i][c];
                    sum += bits_float(a << 16) * bits_float(b << 16);
                    sum += bits_float(a & 0xFFFF0000u) * bits_float(b & 0xFFFF0000u);
                }
                held[kSum][row][c] = float_bits(sum);
            }
        }
    }
};

using Tl = Tile<float, 16>;  // of the plain products: any processor has such vectors

std::mt19937 draws(0);

std::vector<BFloat16> halves(Index count) {
    std::normal_distribution<float> normal;
    std::vector<BFloat16> found(static_cast<std::size_t>(count));
    for (BFloat16& half : found) {
        half = {float_to_bfloat16(normal(draws))};
    }
    return found;
}

bool near(const std::vector<float>& one, const std::vector<float>& two) {
    for (std::size_t i = 0; i < one.size(); ++i) {
        if (!(std::fabs(one[i] - two[i]) <= 1e-4f * (1 + std::fabs(two[i])))) {
            return false;
        }
    }
    return true;
}

void check_product(Index rows, Index length, Index segments, Index width, bool start) {
    constexpr Index kPeriod = 5, lanes = Tl::kLanes;
    const Index pitch = 2 * length + 6;
    // The rows end where the last segment's do: sanitizers see what is read beyond.
    const auto operands = halves((rows + segments - 1) * pitch - 6);
    const auto weights = halves(2 * segments * length * width);
    std::vector<std::uint32_t> packed[2];  // for the plain product, and for tiles
    for (const int tiles : {0, 1}) {
        packed[tiles].resize(weights.size() / 2);
        bf16_pack(segments, 2 * length, width, tiles ? kTileRows : lanes, packed[tiles].data(),
                  [&](Index segment, Index row, Index c) {
                      const Index at = ((segment * 2 * length) + row) * width + c;
                      return bfloat16_to_float(weights[static_cast<std::size_t>(at)].bits);
                  });
    }
    std::vector<float> first(static_cast<std::size_t>(kPeriod * width));
    for (std::size_t i = 0; i < first.size(); ++i) {
        first[i] = static_cast<float>(i);
    }
    std::vector<Index> shifts;
    for (Index segment = 0; segment < segments; ++segment) {
        shifts.push_back(segment * pitch);
    }
    std::vector<float> got(static_cast<std::size_t>(rows * (width + lanes)), -1.0f), wanted = got;
    Bf16Product call{operands.data(),
                     pitch,
                     rows,
                     shifts.data(),
                     segments,
                     length,
                     packed[1].data(),
                     segments * length,
                     0,
                     width,
                     start ? first.data() : nullptr,
                     width,
                     kPeriod,
                     got.data(),
                     width + lanes};
    amx_product<EmulatedTiles, Tl, float>(call);
    call.out = wanted.data();
    call.packed = packed[0].data();
    bf16_product<Tl, float>(call);
    expect(near(got, wanted), "a product by tiles is another");
    std::vector<BFloat16> rounded(got.size());
    call.out = rounded.data();
    call.packed = packed[1].data();
    amx_product<EmulatedTiles, Tl, BFloat16>(call);
    for (Index i = 0; i < rows * (width + lanes); ++i) {
        const auto at = static_cast<std::size_t>(i);
        if (i % (width + lanes) < width && rounded[at].bits != float_to_bfloat16(got[at])) {
            expect(false, "a rounded product is another");
            return;
        }
    }
}

void check_outer(Index length, Index inputs, Index width) {
    const Index lanes = Tl::kLanes;
    const auto a = halves(2 * length * (inputs + 3)), b = halves(2 * length * (width + lanes));
    std::vector<std::uint32_t> words(a.size() / 2), others(b.size() / 2);
    std::memcpy(words.data(), a.data(), a.size() * sizeof(BFloat16));
    std::memcpy(others.data(), b.data(), b.size() * sizeof(BFloat16));
    std::vector<float> got(static_cast<std::size_t>(inputs * (width + lanes)), 3.0f), wanted = got;
    Bf16Outer call{words.data(), inputs + 3, inputs,     others.data(), width + lanes,
                   width,        length,     got.data(), width + lanes};
    amx_outer<EmulatedTiles>(call);
    call.sum = wanted.data();
    bf16_outer<Tl>(call);
    expect(near(got, wanted), "an outer product by tiles is another");
}

}  // namespace

int main() {
    for (const Index rows : {1, 7, 16, 17, 25, 32, 33, 75}) {
        check_product(rows, 8, 3, 16, true);
        check_product(rows, 24, 1, 32, false);
        check_product(rows, 48, 2, 48, true);
        check_product(rows, 5, 1, 80, true);
        check_product(rows, 37, 1, 16, false);
    }
    for (const Index length : {1, 13, 16, 17, 128, 150, 300}) {
        for (const Index inputs : {1, 9, 16, 25, 32, 48, 70}) {
            check_outer(length, inputs, 16);
            check_outer(length, inputs, 48);
        }
    }
    expect(EmulatedTiles::shapes == nullptr, "tiles are not released");
    return failures == 0 ? 0 : 1;
}
