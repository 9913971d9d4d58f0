// Products of bfloat16, by AMX's tiles and by the plain form, against sums over the weights and
// rows before they were packed. The tiles' instructions run as they are compiled: on a processor
// that lacks them they are emulated (amx_traps.h).
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <random>
#include <vector>

#include "amx_traps.h"
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

using Tl = Tile<float, 16>;  // any processor has such vectors

constexpr Index kLanes = Tl::kLanes;

std::mt19937 draws(0);

std::vector<BFloat16> halves(Index count) {
    std::normal_distribution<float> normal;
    std::vector<BFloat16> found(static_cast<std::size_t>(count));
    for (BFloat16& half : found) {
        half = {float_to_bfloat16(normal(draws))};
    }
    return found;
}

float value(const std::vector<BFloat16>& of, Index at) {
    return bfloat16_to_float(of[static_cast<std::size_t>(at)].bits);
}

bool near(const std::vector<float>& one, const std::vector<double>& two) {
    for (std::size_t i = 0; i < one.size(); ++i) {
        if (!(std::fabs(static_cast<double>(one[i]) - two[i]) <= 1e-4 * (1 + std::fabs(two[i])))) {
            return false;
        }
    }
    return true;
}

// What lies beyond the width is never written.
template <typename T>
std::vector<T> unwritten(Index rows, Index width) {
    return std::vector<T>(static_cast<std::size_t>(rows * (width + kLanes)), T{3});
}

void check_product(Index rows, Index length, Index segments, Index width, bool start) {
    constexpr Index kPeriod = 5;
    const Index pitch = 2 * length + 6, out_pitch = width + kLanes;
    // The rows end where the last segment's do: sanitizers see what is read beyond.
    const auto operands = halves(std::max<Index>((rows + segments - 1) * pitch - 6, 0));
    const auto weights = halves(2 * segments * length * width);
    const auto weight = [&](Index segment, Index row, Index c) {
        return value(weights, (segment * 2 * length + row) * width + c);
    };
    std::vector<std::uint32_t> packed[2];  // for the plain product, and for tiles
    for (const int tiles : {0, 1}) {
        packed[tiles].resize(weights.size() / 2);
        bf16_pack(segments, 2 * length, width, tiles ? kTileRows : kLanes, packed[tiles].data(),
                  weight);
    }
    std::vector<float> first(static_cast<std::size_t>(kPeriod * width));
    for (std::size_t i = 0; i < first.size(); ++i) {
        first[i] = static_cast<float>(i) / 8;
    }
    std::vector<Index> shifts;
    for (Index segment = 0; segment < segments; ++segment) {
        shifts.push_back(segment * pitch);
    }
    auto wanted = unwritten<double>(rows, width);
    for (Index row = 0; row < rows; ++row) {
        for (Index c = 0; c < width; ++c) {
            double sum = start ? static_cast<double>(
                                     first[static_cast<std::size_t>(row % kPeriod * width + c)])
                               : 0.0;
            for (Index i = 0; i < 2 * segments * length; ++i) {
                const Index segment = i / (2 * length), at = i % (2 * length);
                sum += static_cast<double>(value(operands, (row + segment) * pitch + at)) *
                       static_cast<double>(weight(segment, at, c));
            }
            wanted[static_cast<std::size_t>(row * out_pitch + c)] = sum;
        }
    }
    auto got = unwritten<float>(rows, width);
    Bf16Product call{operands.data(),
                     pitch,
                     rows,
                     shifts.data(),
                     segments,
                     length,
                     packed[0].data(),
                     segments * length,
                     0,
                     width,
                     start ? first.data() : nullptr,
                     width,
                     kPeriod,
                     got.data(),
                     out_pitch};
    bf16_product<Tl, float>(call);
    expect(near(got, wanted), "a plain product is wrong");
    got = unwritten<float>(rows, width);
    call.out = got.data();
    call.packed = packed[1].data();
    amx_product<Tl, float>(call);
    expect(near(got, wanted), "a product by tiles is wrong");
    std::vector<BFloat16> rounded(got.size());
    call.out = rounded.data();
    amx_product<Tl, BFloat16>(call);
    for (Index i = 0; i < rows * out_pitch; ++i) {
        const auto at = static_cast<std::size_t>(i);
        if (i % out_pitch < width && rounded[at].bits != float_to_bfloat16(got[at])) {
            expect(false, "a rounded product is another");
            return;
        }
    }
}

void check_outer(Index length, Index inputs, Index width) {
    const Index a_pitch = inputs + 3, pitch = width + kLanes;
    const auto a = halves(2 * length * a_pitch), b = halves(2 * length * pitch);
    std::vector<std::uint32_t> words(a.size() / 2), others(b.size() / 2);
    std::memcpy(words.data(), a.data(), a.size() * sizeof(BFloat16));
    std::memcpy(others.data(), b.data(), b.size() * sizeof(BFloat16));
    auto wanted = unwritten<double>(inputs, width);
    for (Index i = 0; i < inputs; ++i) {
        for (Index c = 0; c < width; ++c) {
            for (Index row = 0; row < 2 * length; ++row) {
                const Index word = row / 2, half = row % 2;
                wanted[static_cast<std::size_t>(i * pitch + c)] +=
                    static_cast<double>(value(a, 2 * (word * a_pitch + i) + half)) *
                    static_cast<double>(value(b, 2 * (word * pitch + c) + half));
            }
        }
    }
    auto got = unwritten<float>(inputs, width);
    Bf16Outer call{words.data(), a_pitch, inputs,     others.data(), pitch,
                   width,        length,  got.data(), pitch};
    bf16_outer<Tl>(call);
    expect(near(got, wanted), "a plain outer product is wrong");
    got = unwritten<float>(inputs, width);
    call.sum = got.data();
    amx_outer(call);
    expect(near(got, wanted), "an outer product by tiles is wrong");
}

}  // namespace

int main() {
    const bool native = amx_native_or_emulated();
    for (const Index rows : {1, 7, 16, 17, 25, 32, 33, 75}) {
        check_product(rows, 8, 3, 16, true);
        check_product(rows, 24, 1, 32, false);
        check_product(rows, 48, 2, 48, true);
        check_product(rows, 5, 1, 80, true);
        check_product(rows, 37, 1, 16, false);
        check_product(rows, 9, 0, 16, true);  // a remainder of the stride that no tap has
    }
    for (Index length = 1; length <= 34; ++length) {  // tiles of all depths
        check_product(18, length, 2, 48, false);
    }
    for (const Index length : {1, 2, 13, 15, 16, 17, 31, 128, 150, 300}) {
        for (const Index inputs : {1, 9, 16, 25, 32, 48, 70}) {
            check_outer(length, inputs, 16);
            check_outer(length, inputs, 48);
        }
    }
    const char* const fault = amx_fault();
    expect(fault == nullptr, fault);
    expect(native || amx_products() > 1000, "the instructions did not run");
    return failures == 0 ? 0 : 1;
}
