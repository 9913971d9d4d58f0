// In place of csrc/cpu/parallel.h: one thread does the items of all, in the order in which the free
// ones of `threads` threads would take them. Their costs are what kernels count.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace aimclr::cpu {

struct Schedule {
    double cost = 0.0;    // of all items so far
    double length = 0.0;  // until the last thread was done, of all regions so far
    std::int64_t regions = 0;
};
inline Schedule schedule;

template <typename Body>
void for_each(std::int64_t items, int threads, const Body& body) {
    if (items == 0) {
        return;
    }
    std::vector<double> ends(static_cast<std::size_t>(std::min<std::int64_t>(threads, items)));
    for (std::int64_t item = 0; item < items; ++item) {
        const auto worker = std::min_element(ends.begin(), ends.end());
        const double before = schedule.cost;
        body(item, worker - ends.begin());
        *worker += schedule.cost - before;
    }
    schedule.length += *std::max_element(ends.begin(), ends.end());
    ++schedule.regions;
}

}  // namespace aimclr::cpu
