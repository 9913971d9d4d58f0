#include <algorithm>

#include "common/philox.h"
#include "cuda/launch.h"
#include "cuda/philox/philox.h"

namespace aimclr::cuda {
namespace {

constexpr int kThreads = 256;
// Grid-stride loops: enough blocks to fill the largest device, few enough for any n.
constexpr std::int64_t kFullDevice = 4096;

__device__ std::int64_t first_item() {
    return static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}

__device__ std::int64_t item_stride() {
    return static_cast<std::int64_t>(gridDim.x) * blockDim.x;
}

// Tensors of int64 words are 8-byte aligned at least, and views of [n, 4] need not be 16-byte
// aligned, so loads are scalar.
__device__ Words4 load_words(const std::int64_t* from) {
    return {{static_cast<std::uint32_t>(from[0]), static_cast<std::uint32_t>(from[1]),
             static_cast<std::uint32_t>(from[2]), static_cast<std::uint32_t>(from[3])}};
}

__global__ void philox4x32_kernel(const std::int64_t* counters, std::uint32_t key0,
                                  std::uint32_t key1, std::int64_t* out, std::int64_t n) {
    for (std::int64_t i = first_item(); i < n; i += item_stride()) {
        const Words4 words = aimclr::philox4x32(load_words(counters + 4 * i), key0, key1);
        for (int j = 0; j < 4; ++j) {
            out[4 * i + j] = words.v[j];
        }
    }
}

__global__ void uniform_kernel(const std::int64_t* words, float* out, std::int64_t n) {
    for (std::int64_t i = first_item(); i < n; i += item_stride()) {
        out[i] = aimclr::uniform(static_cast<std::uint32_t>(words[i]));
    }
}

__global__ void bounded_kernel(const std::int64_t* words, std::uint32_t bound, std::int64_t* out,
                               std::int64_t n) {
    for (std::int64_t i = first_item(); i < n; i += item_stride()) {
        out[i] = aimclr::bounded(static_cast<std::uint32_t>(words[i]), bound);
    }
}

__global__ void normal_kernel(const std::int64_t* words, float* out, std::int64_t n) {
    for (std::int64_t i = first_item(); i < n; i += item_stride()) {
        const Floats4 draws = aimclr::normal(load_words(words + 4 * i));
        for (int j = 0; j < 4; ++j) {
            out[4 * i + j] = draws.v[j];
        }
    }
}

// Launches `kernel` over n items. An empty grid is an error in CUDA, so n = 0 launches nothing.
template <typename... Parameters, typename... Arguments>
Status launch_over(void (*kernel)(Parameters...), std::int64_t n, void* stream,
                   Arguments... arguments) {
    if (n < 0) {
        return invalid_argument("philox: n must not be negative");
    }
    if (n == 0) {
        return {};
    }
    const std::int64_t blocks = std::min(ceil_div(n, kThreads), kFullDevice);
    return launch(kernel, {blocks, kThreads}, stream, arguments..., n);
}

}  // namespace

Status philox4x32(const PhiloxCall& call, void* stream) {
    return launch_over(philox4x32_kernel, call.n, stream, call.counters, call.key0, call.key1,
                       call.out);
}

Status uniform(const std::int64_t* words, float* out, std::int64_t n, void* stream) {
    return launch_over(uniform_kernel, n, stream, words, out);
}

Status bounded(const std::int64_t* words, std::uint32_t bound, std::int64_t* out, std::int64_t n,
               void* stream) {
    return launch_over(bounded_kernel, n, stream, words, bound, out);
}

Status normal(const std::int64_t* words, float* out, std::int64_t n, void* stream) {
    return launch_over(normal_kernel, n, stream, words, out);
}

}  // namespace aimclr::cuda
