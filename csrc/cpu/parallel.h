// Splits a range over short-lived threads.
//
// torch keeps its own OpenMP pool; a second pool that spins beside it costs more than it gives. So
// threads are made for one call and joined, and small ranges run in the calling thread.
#pragma once

#include <algorithm>
#include <cstdint>
#include <system_error>
#include <thread>
#include <vector>

namespace aimclr::cpu {

// Calls body(begin, end) over disjoint parts that cover [0, n). Each part has at least `grain`
// items (but for n < grain), and there are at most `threads` parts. `body` must not throw.
template <typename Body>
void parallel_for(std::int64_t n, int threads, std::int64_t grain, const Body& body) {
    if (n <= 0) {
        return;
    }
    const std::int64_t parts = std::clamp<std::int64_t>(n / grain, 1, std::max(threads, 1));
    const auto bound = [n, parts](std::int64_t part) {
        return n / parts * part + std::min(part, n % parts);
    };
    std::vector<std::thread> workers;
    workers.reserve(static_cast<std::size_t>(parts - 1));
    std::int64_t started = 1;
    try {
        for (; started < parts; ++started) {
            workers.emplace_back(body, bound(started), bound(started + 1));
        }
    } catch (const std::system_error&) {
        // The system has no thread left: the calling thread does the rest.
    }
    body(bound(0), bound(1));
    if (started < parts) {
        body(bound(started), n);
    }
    for (std::thread& worker : workers) {
        worker.join();
    }
}

}  // namespace aimclr::cpu
