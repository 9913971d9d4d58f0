// stgcn_block as a program, for processors that have no Python here: sizes are arguments, arrays
// come in by standard input and go out by standard output.

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "cpu/stgcn_block/stgcn_block.h"

namespace {

using namespace aimclr::cpu;

template <typename T>
struct Arrays {
    std::vector<std::vector<T>> kept;

    T* take(std::int64_t size) {
        return kept.emplace_back(static_cast<std::size_t>(size)).data();
    }
    const T* read(std::int64_t size) {
        T* const data = take(size);
        const auto count = static_cast<std::size_t>(size);
        if (std::fread(data, sizeof(T), count, stdin) != count) {
            std::exit(3);
        }
        return data;
    }
    void write_from(std::size_t first) const {
        for (std::size_t i = first; i < kept.size(); ++i) {
            std::fwrite(kept[i].data(), sizeof(T), kept[i].size(), stdout);
        }
    }
};

void check(const aimclr::Status& status) {
    if (status.code != aimclr::StatusCode::kOk) {
        std::fprintf(stderr, "%s\n", status.message);
        std::exit(1);
    }
}

template <typename T>
void run(const StgcnShape& shape, bool residual, int threads) {
    const std::int64_t in = shape.in, out = shape.out, edges = shape.parts * shape.joints;
    const std::int64_t row = shape.batch * shape.joints, norms = residual ? 3 : 2;
    Arrays<T> arrays;
    StgcnBlock<T> block{};
    block.shape = shape;
    block.x = arrays.read(row * shape.frames * in);
    block.adjacency = arrays.read(edges * shape.joints);
    block.spatial_weight = arrays.read(shape.parts * out * in);
    block.spatial_bias = arrays.read(shape.parts * out);
    block.temporal_weight = arrays.read(out * out * shape.taps);
    block.temporal_bias = arrays.read(out);
    block.norms = arrays.read(norms * 2 * out);
    if (residual) {
        block.residual_weight = arrays.read(out * in);
        block.residual_bias = arrays.read(out);
    }
    const T* const grad_y = arrays.read(row * shape.shorter() * out);
    block.identity = !residual;
    block.scale = 1.0;
    block.eps = 1e-5;
    std::int64_t bytes[2];
    for (const bool backward : {false, true}) {
        check(
            stgcn_block_workspace(shape, residual, backward, sizeof(T), threads, bytes[backward]));
    }
    block.workspace = std::aligned_alloc(
        64, static_cast<std::size_t>(std::max(bytes[0], bytes[1]) + 63) / 64 * 64);
    StgcnMaps<T> maps{};
    maps.spatial = arrays.take(row * shape.frames * out);
    maps.temporal = arrays.take(row * shape.shorter() * out);
    maps.shortcut = arrays.take(row * shape.shorter() * out);
    const std::size_t results = arrays.kept.size();
    maps.y = arrays.take(row * shape.shorter() * out);
    maps.statistics = arrays.take(norms * 2 * out);
    StgcnGradients<T> to{};
    to.d_x = arrays.take(row * shape.frames * in);
    to.d_adjacency = arrays.take(edges * shape.joints);
    to.d_spatial_weight = arrays.take(shape.parts * out * in);
    to.d_spatial_bias = arrays.take(shape.parts * out);
    to.d_temporal_weight = arrays.take(out * out * shape.taps);
    to.d_temporal_bias = arrays.take(out);
    to.d_norms = arrays.take(norms * 2 * out);
    if (residual) {
        to.d_residual_weight = arrays.take(out * in);
        to.d_residual_bias = arrays.take(out);
    }
    check(stgcn_block_forward(block, maps, threads));
    check(stgcn_block_backward(grad_y, block, maps, to, threads));
    arrays.write_from(results);
    std::free(block.workspace);
}

}  // namespace

int main(int count, char** arguments) {
    if (count != 12) {
        std::fprintf(stderr, "double(0|1) residual(0|1) threads, and the eight sizes\n");
        return 2;
    }
    std::vector<std::int64_t> given;
    for (int i = 1; i < count; ++i) {
        given.push_back(std::stoll(arguments[i]));
    }
    const StgcnShape shape{given[3], given[4], given[5], given[6],
                           given[7], given[8], given[9], given[10]};
    (given[0] != 0 ? run<double> : run<float>)(shape, given[1] != 0, static_cast<int>(given[2]));
    return 0;
}
