#include "cpu/philox/philox.h"

#include "cpu/parallel.h"
#include "cpu/philox/philox_kernels.h"

namespace aimclr::cpu {
namespace {

constexpr std::int64_t kGrain = 1 << 14;

Status check(const void* in, const void* out, std::int64_t n) {
    if (n < 0 || !countable(n)) {
        return invalid_argument("philox: n must not be negative or too large");
    }
    if (n > 0 && (in == nullptr || out == nullptr)) {
        return invalid_argument("philox: null pointer");
    }
    return {};
}

}  // namespace

Status philox4x32(const PhiloxCall& call, int threads) {
    AIMCLR_RETURN_IF_ERROR(check(call.counters, call.out, call.n));
    const Level used = level();
    parallel_for(call.n, threads, kGrain, [&](std::int64_t begin, std::int64_t end) {
        AIMCLR_AT_LEVEL(used, philox4x32_range(call, begin, end));
    });
    return {};
}

Status uniform(const std::int64_t* words, float* out, std::int64_t n) {
    AIMCLR_RETURN_IF_ERROR(check(words, out, n));
    for (std::int64_t i = 0; i < n; ++i) {
        out[i] = aimclr::uniform(static_cast<std::uint32_t>(words[i]));
    }
    return {};
}

Status bounded(const std::int64_t* words, std::uint32_t bound, std::int64_t* out, std::int64_t n) {
    AIMCLR_RETURN_IF_ERROR(check(words, out, n));
    for (std::int64_t i = 0; i < n; ++i) {
        out[i] = aimclr::bounded(static_cast<std::uint32_t>(words[i]), bound);
    }
    return {};
}

Status normal(const std::int64_t* words, float* out, std::int64_t n) {
    AIMCLR_RETURN_IF_ERROR(check(words, out, n));
    for (std::int64_t i = 0; i < n; ++i) {
        const Floats4 draws = aimclr::normal(load_words(words + 4 * i));
        for (int j = 0; j < 4; ++j) {
            out[4 * i + j] = draws.v[j];
        }
    }
    return {};
}

}  // namespace aimclr::cpu
