// queue_contrast's second half: per row of the batch, what was found in the chunks of the queue
// becomes losses, gradients and neighbors.
#pragma once

#include <algorithm>
#include <cmath>

#include "cpu/queue_contrast/queue_contrast_plan.h"

namespace aimclr::cpu::contrast {

template <typename T>
AIMCLR_INLINE double dot(const T* a, const T* b, Index d) {
    double sum = 0.0;
    for (Index i = 0; i < d; ++i) {
        sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
    }
    return sum;
}

template <typename T>
AIMCLR_INLINE void add_scaled(const T* from, T scale, Index d, T* to) {
    for (Index i = 0; i < d; ++i) {
        to[i] += scale * from[i];
    }
}

// A row's softmax over its own key and the queue, seen from its own key: what a confident row's
// losses and gradients are made of is small there, and would drown in rounding elsewhere.
struct Softmax {
    double own;             // similarity with the own key
    double log_normalizer;  // less own / temperature, the own key's logit
};

// One row of a set, and what belongs to it.
template <typename T>
struct Row {
    const T* row;
    const T* key;       // its own
    const T* negative;  // one more key, where there is one
    bool has_negative;  // its pointer may be null for rows of no width
    T* gradient;
    T* lean;   // [d] sum of weight (key - own key): what the mean key adds to the own key
    Index at;  // in the stream's stack
};

template <typename T>
AIMCLR_INLINE Row<T> row_of(const Call<T>& call, const Stream<T>& stream, Index set, Index i) {
    const Plan& plan = stream.plan;
    const Index at = set * plan.n + i, other = call.given.negative[set];
    // The first chunk's sum of keys becomes the mean key.
    return {stream.rows + at * plan.d,
            stream.keys + (call.given.own_key[set] * plan.n + i) * plan.d,
            stream.rows + (std::max<Index>(other, 0) * plan.n + i) * plan.d,
            other >= 0,
            stream.gradients + at * plan.d,
            stream.key_sums + at * plan.padded_d,
            at};
}

// Fills in the row's lean.
template <typename T>
AIMCLR_INLINE Softmax merge_chunks(const Stream<T>& stream, double temperature, const Row<T>& of) {
    const Plan& plan = stream.plan;
    const double own = dot(of.row, of.key, plan.d);
    const double other = of.has_negative ? dot(of.row, of.negative, plan.d) : own;
    double top = std::max(own, other);
    for (Index chunk = 0; chunk < plan.chunks; ++chunk) {
        top = std::max<double>(top, stream.maxima[chunk * plan.padded_rows + of.at]);
    }
    double in_queue = 0.0;
    T* const sum = of.gradient;
    std::fill_n(sum, plan.d, T{0});
    for (Index chunk = 0; chunk < plan.chunks; ++chunk) {
        const Index at = chunk * plan.padded_rows + of.at;
        const double weight = std::exp((stream.maxima[at] - top) / temperature);
        in_queue += weight * stream.normalizers[at];
        add_scaled(stream.key_sums + at * plan.padded_d, static_cast<T>(weight), plan.d, sum);
    }
    if (of.has_negative) {
        const double weight = std::exp((other - top) / temperature);
        in_queue += weight;
        add_scaled(of.negative, static_cast<T>(weight), plan.d, sum);
    }
    const double total = std::exp((own - top) / temperature) + in_queue;
    for (Index j = 0; j < plan.d; ++j) {
        of.lean[j] = static_cast<T>((sum[j] - in_queue * of.key[j]) / total);
    }
    return {own, (top - own) / temperature + std::log(total)};
}

// The nearest keys of a row, from the lists of all chunks.
template <typename T>
AIMCLR_INLINE void merge_neighbors(const Stream<T>& stream, Index row, Index* neighbors) {
    const Plan& plan = stream.plan;
    // The first chunk's list becomes the row's.
    T* const scores = stream.near_scores + row * plan.topk;
    Index* const indices = stream.near_indices + row * plan.topk;
    for (Index chunk = 1; chunk < plan.chunks; ++chunk) {
        const Index at = (chunk * plan.padded_rows + row) * plan.topk;
        for (Index place = 0; place < plan.topk; ++place) {
            const T score = stream.near_scores[at + place];
            const Index index = stream.near_indices[at + place];
            if (index >= 0 && score > scores[plan.topk - 1]) {
                insert(score, index, scores, indices, plan.topk);
            }
        }
    }
    // Scores of NaN or minus infinity enter no list; their places still name a key.
    for (Index place = 0; place < plan.topk; ++place) {
        neighbors[place] = std::max<Index>(indices[place], 0);
    }
}

AIMCLR_INLINE bool contains(const Index* list, Index count, Index value) {
    return std::find(list, list + count, value) != list + count;
}

// The streams whose miners all have found the key.
template <typename T>
AIMCLR_INLINE Index count_votes(const Call<T>& call, Index i, Index key) {
    const Index topk = call.given.shape.topk, mined = call.miners * topk;
    Index votes = 0;
    for (Index s = 0; s < call.given.shape.streams; ++s) {
        const Index* const lists = call.stream[s].neighbors + i * mined;
        bool all = true;
        for (Index miner = 0; miner < call.miners; ++miner) {
            all = all && contains(lists + miner * topk, topk, key);
        }
        votes += all ? 1 : 0;
    }
    return votes;
}

// Lists the sample's positives in the queue of stream `s`, each once, in the order in which its
// sets have found them; returns how many they are. With votes, all streams' lists are looked at.
template <typename T>
AIMCLR_INLINE Index list_positives(const Call<T>& call, Index s, Index i, Index* positives) {
    const bool voted = call.given.votes > 0;
    const Index topk = call.given.shape.topk, mined = call.miners * topk;
    // A key with votes is on the list of each miner, so that of the first one will do.
    const Index length = voted ? topk : mined;
    const Index first = voted ? 0 : s, last = voted ? call.given.shape.streams : s + 1;
    Index count = 0;
    for (Index from = first; from < last; ++from) {
        const Index* const found = call.stream[from].neighbors + i * mined;
        for (Index place = 0; place < length; ++place) {
            const Index key = found[place];
            if (!contains(positives, count, key) &&
                (!voted || count_votes(call, i, key) >= call.given.votes)) {
                positives[count++] = key;
            }
        }
    }
    return count;
}

// D3M: the row is taught by its teacher's mean key. Returns what the log of the normalizer is less.
template <typename T>
AIMCLR_INLINE double follow_teacher(const Plan& plan, const Row<T>& of, const T* taught, T scale) {
    for (Index j = 0; j < plan.d; ++j) {
        of.gradient[j] = scale * (of.lean[j] - taught[j]);
    }
    return dot(of.row, taught, plan.d);
}

// InfoNCE: by the mean of the positives, of which the own key is one.
template <typename T>
AIMCLR_INLINE double follow_positives(const Stream<T>& stream, const Row<T>& of, double own,
                                      const Index* positives, Index count, T scale) {
    const Index d = stream.plan.d;
    const double share = 1.0 / static_cast<double>(1 + count);
    double similarity = 0.0;  // with the positives, less that with the own key
    std::copy_n(of.lean, d, of.gradient);
    for (Index place = 0; place < count; ++place) {
        const T* const key = stream.queue + positives[place] * d;
        similarity += dot(of.row, key, d) - own;
        for (Index j = 0; j < d; ++j) {
            of.gradient[j] -= static_cast<T>(share) * (key[j] - of.key[j]);
        }
    }
    for (Index j = 0; j < d; ++j) {
        of.gradient[j] *= scale;
    }
    return similarity * share;
}

template <typename T>
AIMCLR_INLINE void finish_stream(const Call<T>& call, Index s, Index i,
                                 const Softmax (&softmax)[kMaxSets]) {
    const Stream<T>& stream = call.stream[s];
    const Plan& plan = stream.plan;
    const T scale = static_cast<T>(1.0 / (call.given.temperature * static_cast<double>(plan.n)));
    Index* const positives = call.positives + (s * plan.n + i) * call.most_positives();
    const Index count = list_positives(call, s, i, positives);
    stream.counts[i] = 1 + count;
    for (Index set = 0; set < plan.sets; ++set) {
        const Row<T> of = row_of(call, stream, set, i);
        const Index teacher = call.given.teacher[set];
        const double agreement =
            teacher >= 0 ? follow_teacher(plan, of, row_of(call, stream, teacher, i).lean, scale)
                         : follow_positives(stream, of, softmax[set].own, positives,
                                            call.given.positives[set] ? count : 0, scale);
        stream.row_losses[of.at] = softmax[set].log_normalizer - agreement / call.given.temperature;
    }
}

template <typename T>
AIMCLR_INLINE void finish_row(const Call<T>& call, Index i) {
    const QueueContrastShape& shape = call.given.shape;
    Softmax softmax[kMaxStreams][kMaxSets];
    for (Index s = 0; s < shape.streams; ++s) {
        const Stream<T>& stream = call.stream[s];
        Index* neighbors = stream.neighbors + i * call.miners * shape.topk;
        for (Index set = 0; set < shape.sets; ++set) {
            const Row<T> of = row_of(call, stream, set, i);
            softmax[s][set] = merge_chunks(stream, call.given.temperature, of);
            if (shape.topk > 0 && call.given.mines[set]) {
                merge_neighbors(stream, of.at, neighbors);
                neighbors += shape.topk;
            }
        }
    }
    // Teachers come after their students, and votes are those of all streams.
    for (Index s = 0; s < shape.streams; ++s) {
        finish_stream(call, s, i, softmax[s]);
    }
}

}  // namespace aimclr::cpu::contrast
