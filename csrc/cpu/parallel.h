// Splits a range over threads.
//
// torch keeps its own OpenMP pool, whose threads spin for a while after each of its operations. A
// thread of ours would have to share a core with them, so the pool itself is used where it can be
// found in the process. The library does not link it: elsewhere threads are made for one call.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <system_error>
#include <thread>
#include <vector>

#ifdef __linux__
#include <dlfcn.h>
#endif

namespace aimclr::cpu {

// `#pragma omp parallel` as compilers translate it: GNU's interface, which LLVM's and Intel's
// libraries have, too.
using OpenMpParallel = void (*)(void (*function)(void*), void* argument, unsigned threads,
                                unsigned flags);

inline OpenMpParallel find_openmp() {
#ifdef __linux__
    return reinterpret_cast<OpenMpParallel>(dlsym(RTLD_DEFAULT, "GOMP_parallel"));
#else
    return nullptr;
#endif
}

// Calls work() in up to `threads` threads, the calling one among them; returns when all are done.
template <typename Work>
void run_on_threads(int threads, Work& work) {
    if (threads <= 1) {
        work();
        return;
    }
    static const OpenMpParallel openmp = find_openmp();
    if (openmp != nullptr) {
        openmp([](void* argument) { (*static_cast<Work*>(argument))(); }, &work,
               static_cast<unsigned>(threads), 0);
        return;
    }
    std::vector<std::thread> workers;
    workers.reserve(static_cast<std::size_t>(threads - 1));
    try {
        for (int i = 1; i < threads; ++i) {
            workers.emplace_back([&work] { work(); });
        }
    } catch (const std::system_error&) {
        // The system has no thread left: those there are do the rest.
    }
    work();
    for (std::thread& worker : workers) {
        worker.join();
    }
}

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
    // However many threads there come to be, each takes parts until none is left.
    std::atomic<std::int64_t> next{0};
    auto work = [&] {
        for (std::int64_t part = next++; part < parts; part = next++) {
            body(bound(part), bound(part + 1));
        }
    };
    run_on_threads(static_cast<int>(parts), work);
}

// Calls body(item, worker) for each item, on the next free worker; a worker has its own scratch.
template <typename Body>
void for_each(std::int64_t items, int threads, const Body& body) {
    std::atomic<std::int64_t> next{0};
    const std::int64_t workers = std::min<std::int64_t>(std::max(threads, 1), items);
    parallel_for(workers, threads, 1, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t worker = begin; worker < end; ++worker) {
            for (std::int64_t item = next++; item < items; item = next++) {
                body(item, worker);
            }
        }
    });
}

}  // namespace aimclr::cpu
