// What a kernel entry point returns. The bindings turn it into a Python exception.
#pragma once

#include <cstddef>

namespace aimclr {

enum class StatusCode {
    kOk,
    kInvalidArgument,  // ValueError
    kDeviceError,      // RuntimeError
};

struct [[nodiscard]] Status {
    StatusCode code = StatusCode::kOk;
    // Never owned: a literal, or a string that the CUDA runtime keeps.
    const char* message = "";
};

// Whether arrays of so many elements can be counted in 64 bits, with room for padding and threads.
// Sizes must not be negative.
template <typename... Sizes>
constexpr bool countable(Sizes... sizes) {
    return (1.0 * ... * static_cast<double>(sizes)) <= 1099511627776.0;  // 2^40
}

template <std::size_t N>
bool has_null(const void* const (&pointers)[N]) {
    for (const void* pointer : pointers) {
        if (pointer == nullptr) {
            return true;
        }
    }
    return false;
}

inline constexpr int kMostThreads = 1 << 16;

inline Status invalid_argument(const char* message) {
    return {StatusCode::kInvalidArgument, message};
}

inline Status device_error(const char* message) {
    return {StatusCode::kDeviceError, message};
}

}  // namespace aimclr

#define AIMCLR_RETURN_IF_ERROR(expression)               \
    do {                                                 \
        const ::aimclr::Status status_ = (expression);   \
        if (status_.code != ::aimclr::StatusCode::kOk) { \
            return status_;                              \
        }                                                \
    } while (false)
