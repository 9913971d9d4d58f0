// How queue_contrast splits its work, and where it keeps what it computes on the way.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cpu/queue_contrast/queue_contrast.h"

#define AIMCLR_INLINE [[gnu::always_inline]] inline

namespace aimclr::cpu::contrast {

using Index = std::int64_t;

inline constexpr Index kRowPadding = 48;  // a multiple of the rows of any register tile
inline constexpr Index kDimPadding = 32;  // likewise of its dimensions
inline constexpr Index kTileKeys = 128;   // keys whose scores are held at a time
inline constexpr Index kBlockRows = 384;  // rows that share a packed tile of keys
inline constexpr Index kMaxParts = 16;    // parts of the work, if there is one block of rows
inline constexpr Index kMinTiles = 4;     // tiles worth a part of their own

constexpr Index round_up(Index a, Index b) {
    return (a + b - 1) / b * b;
}

// The sets of a stream are one stack of rows, and attention with keys = values = queue does not
// care which set a row is of. A part of the work is a block of rows times a chunk of the queue.
// Nothing here depends on the number of threads, so neither do the results.
struct Plan {
    Index n = 0, k = 0, d = 0, topk = 0, sets = 0;
    Index rows = 0, padded_rows = 0, padded_d = 0;
    Index blocks = 0, chunks = 0, tiles = 0;

    Plan() = default;

    Plan(const QueueContrastShape& shape, Index stream)
        : n(shape.n), k(shape.k[stream]), d(shape.d), topk(shape.topk), sets(shape.sets) {
        rows = sets * n;
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

    Index first_tile(Index chunk) const {
        return tiles * chunk / chunks;
    }
};

// `follows`: the thread has just done the chunk before.
struct Part {
    Index block, chunk;
    bool follows;
};

// Hands out arrays of one block of memory; of none, to count its bytes.
class Arrays {
  public:
    explicit Arrays(void* base) : base_(static_cast<char*>(base)) {}

    template <typename Element>
    void take(Element*& array, Index count) {
        array = base_ ? reinterpret_cast<Element*>(base_ + bytes_) : nullptr;
        bytes_ += round_up(count * static_cast<Index>(sizeof(Element)), 64);
    }

    Index bytes() const {
        return bytes_;
    }

  private:
    char* base_;
    Index bytes_ = 0;
};

// One stream: its arrays, and those of the workspace.
template <typename T>
struct Stream {
    const T* rows;   // [sets][n][d]
    const T* keys;   // [key_sets][n][d]
    const T* queue;  // [k][d]
    T* gradients;
    Index* neighbors;
    Index* counts;
    Plan plan;
    T* packed_rows;       // [padded_rows / panel][padded_d][panel]: the rows, lane by lane
    T* key_sums;          // [chunks][padded_rows][padded_d]: sum of exp(s - maximum) key
    T* maxima;            // [chunks][padded_rows]: largest score
    T* normalizers;       // [chunks][padded_rows]: sum of exp(s - maximum)
    T* near_scores;       // [chunks][padded_rows][topk]: largest scores, descending
    Index* near_indices;  // [chunks][padded_rows][topk]: their keys, -1 where there are fewer
    double* row_losses;   // [sets][n]

    void lay_out(Arrays& arrays) {
        // A row's part of the first chunk becomes its mean key, even if there is no queue.
        const Index rows = std::max<Index>(plan.chunks, 1) * plan.padded_rows;
        arrays.take(packed_rows, plan.padded_rows * plan.padded_d);
        arrays.take(key_sums, rows * plan.padded_d);
        arrays.take(maxima, rows);
        arrays.take(normalizers, rows);
        arrays.take(near_scores, rows * plan.topk);
        arrays.take(near_indices, rows * plan.topk);
        arrays.take(row_losses, plan.rows);
    }
};

template <typename T>
struct Call {
    const QueueContrast<T>& given;
    Index parts = 0, miners = 0;
    Stream<T> stream[kMaxStreams] = {};
    // Positives of a sample beside its own key, by votes those of all streams.
    Index* positives = nullptr;  // [streams][n][most_positives()]
    T* scratch = nullptr;        // [workers()][scratch_size()]
    Index bytes = 0;

    Call(const QueueContrast<T>& given_, int threads) : given(given_) {
        const QueueContrastShape& shape = given.shape;
        Arrays arrays(given.workspace);
        for (Index s = 0; s < shape.streams; ++s) {
            stream[s].plan = Plan(shape, s);
            stream[s].lay_out(arrays);
            parts += stream[s].plan.parts();
        }
        arrays.take(positives, shape.streams * shape.n * most_positives());
        arrays.take(scratch, workers(threads) * scratch_size());
        bytes = arrays.bytes();
        if (given.workspace == nullptr) {
            return;  // it was only counted
        }
        for (Index set = 0; set < shape.sets; ++set) {
            miners += given.mines[set] ? 1 : 0;
        }
        const Index size = shape.n * shape.d;
        for (Index s = 0; s < shape.streams; ++s) {
            stream[s].rows = given.rows + s * shape.sets * size;
            stream[s].keys = given.keys + s * shape.key_sets * size;
            stream[s].queue = given.queues[s];
            stream[s].gradients = given.gradients + s * shape.sets * size;
            stream[s].neighbors = given.neighbors + s * shape.n * miners * shape.topk;
            stream[s].counts = given.counts + s * shape.n;
        }
    }

    Index workers(int threads) const {
        return std::min<Index>(threads, parts);
    }

    Index most_positives() const {
        return std::max(given.shape.sets, given.shape.streams) * given.shape.topk;
    }

    // A packed tile of keys, and its scores against the widest panel of rows.
    Index scratch_size() const {
        return kTileKeys * (stream[0].plan.padded_d + kRowPadding);
    }
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
