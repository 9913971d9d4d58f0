// A block goes from sample to sample: after the last phase of one its threads read nothing that the
// first phase of the next writes. Here that has run already when the last phase is over.
#include <cstdint>
#include <cstdio>

#include "common/skeleton_augment_phases.h"

namespace {

using namespace aimclr;

// One thread. After phase `last`, the plan is another sample's.
struct Phases {
    augment::BlockState<float>& state;
    int last;
    int& count;
    augment::Prefetched& prefetched;

    template <typename Body>
    void operator()(const Body& body) const {
        body(0, prefetched);
        if (++count == last) {
            state.plan[0].blur_sigma = state.plan[0].blur_sigma > 0 ? 0.0f : 1.0f;
            state.plan[0].noise_std = state.plan[0].noise_std > 0 ? 0.0f : 1.0f;
        }
    }
};

template <bool kBackward>
int phases_of(bool blur, bool noise, int last) {
    const float input[6] = {}, sigma[1] = {1.0f}, given_noise[6] = {};
    float output[6], raw[16], work[16];
    const std::int32_t table[1] = {0};
    augment::GivenCall call{};
    call.backward = kBackward;
    call.input = input;
    call.noise = noise ? given_noise : nullptr;
    call.output = output;
    call.samples = 1;
    call.params.blur_sigma = blur ? sigma : nullptr;
    call.chain = {{2, 1, 1}, {table, table}, 0, 3, false};
    augment::BlockState<float> state{};
    const augment::Block<float, false> block{augment::launch_of(call), raw, work, state.weights, 1};
    int count = 0;
    augment::Prefetched prefetched;
    augment::run<kBackward>(augment::GivenView<float, false>{call, state, block, 0},
                            Phases{state, last, count, prefetched});
    return count;
}

int failures = 0;

template <bool kBackward>
void check(bool blur, bool noise, int expected) {
    const int undisturbed = phases_of<kBackward>(blur, noise, 0);
    const int disturbed = phases_of<kBackward>(blur, noise, expected);
    if (undisturbed != expected || disturbed != expected) {
        std::printf("backward %d, blur %d, noise %d: %d phases, %d disturbed\n", kBackward, blur,
                    noise, undisturbed, disturbed);
        ++failures;
    }
}

}  // namespace

int main() {
    check<false>(false, false, 3);
    check<false>(false, true, 4);
    check<false>(true, false, 5);
    check<false>(true, true, 5);
    check<true>(false, false, 4);
    check<true>(true, false, 5);
    return failures;
}
