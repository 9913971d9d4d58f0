#include "cpu/philox/philox.h"

#include "common/macros.h"
#include "common/philox.h"
#include "cpu/parallel.h"

namespace aimclr::cpu {
namespace {

constexpr std::int64_t kGrain = 1 << 14;

AIMCLR_HD Words4 load_words(const std::int64_t* from) {
    return {{static_cast<std::uint32_t>(from[0]), static_cast<std::uint32_t>(from[1]),
             static_cast<std::uint32_t>(from[2]), static_cast<std::uint32_t>(from[3])}};
}

AIMCLR_MULTIVERSION
void fill(const std::int64_t* counters, std::uint32_t key0, std::uint32_t key1, std::int64_t* out,
          std::int64_t n) {
    for (std::int64_t i = 0; i < n; ++i) {
        const Words4 words = aimclr::philox4x32(load_words(counters + 4 * i), key0, key1);
        for (int j = 0; j < 4; ++j) {
            out[4 * i + j] = words.v[j];
        }
    }
}

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
    parallel_for(call.n, threads, kGrain, [&](std::int64_t begin, std::int64_t end) {
        fill(call.counters + 4 * begin, call.key0, call.key1, call.out + 4 * begin, end - begin);
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
