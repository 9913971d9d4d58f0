// What a kernel entry point returns. The bindings turn it into a Python exception.
#pragma once

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
