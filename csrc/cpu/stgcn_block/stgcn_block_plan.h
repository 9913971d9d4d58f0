// How stgcn_block splits its work, and where it keeps what it computes on the way.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "cpu/parallel.h"
#include "cpu/stgcn_block/stgcn_block.h"
#include "cpu/stgcn_block/stgcn_spectral.h"
#include "cpu/stgcn_block/stgcn_tile.h"

namespace aimclr::cpu::stgcn {

// The temporal convolution is over frequencies from this many channels on. In bfloat16 with
// AVX512-BF16 that is 1.2 times as fast at 32, 1.5 at 64 and 1.7 to 2 at 256, while at 16 the
// direct one is (benchmarks/results/temporal_convolution.csv). Float32 takes the same number.
#ifdef AIMCLR_SPECTRAL_CHANNELS  // scripts/compare_temporal.sh measures both forms
inline constexpr Index kSpectralChannels = AIMCLR_SPECTRAL_CHANNELS;
#else
inline constexpr Index kSpectralChannels = 32;
#endif
inline constexpr Index kSpectralSamples = 4;  // that share a pass over the weights

// Sizes that follow from the shape alone, for vectors of any width.
struct Plan : StgcnShape {
    bool residual;      // with a convolution
    Index least;        // channels that are convolved over frequencies
    Index shorter;      // frames that come out
    Index pitch;        // of columns: joints in whole vectors
    Index inputs;       // parts * in: what the spatial product contracts
    Index wide_inputs;  // the same in whole vectors
    Index wide_in;      // in, in whole vectors
    Index rows_pitch;   // of scratch rows of `out` channels: no multiple of a page's lines
    Index norms;
    // Whether the temporal convolution's gradients are spectral. Threads then share a pass over
    // some samples, each at other frequencies, and the batch has one sum of its weights' gradients.
    bool by_planes;
    // Parts of the batch with weight gradients of their own, added up in order: many for many
    // threads, few where weights are large.
    Index shares;

    Plan(const StgcnShape& shape, bool residual_, Index least_ = kSpectralChannels)
        : StgcnShape(shape),
          residual(residual_),
          least(least_),
          shorter(StgcnShape::shorter()),
          pitch(round_up(joints, kMaxLanes)),
          inputs(parts * in),
          wide_inputs(round_up(inputs, kMaxLanes)),
          wide_in(round_up(in, kMaxLanes)),
          rows_pitch(out + (out % 64 == 0 ? kMaxLanes : 0)),
          norms(residual_ ? 3 : 2),
          by_planes(use_spectral()) {
        const Index temporal = by_planes ? 0 : taps * out;
        const Index weights = out * (temporal + inputs + (residual ? in : 0) + joints);
        shares = std::min(batch, std::clamp<Index>((Index{8} << 20) / weights, 4, 128));
    }

    Index map() const {
        return frames * joints * out;
    }
    Index short_map() const {
        return shorter * joints * out;
    }

    Index first_sample(Index share) const {
        return batch * share / shares;
    }

    // Taps that reach frame `t` of the temporal convolution's output, and the first one's frame.
    struct Reach {
        Index tap, taps, frame;
    };
    Reach reach(Index t) const {
        const Index first = t * stride - taps / 2;
        const Index begin = std::max<Index>(first, 0), end = std::min(first + taps, frames);
        return {begin - first, std::max<Index>(end - begin, 0), begin};
    }

    // Output frames that `tap` reaches from within the input.
    struct Range {
        Index begin, end;
    };
    Range outputs_of(Index tap) const {
        const Index offset = tap - taps / 2;
        Range range{0, shorter};
        while (range.begin < range.end && range.begin * stride + offset < 0) {
            ++range.begin;
        }
        while (range.end > range.begin && (range.end - 1) * stride + offset >= frames) {
            --range.end;
        }
        return range;
    }

