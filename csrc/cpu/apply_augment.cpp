#include "cpu/apply_augment.h"

#include <algorithm>
#include <atomic>

#include "cpu/parallel.h"
#include "cpu/skeleton_augment_view.h"

namespace aimclr::cpu {
namespace {

using augment::GivenParams;
using augment::Params;
using augment::Stream;

template <typename T, typename Real>
void forward(const T* x, const T* noise, T* out, Stream stream, const Params<Real>& params,
             const ViewOptions& options, Workspace<Real>& workspace) {
    const int size = options.shape.plane();
    stage(x, Real(1), options, workspace);
    const auto plane_of_noise = [&](int axis) -> const Real* {
        if (noise == nullptr) {
            return nullptr;
        }
        loops::load_scaled(noise + static_cast<std::int64_t>(axis) * size, Real(1),
                           workspace.noise(), size);
        return workspace.noise();
    };
    write_view(params, options, plane_of_noise, &stream, &out, 1, workspace);
}

// The gradient at a plane, from that at its stream.
template <typename Real>
void before_stream(const Real* grad, Stream stream, const ViewOptions& options, Real* plane) {
    const augment::Shape shape = options.shape;
    const int size = shape.plane(), row = shape.row();
    if (stream == Stream::kMotion && shape.frames == 1) {
        std::fill_n(plane, size, Real(0));
    } else if (stream == Stream::kMotion) {
        // Frame t counts for motion t - 1 and against motion t, but the last motion is always 0.
        for (int i = 0; i < row; ++i) {
            plane[i] = -grad[i];
        }
        loops::subtract(grad, grad + row, plane + row, size - 2 * row);
        std::copy_n(grad + (size - 2 * row), row, plane + (size - row));
    } else {
        std::copy_n(grad, size, plane);
    }
    for (int i = 0; stream == Stream::kBone && i < size; ++i) {
        const int frame = i / row, joint = i % row / shape.bodies, body = i % shape.bodies;
        plane[frame * row + options.joints.parents[joint] * shape.bodies + body] -= grad[i];
    }
}

// Each step of the chain transposed, in reverse order.
template <typename T, typename Real>
void backward(const T* grad, T* grad_x, T* grad_noise, Stream stream, const Params<Real>& params,
              const ViewOptions& options, Workspace<Real>& workspace) {
    const augment::Shape shape = options.shape;
    const int size = shape.plane(), row = shape.row();
    const augment::Matrix<Real> matrix = augment::matrix_of(params);
    Real weights[augment::kMaxBlurTaps];
    const int taps = blur_weights(params.blur_sigma, options, weights);
    for (int axis = 0; axis < 3; ++axis) {
        const std::int64_t at = static_cast<std::int64_t>(axis) * size;
        Real* const moved = workspace.flipped(axis);
        if (axis == params.axis_mask) {
            std::fill_n(moved, size, Real(0));
        } else {
            loops::load_scaled(grad + at, Real(1), workspace.streamed(), size);
            before_stream(workspace.streamed(), stream, options, workspace.reversed());
            for (int t = 0; t < shape.frames; ++t) {
                const int from = params.temporal_flip ? shape.frames - 1 - t : t;
                std::copy_n(workspace.reversed() + std::int64_t{from} * row, row,
                            workspace.transformed() + std::int64_t{t} * row);
            }
            // The weights are symmetric, so the blur is its own transpose.
            if (taps > 0) {
                loops::blur(workspace.framed_begin(), weights, taps, row, moved, size);
            } else {
                std::copy_n(workspace.transformed(), size, moved);
            }
        }
        if (grad_noise != nullptr) {
            loops::store(moved, grad_noise + at, size);
        }
    }
    for (int axis = 0; grad_x != nullptr && axis < 3; ++axis) {
        const Real column[3] = {matrix.entry[axis], matrix.entry[3 + axis], matrix.entry[6 + axis]};
        const Real* turned = workspace.flipped(axis);
        if (!matrix.identity) {
            loops::combine(workspace.flipped(0), workspace.flipped(1), workspace.flipped(2), column,
                           workspace.blurred(), size);
            turned = workspace.blurred();
        }
        if (params.spatial_flip) {  // the permutation is its own inverse
            loops::gather_joints(turned, options.joints.swap, shape, workspace.reversed());
            turned = workspace.reversed();
        }
        Real* const padded = workspace.staged(axis);
        Real* const first = padded + std::int64_t{options.padding} * row;
        std::fill_n(padded, size + 2 * std::int64_t{options.padding} * row, Real(0));
        std::copy_n(turned, size, padded + std::int64_t{params.crop_start} * row);
        for (int i = 1; i <= options.padding; ++i) {
            const std::int64_t before = -i, after = shape.frames - 1 + i;
            loops::add(first + before * row, first + (i - 1) * std::int64_t{row}, row);
            loops::add(first + after * row, first + (shape.frames - i) * std::int64_t{row}, row);
        }
        loops::store(first, grad_x + static_cast<std::int64_t>(axis) * size, size);
    }
}

// Calls body(sample, params, options, workspace) for each sample.
template <typename Real, typename Body>
Status each_sample(const GivenParams<Real>& given, const ViewOptions& options, std::int64_t n,
                   int threads, const Body& body) {
    const std::int64_t last_start = 2 * std::int64_t{options.padding};
    for (std::int64_t i = 0; i < n; ++i) {
        if (given.crop_start != nullptr &&
            (given.crop_start[i] < 0 || given.crop_start[i] > last_start)) {
            return invalid_argument("apply_augment: params.crop_start is out of range");
        }
    }
    constexpr std::int64_t kElementsPerThread = 1 << 18;
    const std::int64_t grain =
        std::max<std::int64_t>(1, kElementsPerThread / std::max(options.shape.elements(), 1));
    std::atomic<bool> out_of_memory{false};
    parallel_for(n, threads, grain, [&](std::int64_t begin, std::int64_t end) {
        Workspace<Real> workspace(options);
        if (!workspace.allocated()) {
            out_of_memory = true;
            return;
        }
        for (std::int64_t sample = begin; sample < end; ++sample) {
            body(sample, given.at(sample, options.padding), workspace);
        }
    });
    return out_of_memory ? device_error("apply_augment: out of memory") : Status{};
}

template <typename T>
T* offset(T* base, std::int64_t elements) {
    return base == nullptr ? nullptr : base + elements;
}

// Calls body(T{}, Real{}) with the type of the tensors and that of the arithmetic.
template <typename Body>
Status visit(int type, const Body& body) {
    switch (static_cast<DataType>(type)) {
        case DataType::kFloat32:
            return body(float{}, float{});
        case DataType::kFloat64:
            return body(double{}, double{});
        case DataType::kFloat16:
            return body(Half{}, float{});
        case DataType::kBFloat16:
            return body(BFloat16{}, float{});
        default:
            return invalid_argument("apply_augment: unknown dtype");
    }
}

}  // namespace

Status apply_augment(const void* x, const void* noise, void* out, int type,
                     const std::int64_t* crop_start, const void* shear, const bool* spatial_flip,
                     const void* angles, const void* blur_sigma, const std::int64_t* axis_mask,
                     const bool* temporal_flip, const std::int32_t* swap,
                     const std::int32_t* parents, int stream, int crop_ratio, int blur_taps,
                     bool blur_normalize, std::int64_t n, int frames, int joints, int bodies,
                     int threads) {
    const augment::Shape shape{frames, joints, bodies};
    AIMCLR_RETURN_IF_ERROR(augment::check(shape, crop_ratio, blur_taps));
    const ViewOptions options{
        shape, {swap, parents}, frames / crop_ratio, blur_taps, blur_normalize};
    return visit(type, [&](auto element, auto real) {
        using T = decltype(element);
        using Real = decltype(real);
        const GivenParams<Real> given{crop_start,
                                      static_cast<const Real*>(shear),
                                      spatial_flip,
                                      static_cast<const Real*>(angles),
                                      static_cast<const Real*>(blur_sigma),
                                      axis_mask,
                                      temporal_flip};
        return each_sample(
            given, options, n, threads, [&](auto sample, const auto& params, auto& workspace) {
                const std::int64_t at = sample * shape.elements();
                forward(static_cast<const T*>(x) + at, offset(static_cast<const T*>(noise), at),
                        static_cast<T*>(out) + at, static_cast<Stream>(stream), params, options,
                        workspace);
            });
    });
}

Status apply_augment_backward(const void* grad, void* grad_x, void* grad_noise, int type,
                              const std::int64_t* crop_start, const void* shear,
                              const bool* spatial_flip, const void* angles, const void* blur_sigma,
                              const std::int64_t* axis_mask, const bool* temporal_flip,
                              const std::int32_t* swap, const std::int32_t* parents, int stream,
                              int crop_ratio, int blur_taps, bool blur_normalize, std::int64_t n,
                              int frames, int joints, int bodies, int threads) {
    const augment::Shape shape{frames, joints, bodies};
    AIMCLR_RETURN_IF_ERROR(augment::check(shape, crop_ratio, blur_taps));
    const ViewOptions options{
        shape, {swap, parents}, frames / crop_ratio, blur_taps, blur_normalize};
    return visit(type, [&](auto element, auto real) {
        using T = decltype(element);
        using Real = decltype(real);
        const GivenParams<Real> given{crop_start,
                                      static_cast<const Real*>(shear),
                                      spatial_flip,
                                      static_cast<const Real*>(angles),
                                      static_cast<const Real*>(blur_sigma),
                                      axis_mask,
                                      temporal_flip};
        return each_sample(
            given, options, n, threads, [&](auto sample, const auto& params, auto& workspace) {
                const std::int64_t at = sample * shape.elements();
                backward(static_cast<const T*>(grad) + at, offset(static_cast<T*>(grad_x), at),
                         offset(static_cast<T*>(grad_noise), at), static_cast<Stream>(stream),
                         params, options, workspace);
            });
    });
}

}  // namespace aimclr::cpu
