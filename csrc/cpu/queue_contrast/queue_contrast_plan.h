// How queue_contrast splits its work, and where it keeps what it computes on the way.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

#define AIMCLR_INLINE [[gnu::always_inline]] inline

namespace aimclr::cpu::contrast {

using Index = std::int64_t;

inline constexpr Index kViews = 3;        // query, extreme, dropped
inline constexpr Index kRowPadding = 48;  // a multiple of the rows of any register tile
inline constexpr Index kDimPadding = 32;  // likewise of its dimensions
inline constexpr Index kTileKeys = 128;   // keys whose scores are held at a time
inline constexpr Index kBlockRows = 384;  // rows that share a packed tile of keys
inline constexpr Index kMaxParts = 16;    // parts of the work, if there is one block of rows
inline constexpr Index kMinTiles = 4;     // tiles worth a part of their own

constexpr Index round_up(Index a, Index b) {
    return (a + b - 1) / b * b;
}

// The three views are one stack of 3n rows, and attention with keys = values = queue does not care
// which view a row is of. A part of the work is a block of rows times a chunk of the queue. Nothing
// here depends on the number of threads, so neither do the results.
struct Plan {
    Index n, k, d, topk;
    Index rows, padded_rows, padded_d;
    Index blocks, chunks, tiles;

    Plan(Index n_, Index k_, Index d_, Index topk_) : n(n_), k(k_), d(d_), topk(topk_) {
        rows = kViews * n;
        padded_rows = round_up(rows, kRowPadding);
        padded_d = round_up(d, kDimPadding);
        blocks = (rows + kBlockRows - 1) / kBlockRows;
        tiles = (k + kTileKeys - 1) / kTileKeys;
        chunks =
            std::clamp<Index>(std::min(kMaxParts / std::max<Index>(blocks, 1), tiles / kMinTiles),
                              tiles > 0 ? 1 : 0, kMaxParts);
    }

    Index parts() const {
        return blocks * chunks;
    }

    Index workers(int threads) const {
        return std::min<Index>(threads, parts());
    }

    Index first_tile(Index chunk) const {
        return tiles * chunk / chunks;
    }
};

// Arrays inside the workspace.
template <typename T>
struct Workspace {
    T* packed_rows;       // [padded_rows / panel][padded_d][panel]: the rows, lane by lane
    T* key_sums;          // [chunks][padded_rows][padded_d]: sum of exp(s - maximum) key
    T* maxima;            // [chunks][padded_rows]: largest score
    T* normalizers;       // [chunks][padded_rows]: sum of exp(s - maximum)
    T* near_scores;       // [chunks][padded_rows][topk]: largest scores, descending
    Index* near_indices;  // [chunks][padded_rows][topk]: their keys, -1 where there are fewer
    double* row_losses;   // [3][n]
    T* scratch;           // [workers][scratch_size()]
    Index bytes;

    Workspace(const Plan& plan, int threads, void* base) {
        const Index rows = plan.chunks * plan.padded_rows;
        char* const start = static_cast<char*>(base);
        Index offset = 0;
        const auto take = [&offset, start](auto*& array, Index count) {
            using Element = std::remove_reference_t<decltype(*array)>;
            array = start ? reinterpret_cast<Element*>(start + offset) : nullptr;
            offset += round_up(count * static_cast<Index>(sizeof(Element)), 64);
        };
        take(packed_rows, plan.padded_rows * plan.padded_d);
        take(key_sums, rows * plan.padded_d);
        take(maxima, rows);
        take(normalizers, rows);
        take(near_scores, rows * plan.topk);
        take(near_indices, rows * plan.topk);
        take(row_losses, kViews * plan.n);
        take(scratch, plan.workers(threads) * scratch_size(plan));
        bytes = offset;
    }

    // A packed tile of keys, and its scores against the widest panel of rows.
    static constexpr Index scratch_size(const Plan& plan) {
        return kTileKeys * (plan.padded_d + kRowPadding);
    }
};

template <typename T>
struct Call {
    const T* views[kViews];  // query, extreme, dropped
    const T* key;
    const T* queue;
    double temperature;
    T* gradients;
    Index* neighbors;
    Plan plan;
    Workspace<T> work;
};

// Puts a score that beats the list's last one into its place in a descending list. Scores come in
// the order of their keys, so that among equal ones the earlier key stays ahead.
template <typename T>
AIMCLR_INLINE void insert(T score, Index index, T* scores, Index* indices, Index topk) {
    Index place = topk - 1;
    for (; place > 0 && score > scores[place - 1]; --place) {
        scores[place] = scores[place - 1];
        indices[place] = indices[place - 1];
    }
    scores[place] = score;
    indices[place] = index;
}

}  // namespace aimclr::cpu::contrast