    // Where products dominate, fewer of them are worth the transforms.
    bool use_spectral() const {
        if (stride != 1 || out < least || spectral_pairs(frames + taps / 2 + 1) > kMostPairs) {
            return false;
        }
        Index direct = 0;
        for (Index t = 0; t < frames; ++t) {
            direct += reach(t).taps;
        }
        return 3 * spectral_planes(round_up(frames + taps / 2, 2)) <= 2 * direct;
    }
    template <typename T>
    Spectral<T> spectral() const {
        return {frames, joints, out, taps, pitch};
    }
    // Samples that a worker takes at a time.
    Index group(int threads) const {
        return use_spectral() ? std::clamp<Index>(batch / (2 * threads), 1, kSpectralSamples) : 1;
    }

    // Of `samples` samples in groups, those of one.
    static Index group_size(Index samples, Index group) {
        return std::min(kSpectralSamples, samples - group * kSpectralSamples);
    }
    // Samples whose gradients are in one pass over the frequencies: some for each thread.
    Index pass_samples(int threads) const {
        return round_up(std::min(std::max<Index>(2 * threads, 8), batch), kSpectralSamples);
    }

    // The same for its gradient at input frame `t`. A frame's taps are every stride-th one, the
    // last first, as their output frames ascend; those of one remainder are packed side by side.
    Index class_taps(Index remainder) const {
        return remainder < taps ? (taps - remainder + stride - 1) / stride : 0;
    }
    Index class_start(Index remainder) const {
        Index start = 0;
        for (Index r = 0; r < remainder; ++r) {
            start += class_taps(r);
        }
        return start;
    }
    // Tap `i` of its class.
    Index class_tap(Index remainder, Index i) const {
        return remainder + (class_taps(remainder) - 1 - i) * stride;
    }
    Reach reach_back(Index t) const {
        const Index shifted = t + taps / 2, remainder = shifted % stride;
        // Tap i of the class reads the output frame first + i.
        const Index count = class_taps(remainder);
        const Index first = shifted / stride - (count - 1);
        const Index begin = std::clamp<Index>(first, 0, shorter);
        const Index end = std::clamp<Index>(first + count, begin, shorter);
        return {class_start(remainder) + begin - first, end - begin, begin};
    }
};

// Hands out arrays from a block of memory, or measures it if there is none yet.
class Arena {
  public:
    explicit Arena(void* base) : base_(static_cast<char*>(base)) {}

    template <typename T>
    T* take(Index count) {
        T* const array = base_ ? reinterpret_cast<T*>(base_ + bytes_) : nullptr;
        bytes_ += round_up(count * static_cast<Index>(sizeof(T)), 64);
        return array;
    }
    Index bytes() const {
        return bytes_;
    }

  private:
    char* base_;
    Index bytes_ = 0;
};

// Zeros in the scratch of all threads, by the threads themselves where they are many.
template <typename P, typename Scratch>
void clear_scratch(const P& plan, const Scratch* scratch, int threads) {
    constexpr int kWorthThreads = 8;
    for_each(threads, threads < kWorthThreads ? 1 : threads,
             [&](Index worker, Index) { scratch[worker].clear(plan); });
}

// Calls body(first, count) for each panel of channels of packed weights, of which there are `rows`
// for a channel; in threads where that is worth it.
template <typename Body>
void each_panel(Index rows, Index channels, Index lanes, int threads, const Body& body) {
    constexpr Index kWorthThreads = 1 << 14;
    const Index panel = 2 * lanes, panels = (channels + panel - 1) / panel;
    for_each(panels, rows * channels < kWorthThreads ? 1 : threads,
             [&](Index at, Index) { body(at * panel, std::min(panel, channels - at * panel)); });
}

// Packs weights(row, channel) for products.
template <typename T, typename Weights>
void pack_panels(Index rows, Index channels, Index lanes, T* packed, const Weights& weights,
                 int threads) {
    each_panel(rows, channels, lanes, threads, [&](Index first, Index count) {
        pack(rows, count, lanes, packed + first * rows,
             [&](Index row, Index c) { return weights(row, first + c); });
    });
}

// What the temporal convolution needs where it is `Spectral`, and nothing elsewhere.
template <typename T>
struct SpectralWeights {
    T *table, *packed;

