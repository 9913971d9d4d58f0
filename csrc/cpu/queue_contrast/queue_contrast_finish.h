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

// lean [d] = sum of weight (key - own key): what the mean key adds to the own key.
template <typename T>
AIMCLR_INLINE Softmax merge_chunks(const Call<T>& call, Index view, Index i, T* lean) {
    const Plan& plan = call.plan;
    const T* const key = call.key + i * plan.d;
    const Index row = view * plan.n + i;
    const double own = dot(call.views[view] + i * plan.d, key, plan.d);
    double top = own;
    for (Index chunk = 0; chunk < plan.chunks; ++chunk) {
        top = std::max<double>(top, call.work.maxima[chunk * plan.padded_rows + row]);
    }
    double in_queue = 0.0;
    std::fill_n(lean, plan.d, T{0});
    for (Index chunk = 0; chunk < plan.chunks; ++chunk) {
        const Index at = chunk * plan.padded_rows + row;
        const double weight = std::exp((call.work.maxima[at] - top) / call.temperature);
        in_queue += weight * call.work.normalizers[at];
        add_scaled(call.work.key_sums + at * plan.padded_d, static_cast<T>(weight), plan.d, lean);
    }
    const double total = std::exp((own - top) / call.temperature) + in_queue;
    for (Index j = 0; j < plan.d; ++j) {
        lean[j] = static_cast<T>((lean[j] - in_queue * key[j]) / total);
    }
    return {own, (top - own) / call.temperature + std::log(total)};
}

// The nearest keys of a row, from the lists of all chunks.
template <typename T>
AIMCLR_INLINE void merge_neighbors(const Call<T>& call, Index view, Index i, Index* neighbors) {
    const Plan& plan = call.plan;
    // The first chunk's list becomes the row's.
    const Index row = view * plan.n + i;
    T* const scores = call.work.near_scores + row * plan.topk;
    Index* const indices = call.work.near_indices + row * plan.topk;
    for (Index chunk = 1; chunk < plan.chunks; ++chunk) {
        const Index at = (chunk * plan.padded_rows + row) * plan.topk;
        for (Index place = 0; place < plan.topk; ++place) {
            const T score = call.work.near_scores[at + place];
            const Index index = call.work.near_indices[at + place];
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

template <typename T>
AIMCLR_INLINE void finish_row(const Call<T>& call, Index i) {
    const Plan& plan = call.plan;
    const Index n = plan.n, d = plan.d, mined = kViews * plan.topk;
    T* lean[kViews];
    Softmax softmax[kViews];
    for (Index view = 0; view < kViews; ++view) {
        lean[view] = call.gradients + (view * n + i) * d;
        softmax[view] = merge_chunks(call, view, i, lean[view]);
    }
    Index* const neighbors = call.neighbors + i * mined;
    for (Index view = 0; plan.topk > 0 && view < kViews; ++view) {
        merge_neighbors(call, view, i, neighbors + view * plan.topk);
    }

    // D3M: the rows are taught by the query's mean key, so theirs come first.
    const T scale = static_cast<T>(1.0 / (call.temperature * static_cast<double>(n)));
    for (Index view = 1; view < kViews; ++view) {
        const double agreement = dot(call.views[view] + i * d, lean[0], d) / call.temperature;
        call.work.row_losses[view * n + i] = softmax[view].log_normalizer - agreement;
        for (Index j = 0; j < d; ++j) {
            lean[view][j] = scale * (lean[view][j] - lean[0][j]);
        }
    }

    // InfoNCE: the mean of the positives, each counted once.
    const T* const query = call.views[0] + i * d;
    const T* const key = call.key + i * d;
    double similarity = 0.0;  // with the mined keys, less that with the own key
    Index positives = 1;
    const auto is_new = [neighbors](Index place) {
        return std::find(neighbors, neighbors + place, neighbors[place]) == neighbors + place;
    };
    for (Index place = 0; place < mined; ++place) {
        if (is_new(place)) {
            ++positives;
            similarity += dot(query, call.queue + neighbors[place] * d, d) - softmax[0].own;
        }
    }
    const double share = 1.0 / static_cast<double>(positives);
    call.work.row_losses[i] = softmax[0].log_normalizer - similarity * share / call.temperature;
    for (Index place = 0; place < mined; ++place) {
        if (is_new(place)) {
            const T* const neighbor = call.queue + neighbors[place] * d;
            for (Index j = 0; j < d; ++j) {
                lean[0][j] -= static_cast<T>(share) * (neighbor[j] - key[j]);
            }
        }
    }
    for (Index j = 0; j < d; ++j) {
        lean[0][j] *= scale;
    }
}

}  // namespace aimclr::cpu::contrast
