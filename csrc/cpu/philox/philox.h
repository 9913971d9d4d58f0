#pragma once

#include <cstdint>

#include "common/philox.h"
#include "common/status.h"

namespace aimclr::cpu {

Status philox4x32(const PhiloxCall& call, int threads);

// out[n] = the word as a float in [0, 1).
Status uniform(const std::int64_t* words, float* out, std::int64_t n);

// out[n] = the word as an integer in [0, bound).
Status bounded(const std::int64_t* words, std::uint32_t bound, std::int64_t* out, std::int64_t n);

// out[4 * n] = standard normal draws from words[4 * n].
Status normal(const std::int64_t* words, float* out, std::int64_t n);

}  // namespace aimclr::cpu
