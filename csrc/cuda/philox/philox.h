#pragma once

#include <cstdint>

#include "common/philox.h"
#include "common/status.h"

namespace aimclr::cuda {

// As in cpu/philox/philox.h, over device pointers, on `stream` (a cudaStream_t; null is the default
// one).

Status philox4x32(const PhiloxCall& call, void* stream);

Status uniform(const std::int64_t* words, float* out, std::int64_t n, void* stream);

Status bounded(const std::int64_t* words, std::uint32_t bound, std::int64_t* out, std::int64_t n,
               void* stream);

Status normal(const std::int64_t* words, float* out, std::int64_t n, void* stream);

}  // namespace aimclr::cuda
