// How evenly stgcn_block's work is spread over threads, with kernels that count instead of compute.
//
// Reads "samples threads in out frames joints parts taps stride residual" a line, and answers with
// "name cost length regions bytes" for each pass: cost and length in multiply-adds, the length
// until the last of the threads is done, and the bytes of the workspace.

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

#include "cpu/parallel.h"
#include "cpu/stgcn_block/stgcn_block.h"
#include "cpu/stgcn_block/stgcn_block_plan.h"

namespace aimclr::cpu::stgcn {
namespace {

// Of an element that is read and written between products, in multiply-adds: as measured.
constexpr double kElement = 8.0;

void count(double cost) {
    schedule.cost += cost;
}

template <typename Call>
void count_frame(const Call& call) {
    count(kElement * static_cast<double>(call.joints * call.channels));
}

double pairs(Index positions, Index length) {
    return 2.0 * static_cast<double>(positions * spectral_pairs(length));
}

double edges_of(const Edges<float>& edges) {
    return static_cast<double>(edges.first[edges.joints * edges.parts]);
}

const Kernels<float> kCounting = {
    16,
    [](const Product<float>& call) {
        count(static_cast<double>(call.joints * call.segments * call.length * call.width));
    },
    [](const Outer<float>& call) {
        count(static_cast<double>(call.rows * call.a_width * call.b_width));
    },
    [](const Activation<float>& call) { count_frame(call); },
    [](const Moments<float>& call) { count_frame(call); },
    [](const Finish<float>& call) { count_frame(call); },
    [](const NormSums<float>& call) { count_frame(call); },
    [](const NormBackward<float>& call) { count_frame(call); },
    [](const ReluBackward<float>& call) { count_frame(call); },
    [](const Edges<float>& edges, const Gather<float>& call) {
        count(kElement * edges_of(edges) * static_cast<double>(call.channels));
    },
    [](const Edges<float>& edges, const Scatter<float>& call) {
        count(kElement * edges_of(edges) * static_cast<double>(call.channels));
    },
    [](const Mask<float>& call) { count(kElement * static_cast<double>(call.count)); },
    [](const SpectralInput<float>& call) {
        count(pairs(call.waves.positions, call.waves.length) * static_cast<double>(call.count));
    },
    [](const SpectralOutput<float>& call) {
        count(pairs(call.waves.positions, call.waves.length) *
              static_cast<double>(call.rows * call.channels));
    },
    [](const Add<float>& call) { count(kElement * static_cast<double>(call.count)); },
};

}  // namespace

template <>
Kernels<float> choose_kernels(Index) {
    return kCounting;
}
template <>
Kernels<double> choose_kernels(Index) {
    std::abort();
}

Status check_shape(const StgcnShape&, const void*, int) {
    return {};
}

}  // namespace aimclr::cpu::stgcn

namespace {

using namespace aimclr::cpu;
using stgcn::Index;

struct Free {
    void operator()(void* data) const {
        std::free(data);
    }
};
std::vector<std::unique_ptr<void, Free>> kept;

// Zeros; what is never touched takes no memory.
template <typename T>
T* zeros(Index elements) {
    constexpr std::size_t kAlign = 64;
    auto* const data =
        static_cast<char*>(std::calloc(static_cast<std::size_t>(elements) * sizeof(T) + kAlign, 1));
    kept.emplace_back(data);
    return reinterpret_cast<T*>(data + (kAlign - reinterpret_cast<std::uintptr_t>(data) % kAlign));
}

template <typename Pass>
void report(const char* name, Index bytes, const Pass& pass) {
    schedule = {};
    if (pass().code != aimclr::StatusCode::kOk) {
        std::exit(1);
    }
    std::printf("%s %.0f %.0f %ld %ld\n", name, schedule.cost, schedule.length,
                static_cast<long>(schedule.regions), static_cast<long>(bytes));
}

void simulate(const StgcnShape& shape, bool residual, int threads) {
    const stgcn::Plan plan(shape, residual);
    const Index in = shape.in, out = shape.out, edges = shape.parts * shape.joints * shape.joints;
    const Index input = shape.batch * shape.frames * shape.joints * in;
    float* const adjacency = zeros<float>(edges);
    for (Index edge = 0; edge < edges; edge += shape.joints) {  // one to each joint and part
        adjacency[edge + edge / shape.joints % shape.joints] = 1.0f;
    }
    StgcnBlock<float> block{};
    block.shape = shape;
    block.x = zeros<float>(input);
    block.adjacency = adjacency;
    block.spatial_weight = zeros<float>(shape.parts * out * in);
    block.spatial_bias = zeros<float>(shape.parts * out);
    block.temporal_weight = zeros<float>(shape.taps * out * out);
    block.temporal_bias = zeros<float>(out);
    block.norms = zeros<float>(3 * 2 * out);
    if (residual) {
        block.residual_weight = zeros<float>(in * out);
        block.residual_bias = zeros<float>(out);
    }
    block.identity = !residual && in == out;
    block.scale = 1.0;
    block.eps = 1e-5;
    StgcnMaps<float> maps{};
    maps.statistics = zeros<float>(3 * 2 * out);
    maps.spatial = zeros<float>(shape.batch * plan.map());
    for (float** map : {&maps.y, &maps.temporal, &maps.shortcut}) {
        *map = zeros<float>(shape.batch * plan.short_map());
    }
    StgcnGradients<float> to{};
    to.d_x = zeros<float>(input);
    to.d_adjacency = zeros<float>(edges);
    to.d_spatial_weight = zeros<float>(shape.parts * out * in);
    to.d_spatial_bias = zeros<float>(shape.parts * out);
    to.d_temporal_weight = zeros<float>(shape.taps * out * out);
    to.d_temporal_bias = zeros<float>(out);
    to.d_norms = zeros<float>(3 * 2 * out);
    to.d_residual_weight = zeros<float>(in * out);
    to.d_residual_bias = zeros<float>(out);
    const float* const grad_y = zeros<float>(shape.batch * plan.short_map());
    const Index forward = stgcn::forward_bytes<float>(plan, threads);
    const Index backward = stgcn::backward_bytes<float>(plan, threads);
    block.workspace = zeros<char>(std::max(forward, backward));
    report("forward", forward, [&] { return stgcn_block_forward(block, maps, threads); });
    report("backward", backward,
           [&] { return stgcn_block_backward(grad_y, block, maps, to, threads); });
    kept.clear();
}

}  // namespace

int main() {
    StgcnShape shape{};
    int threads = 0, residual = 0;
    while (std::scanf("%ld %d %ld %ld %ld %ld %ld %ld %ld %d", &shape.batch, &threads, &shape.in,
                      &shape.out, &shape.frames, &shape.joints, &shape.parts, &shape.taps,
                      &shape.stride, &residual) == 10) {
        simulate(shape, residual != 0, threads);
    }
    return 0;
}
