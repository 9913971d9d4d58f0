// The calls of skeleton_augment and apply_augment, as the kernels of both devices take them.
#pragma once

#include <cstdint>

#include "common/dtypes.h"
#include "common/skeleton_augment.h"

namespace aimclr::augment {

// skeleton_augment: see cpu/skeleton_augment.h.
struct DrawnCall {
    const void* data;
    DataType data_type;
    float scale;
    std::int64_t sequences;
    const void* index;
    int index_bytes;
    std::int64_t samples;
    Outputs outputs;
    Chain chain;
    Settings settings;
    Source source;  // of sample 0

    AIMCLR_HD std::int64_t sequence(std::int64_t sample) const {
        return index_bytes == 8 ? static_cast<const std::int64_t*>(index)[sample]
                                : static_cast<const std::int32_t*>(index)[sample];
    }
    AIMCLR_HD bool in_range(std::int64_t sample) const {
        const std::int64_t at = sequence(sample);
        return at >= 0 && at < sequences;
    }
    AIMCLR_HD Source source_of(std::int64_t sample) const {
        return {source.key0, source.key1, source.step,
                source.position + static_cast<std::uint32_t>(sample)};
    }
};

// apply_augment or its backward: see cpu/apply_augment.h.
struct GivenCall {
    const void* input;  // x, or the gradient of the output
    const void* noise;
    void* output;        // the augmented x, or the gradient of x
    void* noise_output;  // the gradient of the noise
    DataType type;
    Stream stream;
    std::int64_t samples;
    GivenArrays params;
    Chain chain;
};

}  // namespace aimclr::augment
