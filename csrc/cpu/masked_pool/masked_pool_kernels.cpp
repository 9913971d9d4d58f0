#include "cpu/masked_pool/masked_pool_kernels.h"

#include <algorithm>
#include <cstring>
#include <type_traits>

namespace aimclr::cpu::AIMCLR_LEVEL {
namespace {

// Enough independent sums to hide an addition's latency, and a cache line of any type.
constexpr std::int64_t kLanes = 32;
// After so many additions a lane's sum goes into a double, so that large maps keep their accuracy.
constexpr std::int64_t kRounds = 256;

// Sums of both kinds of elements, a lane each.
template <typename R>
struct Lanes {
    R inside[kLanes] = {};
    R outside[kLanes] = {};
};

template <typename R>
double sum_of(const R* lanes) {
    double sum = 0;
    for (std::int64_t j = 0; j < kLanes; ++j) {
        sum += static_cast<double>(lanes[j]);
    }
    return sum;
}

// The bits of a value of `Size` bytes: choices by bits become vector instructions, which those of a
// bool do not.
template <std::size_t Size>
using Bits = std::conditional_t<Size == 2, std::uint16_t,
                                std::conditional_t<Size == 4, std::uint32_t, std::uint64_t>>;

template <typename Value>
Bits<sizeof(Value)> to_bits(Value value) {
    Bits<sizeof(Value)> bits;
    std::memcpy(&bits, &value, sizeof(bits));
    return bits;
}

template <typename R>
R from_bits(Bits<sizeof(R)> bits) {
    R value;
    std::memcpy(&value, &bits, sizeof(value));
    return value;
}

// All bits set where the mask is.
template <typename B>
B chosen(std::uint8_t mask) {
    return static_cast<B>(-static_cast<B>(mask != 0));
}

// Adds `width` elements, each to the side that its mask says, and 0 to the other. No product: that
// would spread what is not finite.
template <typename T, typename R>
void add_chosen(const T* __restrict from, const std::uint8_t* __restrict mask, std::int64_t width,
                Lanes<R>& lanes) {
    for (std::int64_t j = 0; j < width; ++j) {
        const auto bits = to_bits(load<R>(from[j]));
        const auto inside = chosen<Bits<sizeof(R)>>(mask[j]);
        lanes.inside[j] += from_bits<R>(bits & inside);
        lanes.outside[j] += from_bits<R>(bits & ~inside);
    }
}

// One channel's map, whose elements follow each other.
template <typename T>
void pool_row(const MaskedPoolForward<T>& call, MaskCounts counts, std::int64_t map) {
    using R = RealOf<T>;
    const std::int64_t n = counts.inside + counts.outside;
    const T* const from = call.x + map * n;
    double inside = 0, outside = 0;
    for (std::int64_t begin = 0; begin < n; begin += kRounds * kLanes) {
        const std::int64_t end = std::min(n, begin + kRounds * kLanes);
        Lanes<R> lanes;
        std::int64_t i = begin;
        for (; i + kLanes <= end; i += kLanes) {
            add_chosen(from + i, call.mask + i, kLanes, lanes);
        }
        add_chosen(from + i, call.mask + i, end - i, lanes);
        inside += sum_of(lanes.inside);
        outside += sum_of(lanes.outside);
    }
    call.inside[map] = static_cast<R>(inside / static_cast<double>(counts.inside));
    call.outside[map] = static_cast<R>(outside / static_cast<double>(counts.outside));
}

// Up to kLanes channels of a sample in channels-last format, from `first` on.
template <typename T>
void pool_columns(const MaskedPoolForward<T>& call, MaskCounts counts, std::int64_t sample,
                  std::int64_t first) {
    using R = RealOf<T>;
    const std::int64_t channels = call.shape.channels, n = counts.inside + counts.outside;
    const std::int64_t width = std::min(kLanes, channels - first);
    double inside[kLanes] = {}, outside[kLanes] = {};
    const T* from = call.x + sample * n * channels + first;
    for (std::int64_t begin = 0; begin < n; begin += kRounds) {
        Lanes<R> lanes;
        for (std::int64_t i = begin; i < std::min(n, begin + kRounds); ++i, from += channels) {
            R* const sums = call.mask[i] ? lanes.inside : lanes.outside;
            if (width == kLanes) {
                for (std::int64_t j = 0; j < kLanes; ++j) {
                    sums[j] += load<R>(from[j]);
                }
            } else {
                for (std::int64_t j = 0; j < width; ++j) {
                    sums[j] += load<R>(from[j]);
                }
            }
        }
        for (std::int64_t j = 0; j < kLanes; ++j) {
            inside[j] += static_cast<double>(lanes.inside[j]);
            outside[j] += static_cast<double>(lanes.outside[j]);
        }
    }
    for (std::int64_t j = 0; j < width; ++j) {
        const std::int64_t map = sample * channels + first + j;
        call.inside[map] = static_cast<R>(inside[j] / static_cast<double>(counts.inside));
        call.outside[map] = static_cast<R>(outside[j] / static_cast<double>(counts.outside));
    }
}

// The gradient of each element of a channel, inside or outside.
template <typename T>
Bits<sizeof(T)> share(RealOf<T> gradient, std::int64_t count) {
    return to_bits(Store<T>::from(gradient / static_cast<RealOf<T>>(count)));
}

template <typename T>
void spread_row(const MaskedPoolBackward<T>& call, MaskCounts counts, std::int64_t map) {
    using B = Bits<sizeof(T)>;
    const B inside = share<T>(call.grad_inside[map], counts.inside);
    const B outside = share<T>(call.grad_outside[map], counts.outside);
    const std::int64_t n = counts.inside + counts.outside;
    const std::uint8_t* __restrict mask = call.mask;
    B* __restrict to = reinterpret_cast<B*>(call.dx) + map * n;
    for (std::int64_t i = 0; i < n; ++i) {
        const B here = chosen<B>(mask[i]);
        to[i] = static_cast<B>((inside & here) | (outside & ~here));
    }
}

// A sample in channels-last format: each position gets one of two rows of channels.
template <typename T>
void spread_columns(const MaskedPoolBackward<T>& call, MaskCounts counts, std::int64_t sample) {
    constexpr std::int64_t kChannels = 256;  // on the stack
    const std::int64_t channels = call.shape.channels, n = counts.inside + counts.outside;
    Bits<sizeof(T)> inside[kChannels], outside[kChannels];
    for (std::int64_t first = 0; first < channels; first += kChannels) {
        const std::int64_t width = std::min(kChannels, channels - first);
        for (std::int64_t j = 0; j < width; ++j) {
            const std::int64_t map = sample * channels + first + j;
            inside[j] = share<T>(call.grad_inside[map], counts.inside);
            outside[j] = share<T>(call.grad_outside[map], counts.outside);
        }
        T* to = call.dx + sample * n * channels + first;
        for (std::int64_t i = 0; i < n; ++i, to += channels) {
            std::memcpy(to, call.mask[i] ? inside : outside,
                        static_cast<std::size_t>(width) * sizeof(T));
        }
    }
}

}  // namespace

template <typename T>
void pool_samples(const MaskedPoolForward<T>& call, MaskCounts counts, std::int64_t begin,
                  std::int64_t end) {
    const std::int64_t channels = call.shape.channels;
    for (std::int64_t sample = begin; sample < end; ++sample) {
        if (call.shape.channels_last) {
            for (std::int64_t first = 0; first < channels; first += kLanes) {
                pool_columns(call, counts, sample, first);
            }
        } else {
            for (std::int64_t c = 0; c < channels; ++c) {
                pool_row(call, counts, sample * channels + c);
            }
        }
    }
}

template <typename T>
void spread_samples(const MaskedPoolBackward<T>& call, MaskCounts counts, std::int64_t begin,
                    std::int64_t end) {
    const std::int64_t channels = call.shape.channels;
    for (std::int64_t sample = begin; sample < end; ++sample) {
        if (call.shape.channels_last) {
            spread_columns(call, counts, sample);
        } else {
            for (std::int64_t c = 0; c < channels; ++c) {
                spread_row(call, counts, sample * channels + c);
            }
        }
    }
}

#define AIMCLR_INSTANTIATE(T)                                                            \
    template void pool_samples(const MaskedPoolForward<T>&, MaskCounts, std::int64_t,    \
                               std::int64_t);                                            \
    template void spread_samples(const MaskedPoolBackward<T>&, MaskCounts, std::int64_t, \
                                 std::int64_t);
AIMCLR_INSTANTIATE(float)
AIMCLR_INSTANTIATE(double)
AIMCLR_INSTANTIATE(BFloat16)
AIMCLR_INSTANTIATE(Half)
#undef AIMCLR_INSTANTIATE

}  // namespace aimclr::cpu::AIMCLR_LEVEL
