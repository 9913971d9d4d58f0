#include "cpu/apply_augment/apply_augment.h"

#include <algorithm>

#include "cpu/skeleton_augment/skeleton_augment_view.h"

namespace aimclr::cpu {
namespace {

using augment::GivenCall;
using augment::Params;
using augment::Stream;

template <typename T, typename Real>
void forward(const T* x, const T* noise, T* out, Stream stream, const Params<Real>& params,
             const augment::Chain& chain, Workspace<Real>& workspace) {
    const int size = chain.shape.plane();
    stage(x, Real(1), chain, workspace);
    const auto plane_of_noise = [&](int axis) -> const Real* {
        if (noise == nullptr) {
            return nullptr;
        }
        workspace.loops.load_scaled(noise + static_cast<std::int64_t>(axis) * size, Real(1),
                                    workspace.noise(), size);
        return workspace.noise();
    };
    write_view(params, chain, plane_of_noise, &stream, &out, 1, workspace);
}

// The gradient at a plane, from that at its stream.
template <typename Real>
void before_stream(const Real* grad, Stream stream, const augment::Chain& chain, Loops loops,
                   Real* plane) {
    const augment::Shape shape = chain.shape;
    const int size = shape.plane(), row = shape.row();
    if (stream == Stream::kMotion && shape.frames == 1) {
        std::fill_n(plane, size, Real(0));
    } else if (stream == Stream::kMotion) {
        // Frame t counts for motion t - 1 and against motion t, but the last motion is always 0.
        for (int i = 0; i < row; ++i) {
            plane[i] = -grad[i];
        }
        loops.subtract(grad, grad + row, plane + row, size - 2 * row);
        std::copy_n(grad + (size - 2 * row), row, plane + (size - row));
    } else {
        std::copy_n(grad, size, plane);
    }
    for (int i = 0; stream == Stream::kBone && i < size; ++i) {
        plane[i / row * row + chain.joints.parents[i % row]] -= grad[i];
    }
}

// Each step of the chain transposed, in reverse order.
template <typename T, typename Real>
void backward(const T* grad, T* grad_x, T* grad_noise, Stream stream, const Params<Real>& params,
              const augment::Chain& chain, Workspace<Real>& workspace) {
    const augment::Shape shape = chain.shape;
    const int size = shape.plane(), row = shape.row();
    const augment::Matrix<Real> matrix = augment::matrix_of(params);
    const Blur<Real> blur(params.blur_sigma, chain);
    for (int axis = 0; axis < 3; ++axis) {
        const std::int64_t at = static_cast<std::int64_t>(axis) * size;
        Real* const moved = workspace.flipped(axis);
        if (axis == params.axis_mask) {
            std::fill_n(moved, size, Real(0));
        } else {
            workspace.loops.load_scaled(grad + at, Real(1), workspace.streamed(), size);
            before_stream(workspace.streamed(), stream, chain, workspace.loops,
                          workspace.reversed());
            for (int t = 0; t < shape.frames; ++t) {
                const int from = params.temporal_flip ? shape.frames - 1 - t : t;
                std::copy_n(workspace.reversed() + std::int64_t{from} * row, row,
                            workspace.transformed() + std::int64_t{t} * row);
            }
            // The weights are symmetric, so the blur is its own transpose.
            if (blur.taps > 0) {
                blur(workspace, shape, moved);
            } else {
                std::copy_n(workspace.transformed(), size, moved);
            }
        }
        if (grad_noise != nullptr) {
            workspace.loops.store(moved, grad_noise + at, size);
        }
    }
    for (int axis = 0; grad_x != nullptr && axis < 3; ++axis) {
        const Real column[3] = {matrix.entry[axis], matrix.entry[3 + axis], matrix.entry[6 + axis]};
        const Real* turned = workspace.flipped(axis);
        if (!matrix.identity) {
            workspace.loops.combine(workspace.flipped(0), workspace.flipped(1),
                                    workspace.flipped(2), column, workspace.blurred(), size);
            turned = workspace.blurred();
        }
        if (params.spatial_flip) {  // the permutation is its own inverse
            gather_columns(turned, chain.joints.swap, shape, workspace.reversed());
            turned = workspace.reversed();
        }
        Real* const padded = workspace.staged(axis);
        Real* const first = padded + std::int64_t{chain.padding} * row;
        std::fill_n(padded, size + 2 * std::int64_t{chain.padding} * row, Real(0));
        std::copy_n(turned, size, padded + std::int64_t{params.crop_start} * row);
        for (int i = 1; i <= chain.padding; ++i) {
            const std::int64_t before = -i, after = shape.frames - 1 + i;
            workspace.loops.add(first + before * row, first + (i - 1) * std::int64_t{row}, row);
            workspace.loops.add(first + after * row, first + (shape.frames - i) * std::int64_t{row},
                                row);
        }
        workspace.loops.store(first, grad_x + static_cast<std::int64_t>(axis) * size, size);
    }
}

template <typename T>
T* tensor_at(void* tensor, std::int64_t element) {
    return tensor == nullptr ? nullptr : static_cast<T*>(tensor) + element;
}

template <typename T>
const T* tensor_at(const void* tensor, std::int64_t element) {
    return tensor == nullptr ? nullptr : static_cast<const T*>(tensor) + element;
}

}  // namespace

Status apply_augment(const GivenCall& call, int threads) {
    AIMCLR_RETURN_IF_ERROR(augment::check(call));
    AIMCLR_RETURN_IF_ERROR(check_tables(call.chain));
    const std::int64_t* const starts = call.params.crop_start;
    for (std::int64_t i = 0; starts != nullptr && i < call.samples; ++i) {
        if (starts[i] < 0 || starts[i] > 2 * std::int64_t{call.chain.padding}) {
            return invalid_argument("apply_augment: params.crop_start is out of range");
        }
    }
    return for_type<float, double, Half, BFloat16>(call.type, [&](auto tag) {
        using T = typename decltype(tag)::Type;
        using Real = RealOf<T>;
        const augment::GivenParams<Real> given = call.params.as<Real>();
        return for_samples<Real>(
            call.samples, call.chain, threads,
            [&](std::int64_t sample, Workspace<Real>& workspace) {
                const std::int64_t at = sample * call.chain.shape.elements();
                const Params<Real> params = given.at(sample, call.chain.padding);
                const T* const input = tensor_at<T>(call.input, at);
                T* const output = tensor_at<T>(call.output, at);
                if (call.backward) {
                    backward(input, output, tensor_at<T>(call.noise_output, at), call.stream,
                             params, call.chain, workspace);
                } else {
                    forward(input, tensor_at<T>(call.noise, at), output, call.stream, params,
                            call.chain, workspace);
                }
            });
    });
}

}  // namespace aimclr::cpu
