// SkeleMix: its settings, draws and calls, for host and device.
//
// Mirrors aimclr_fast/reference/skelemix.py. Draws agree bit for bit: they are integers.
#pragma once

#include <cstdint>

#include "common/dtypes.h"
#include "common/fields.h"
#include "common/macros.h"
#include "common/philox.h"
#include "common/skeleton_augment_call.h"
#include "common/status.h"

namespace aimclr::mix {

constexpr int kBodyParts = 5;

// MixConfig's.
struct Settings {
    int count, parts_min, parts_max, blocks_min, blocks_max, block_frames;
    AIMCLR_FIELDS(count, parts_min, parts_max, blocks_min, blocks_max, block_frames)
};

// Makes `settings.count` mixes of a batch, each of a sequence with a partner.
struct Call {
    const void* query;  // [samples, 3, frames, joints, bodies]
    DataType type;      // of the query and the views
    std::int64_t samples;
    augment::Shape shape;
    const std::int64_t* parts;    // [joints], the body part of each
    const std::int32_t* parents;  // as in augment::JointTables
    Settings settings;
    int streams;
    augment::Stream stream[3];
    void* view[3];          // for each stream [count, samples, 3, frames, joints, bodies]
    bool* mask;             // [count, rows, joints]
    std::int64_t* partner;  // [count, samples]
    std::uint32_t key0, key1, step;
    const std::int64_t* step_tensor;  // holds the step, or null
    AIMCLR_FIELDS(query, type, samples, shape, parts, parents, settings, streams, stream, view,
                  mask, partner, key0, key1, step, step_tensor)

    // Blocks of a sequence; the last one may be short.
    AIMCLR_HD int rows() const {
        return (shape.frames - 1) / settings.block_frames + 1;
    }
};

// What a random number is for; part of the counter, apart from augment::purpose_of.
enum class Draw : std::uint32_t { kRegion = 0x10000, kParts };

// What one mix replaces: body parts, a bit each, in blocks [first, last).
struct Region {
    std::int64_t shift;
    int first, last;
    std::uint32_t parts;

    AIMCLR_HD bool has_row(int row) const {
        return row >= first && row < last;
    }
    AIMCLR_HD bool has_part(std::int64_t part) const {
        return (parts >> part & 1u) != 0;
    }
};

AIMCLR_HD int drawn_between(std::uint32_t word, int low, int high) {
    return low + static_cast<int>(bounded(word, static_cast<std::uint32_t>(high - low + 1)));
}

AIMCLR_HD Region draw_region(const Call& call, int mix) {
    const std::uint32_t step =
        call.step_tensor != nullptr ? static_cast<std::uint32_t>(*call.step_tensor) : call.step;
    const auto words = [&](Draw what) {
        const auto of_mix = static_cast<std::uint32_t>(mix);
        return philox4x32({{0, step, of_mix, static_cast<std::uint32_t>(what)}}, call.key0,
                          call.key1);
    };
    const Settings& settings = call.settings;
    const Words4 region = words(Draw::kRegion), shuffle = words(Draw::kParts);
    Region found{};
    found.shift = 1 + static_cast<std::int64_t>(
                          bounded(region.v[0], static_cast<std::uint32_t>(call.samples - 2)));
    const int parts = drawn_between(region.v[1], settings.parts_min, settings.parts_max);
    const int blocks = drawn_between(region.v[2], settings.blocks_min, settings.blocks_max);
    found.first = drawn_between(region.v[3], 0, call.rows() - blocks);
    found.last = found.first + blocks;
    // The start of a shuffle of 0 to 4, kept in four bits each.
    std::uint32_t order = 0x43210;
    AIMCLR_UNROLL
    for (int place = 0; place < kBodyParts - 1; ++place) {
        const int other = drawn_between(shuffle.v[place], place, kBodyParts - 1);
        const std::uint32_t difference = (order >> 4 * place ^ order >> 4 * other) & 7u;
        order ^= difference << 4 * place;
        order ^= difference << 4 * other;
    }
    AIMCLR_UNROLL
    for (int place = 0; place < kBodyParts; ++place) {
        found.parts |= place < parts ? 1u << (order >> 4 * place & 7u) : 0u;
    }
    return found;
}

AIMCLR_HD std::int64_t partner_of(std::int64_t sample, const Region& region, std::int64_t samples) {
    const std::int64_t shifted = sample + region.shift;
    return shifted < samples ? shifted : shifted - samples;
}

// What any device can take: nothing is done for no samples. It reads no memory, so values are left
// to the caller.
inline Status check(const Call& call) {
    const augment::Shape shape = call.shape;
    if (shape.frames < 1 || shape.joints < 1 || shape.bodies < 0 ||
        3.0 * shape.frames * shape.joints * shape.bodies > 2147483647.0) {
        return invalid_argument("skelemix: bad sizes of a sequence");
    }
    const Settings& settings = call.settings;
    if (settings.count < 1 || settings.block_frames < 1 || settings.block_frames > 1 << 20 ||
        settings.parts_min < 1 || settings.parts_min > settings.parts_max ||
        settings.parts_max >= kBodyParts || settings.blocks_min < 1 ||
        settings.blocks_min > settings.blocks_max || settings.blocks_max > call.rows()) {
        return invalid_argument("skelemix: bad settings");
    }
    if ((call.samples < 3 && call.samples != 0) || call.samples > 2147483647 ||
        !countable(settings.count, call.samples, shape.elements()) ||
        !countable(settings.count, call.samples) ||
        !countable(settings.count, call.rows(), shape.joints)) {
        return invalid_argument("skelemix: bad number of samples");
    }
    if (call.streams < 1 || call.streams > 3) {
        return invalid_argument("skelemix: one to three streams");
    }
    const bool empty = call.samples == 0 || shape.bodies == 0;
    if ((call.samples > 0 && has_null({call.mask, call.partner, call.parts})) ||
        (!empty && has_null({call.query, call.parents}))) {
        return invalid_argument("skelemix: null pointer");
    }
    for (int i = 0; i < call.streams; ++i) {
        if (!augment::is_stream(call.stream[i])) {
            return invalid_argument("skelemix: a stream is joint, motion or bone");
        }
        if (!empty && call.view[i] == nullptr) {
            return invalid_argument("skelemix: null pointer to a view");
        }
    }
    return {};
}

// What the views need of the chain of skeleton_augment: sizes and parents.
inline augment::Chain chain_of(const Call& call) {
    return {call.shape, {nullptr, call.parents}, 0, 1, false};
}

}  // namespace aimclr::mix
