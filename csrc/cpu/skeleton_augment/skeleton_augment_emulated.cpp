#include "cpu/skeleton_augment/skeleton_augment_emulated.h"

#include <cstddef>
#include <cstdint>
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

    Buffers(const Launch& launch, int threads, int part = 0) {
        using Block = augment::Block<Real, kShared>;
        const std::int64_t size = Block::buffer_size(launch.chain.shape.elements());
        // What no thread has written shows in the result.
        memory.assign(static_cast<std::size_t>(2 * size), std::numeric_limits<Real>::quiet_NaN());
        block = {launch, memory.data(), memory.data() + size, state.weights, threads, part};
    }
};

template <typename Out, bool kShared>
void run_drawn(const DrawnCall& call, int threads, int parts) {
    const Launch launch = augment::launch_of(call, parts);
    for (std::int64_t sample = 0; sample < call.samples; ++sample) {
        for (int part = 0; part < parts; ++part) {
            Buffers<float, kShared> buffers(launch, threads, part);
            augment::run(
                augment::DrawnViews<Out, kShared>{call, buffers.state, buffers.block, sample},
                Phases(threads));
        }
    }
}

template <typename T, bool kShared>
void run_given(const GivenCall& call, int threads) {
    const Launch launch = augment::launch_of(call);
    for (std::int64_t sample = 0; sample < call.samples; ++sample) {
        Buffers<RealOf<T>, kShared> buffers(launch, threads);
        const augment::GivenView<T, kShared> view{call, buffers.state, buffers.block, sample};
        call.backward ? augment::run<true>(view, Phases(threads))
                      : augment::run<false>(view, Phases(threads));
    }
}

}  // namespace

Status skeleton_augment_parts(const augment::Chain& chain, std::int64_t n, std::int64_t room,
                              std::int64_t& parts) {
    AIMCLR_RETURN_IF_ERROR(augment::check_samples(n, chain));
    parts = augment::parts_of(chain, n, room);
    return {};
}

Status skeleton_augment_emulated(const DrawnCall& call, bool shared, int threads, int parts) {
    AIMCLR_RETURN_IF_ERROR(augment::check(call));
    if (parts < 1 || parts > 65535) {
        return invalid_argument("skeleton_augment: a grid has 1 to 65,535 rows of blocks");
    }
    return for_type<float, Half, BFloat16>(call.out_type, [&](auto tag) {
        using Out = typename decltype(tag)::Type;
        return augment::for_launches(call, [&](const DrawnCall& launched) {
            shared ? run_drawn<Out, true>(launched, threads, parts)
                   : run_drawn<Out, false>(launched, threads, parts);
            return Status{};
        });
    });
}

Status apply_augment_emulated(const GivenCall& call, bool shared, int threads) {
    AIMCLR_RETURN_IF_ERROR(augment::check(call));
    return for_type<float, double, Half, BFloat16>(call.type, [&](auto tag) {
        using T = typename decltype(tag)::Type;
        shared ? run_given<T, true>(call, threads) : run_given<T, false>(call, threads);
        return Status{};
    });
}

}  // namespace aimclr::cpu
