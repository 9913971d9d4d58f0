// queue_contrast's second half: per row of the batch, what was found in the chunks of the queue
// becomes losses, gradients and neighbours.
#pragma once

#include <algorithm>
#include <cmath>

#include "cpu/queue_contrast_plan.h"

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

// mean_key [d] = the sum of all keys, the row's own among them, weighted by the softmax; returns
// the log of the softmax's normalizer.
template <typename T>
AIMCLR_INLINE double merge_chunks(const Call<T>& call, Index view, Index i, T* mean_key) {
    const Plan& plan = call.plan;
    const T* const key = call.key + i * plan.d;
    const Index row = view * plan.n + i;
    const double own = dot(call.views[view] + i * plan.d, key, plan.d);
    double top = own;
    for (Index chunk = 0; chunk < plan.chunks; ++chunk) {
        top = std::max<double>(top, call.work.maxima[chunk * plan.padded_rows + row]);
    }
    double total = std::exp((own - top) / call.temperature);
    std::fill_n(mean_key, plan.d, T{0});
    add_scaled(key, static_cast<T>(total), plan.d, mean_key);
    for (Index chunk = 0; chunk < plan.chunks; ++chunk) {
        const Index at = chunk * plan.padded_rows + row;
        const double weight = std::exp((call.work.maxima[at] - top) / call.temperature);
        total += weight * call.work.normalizers[at];
        add_scaled(call.work.key_sums + at * plan.padded_d, static_cast<T>(weight), plan.d,
                   mean_key);
    }
    for (Index j = 0; j < plan.d; ++j) {
        mean_key[j] = static_cast<T>(mean_key[j] / total);
    }
    return top / call.temperature + std::log(total);
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
    T* sums[kViews];
    double log_normalizer[kViews];
    for (Index view = 0; view < kViews; ++view) {
        sums[view] = call.gradients + (view * n + i) * d;
        log_normalizer[view] = merge_chunks(call, view, i, sums[view]);
    }
    Index* const neighbors = call.neighbors + i * mined;
    for (Index view = 0; plan.topk > 0 && view < kViews; ++view) {
        merge_neighbors(call, view, i, neighbors + view * plan.topk);
    }

    // D3M: the rows are taught by the query's mean key, so theirs come first.
    const T scale = static_cast<T>(1.0 / (call.temperature * static_cast<double>(n)));
    for (Index view = 1; view < kViews; ++view) {
        const double agreement = dot(call.views[view] + i * d, sums[0], d) / call.temperature;
        call.work.row_losses[view * n + i] = log_normalizer[view] - agreement;
        for (Index j = 0; j < d; ++j) {
            sums[view][j] = scale * (sums[view][j] - sums[0][j]);
        }
    }

    // InfoNCE: the mean of the positives, each counted once.
    const T* const query = call.views[0] + i * d;
    double similarity = dot(query, call.key + i * d, d);
    Index positives = 1;
    const auto is_new = [neighbors](Index place) {
        return std::find(neighbors, neighbors + place, neighbors[place]) == neighbors + place;
    };
    for (Index place = 0; place < mined; ++place) {
        if (is_new(place)) {
            ++positives;
            similarity += dot(query, call.queue + neighbors[place] * d, d);
        }
    }
    const double share = 1.0 / static_cast<double>(positives);
    call.work.row_losses[i] = log_normalizer[0] - similarity * share / call.temperature;
    add_scaled(call.key + i * d, static_cast<T>(-share), d, sums[0]);
    for (Index place = 0; place < mined; ++place) {
        if (is_new(place)) {
            add_scaled(call.queue + neighbors[place] * d, static_cast<T>(-share), d, sums[0]);
        }
    }
    for (Index j = 0; j < d; ++j) {
        sums[0][j] *= scale;
    }
}

}  // namespace aimclr::cpu::contrast