    SpectralWeights(const Plan& plan, Arena& arena) {
        table = arena.take<T>(plan.use_spectral() ? plan.spectral<T>().table_size() : 0);
        packed = arena.take<T>(plan.use_spectral() ? plan.spectral<T>().packed_size() : 0);
    }

    // From taps that are packed for products frame by frame.
    void prepare(const Plan& plan, const Kernels<T>& kernels, const T* taps, int threads) const {
        if (!plan.use_spectral()) {
            return;
        }
        const Spectral<T> spectral = plan.spectral<T>();
        spectral.fill_table(table);
        const Index out = plan.out, panel = 2 * kernels.lanes;
        for_each((out + panel - 1) / panel, threads, [&](Index at, Index) {
            const Index c = at * panel, size = out * std::min(panel, out - c);
            kernels.spectral_input({spectral.tap_waves(table), taps + c * plan.taps * out, size,
                                    packed + c * out, out * out, size, true});
        });
    }
};

template <typename T>
struct Graph {
    Index *first, *from, *index;  // index: of the edge in the adjacency
    T* weight;
    Index count = 0;

    Graph(const Plan& plan, Arena& arena) {
        const Index most = plan.parts * plan.joints * plan.joints;
        first = arena.take<Index>(plan.parts * plan.joints + 1);
        from = arena.take<Index>(most);
        index = arena.take<Index>(most);
        weight = arena.take<T>(most);
    }

    void fill(const Plan& plan, const T* adjacency) {
        count = 0;
        for (Index w = 0; w < plan.joints; ++w) {
            for (Index p = 0; p < plan.parts; ++p) {
                first[w * plan.parts + p] = count;
                for (Index v = 0; v < plan.joints; ++v) {
                    const Index at = (p * plan.joints + v) * plan.joints + w;
                    if (adjacency[at] != T{0}) {
                        from[count] = v;
                        index[count] = at;
                        weight[count++] = adjacency[at];
                    }
                }
            }
        }
        first[plan.parts * plan.joints] = count;
    }

    Edges<T> edges(const Plan& plan) const {
        return {first, from, weight, plan.parts, plan.joints};
    }
};

// Weights of the spatial product, [part * in + i][c], from [part * out + c][in].
template <typename T>
auto spatial_weights(const Plan& plan, const T* weight) {
    const Index in = plan.in, out = plan.out;
    return [=](Index row, Index c) { return weight[(row / in * out + c) * in + row % in]; };
}

// What a norm multiplies and adds, from weight and bias [2][out] and mean and variance [2][out].
template <typename T>
void norm_coefficients(const T* norm, const T* statistics, Index out, double eps, T* scale,
                       T* shift) {
    for (Index c = 0; c < out; ++c) {
        const double factor = static_cast<double>(norm[c]) /
                              std::sqrt(static_cast<double>(statistics[out + c]) + eps);
        scale[c] = static_cast<T>(factor);
        shift[c] = static_cast<T>(static_cast<double>(norm[out + c]) -
                                  static_cast<double>(statistics[c]) * factor);
    }
}

// What dropout keeps of y, from its element `at` on.
template <typename T, typename M>
Keep<T> kept_from(const StgcnBlock<T, M>& block, Index at) {
    const T scale = static_cast<T>(block.scale);
    if (block.keep == nullptr || block.keep_bytes == 0) {
        return {block.keep, at, std::numeric_limits<Index>::max(), 0xff, scale};
    }
    const int place = 1 << (at / block.keep_bytes);
    return {block.keep, at % block.keep_bytes, block.keep_bytes, static_cast<std::uint8_t>(place),
            scale / static_cast<T>(place)};
}

Status check_shape(const StgcnShape& shape, const void* workspace, int threads);

template <typename T>
Index forward_bytes(const Plan& plan, int threads);
template <typename T>
Index backward_bytes(const Plan& plan, int threads);

}  // namespace aimclr::cpu::stgcn
