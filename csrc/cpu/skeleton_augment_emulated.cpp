#include "cpu/skeleton_augment_emulated.h"

#include <cstddef>
#include <limits>
#include <vector>

#include "common/skeleton_augment_phases.h"

namespace aimclr::cpu {
namespace {

using augment::DrawnCall;
using augment::GivenCall;
using augment::Launch;

// Each phase runs through all threads, each with its own registers.
class Phases {
  public:
    explicit Phases(int threads) : prefetched_(static_cast<std::size_t>(threads)) {}

    template <typename Body>
    void operator()(const Body& body) const {
        for (std::size_t thread = 0; thread < prefetched_.size(); ++thread) {
            body(static_cast<int>(thread), prefetched_[thread]);
        }
    }

  private:
    mutable std::vector<augment::Prefetched> prefetched_;
};

template <typename Real, bool kShared>
struct Buffers {
    augment::BlockState<Real> state;
    std::vector<Real> memory;
    augment::Block<Real, kShared> block;

    Buffers(const Launch& launch, int threads) {
        using Block = augment::Block<Real, kShared>;
        const std::int64_t size = Block::buffer_size(launch.chain.shape.elements());
        // What no thread has written shows in the result.
        memory.assign(static_cast<std::size_t>(2 * size), std::numeric_limits<Real>::quiet_NaN());
        block = {launch, memory.data(), memory.data() + size, state.weights, threads};
    }
};

template <typename Out, bool kShared>
void run_drawn(const DrawnCall& call, const Launch& launch, int threads) {
    for (std::int64_t sample = 0; sample < call.samples; ++sample) {
        Buffers<float, kShared> buffers(launch, threads);
        augment::run_views(
            augment::DrawnViews<Out, kShared>{call, buffers.state, buffers.block, sample},
            Phases(threads));
    }
}

template <typename Out>
Status run_drawn(const DrawnCall& call, bool shared, int threads) {
    const Launch launch = augment::launch_of(call);
    shared ? run_drawn<Out, true>(call, launch, threads)
           : run_drawn<Out, false>(call, launch, threads);
    return {};
}

template <typename Real, typename T, bool kShared>
void run_given(bool backward, const GivenCall& call, const Launch& launch, int threads) {
    for (std::int64_t sample = 0; sample < call.samples; ++sample) {
        Buffers<Real, kShared> buffers(launch, threads);
        if (backward) {
            augment::run_gradient(augment::GivenGradient<Real, T, kShared>{call, buffers.state,
                                                                           buffers.block, sample},
                                  Phases(threads));
        } else {
            augment::run_views(
                augment::GivenView<Real, T, kShared>{call, buffers.state, buffers.block, sample},
                Phases(threads));
        }
    }
}

template <typename Real, typename T>
Status run_given(bool backward, const GivenCall& call, bool shared, int threads) {
    const Launch launch = augment::launch_of(call);
    shared ? run_given<Real, T, true>(backward, call, launch, threads)
           : run_given<Real, T, false>(backward, call, launch, threads);
    return {};
}

Status run_given(bool backward, const GivenCall& call, bool shared, int threads) {
    AIMCLR_RETURN_IF_ERROR(augment::check(call.chain));
    switch (call.type) {
        case DataType::kFloat32:
            return run_given<float, float>(backward, call, shared, threads);
        case DataType::kFloat64:
            return run_given<double, double>(backward, call, shared, threads);
        case DataType::kFloat16:
            return run_given<float, Half>(backward, call, shared, threads);
        case DataType::kBFloat16:
            return run_given<float, BFloat16>(backward, call, shared, threads);
        default:
            return invalid_argument("apply_augment: unknown dtype");
    }
}

}  // namespace

Status skeleton_augment_emulated(const void* data, int data_type, float data_scale,
                                 std::int64_t sequences, const void* index, int index_bytes,
                                 std::int64_t n, const augment::Outputs& outputs, int out_type,
                                 const augment::Chain& chain, const augment::Settings& settings,
                                 std::uint32_t key0, std::uint32_t key1, std::uint32_t step,
                                 std::uint32_t offset, bool shared, int threads) {
    AIMCLR_RETURN_IF_ERROR(augment::check(chain));
    const DrawnCall call{data,
                         static_cast<DataType>(data_type),
                         data_scale,
                         sequences,
                         index,
                         index_bytes,
                         n,
                         outputs,
                         chain,
                         settings,
                         {key0, key1, step, offset}};
    switch (static_cast<DataType>(out_type)) {
        case DataType::kFloat32:
            return run_drawn<float>(call, shared, threads);
        case DataType::kFloat16:
            return run_drawn<Half>(call, shared, threads);
        case DataType::kBFloat16:
            return run_drawn<BFloat16>(call, shared, threads);
        default:
            return invalid_argument("skeleton_augment: unknown dtype of the views");
    }
}

Status apply_augment_emulated(const void* x, const void* noise, void* out, int type, std::int64_t n,
                              const augment::GivenArrays& params, const augment::Chain& chain,
                              int stream, bool shared, int threads) {
    return run_given(false,
                     {x, noise, out, nullptr, static_cast<DataType>(type),
                      static_cast<augment::Stream>(stream), n, params, chain},
                     shared, threads);
}

Status apply_augment_backward_emulated(const void* grad, void* grad_x, void* grad_noise, int type,
                                       std::int64_t n, const augment::GivenArrays& params,
                                       const augment::Chain& chain, int stream, bool shared,
                                       int threads) {
    return run_given(true,
                     {grad, nullptr, grad_x, grad_noise, static_cast<DataType>(type),
                      static_cast<augment::Stream>(stream), n, params, chain},
                     shared, threads);
}

}  // namespace aimclr::cpu
