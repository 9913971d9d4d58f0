// Pages of large outputs, whose first touch costs more than the writing.
#pragma once

#include <cstdint>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace aimclr::cpu {

// Requests 2 MiB pages, which halve the time to write new memory. It is a hint, which changes no
// value. Its price: the hint stays on the addresses after the tensor is freed, up to 2 MiB more may
// be resident, and the kernel may have to move pages to find large ones. Null is ignored.
template <typename T>
void advise_huge_pages(T* data, std::int64_t count) {
#if defined(MADV_HUGEPAGE)
    constexpr std::uintptr_t kHuge = 1 << 21;
    const auto address = reinterpret_cast<std::uintptr_t>(data);
    const std::uintptr_t begin = (address + kHuge - 1) / kHuge * kHuge;
    const std::uintptr_t bytes = static_cast<std::uintptr_t>(count) * sizeof(T);
    const std::uintptr_t end = (address + bytes) / kHuge * kHuge;
    if (data != nullptr && begin < end) {
        static_cast<void>(madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE));
    }
#else
    static_cast<void>(data);
    static_cast<void>(count);
#endif
}

}  // namespace aimclr::cpu
