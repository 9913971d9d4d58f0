// What csrc/cuda/launch.h asks of the CUDA runtime, against a runtime of the test's own, without a
// GPU. Prints nothing and returns 0 if all holds.
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <thread>
#include <vector>

#include "cuda/launch.h"

namespace {

constexpr std::size_t kPlain = 48 << 10;  // bytes that need no permission

int device = 0;
cudaError_t last_error = cudaSuccess;  // left by a call that failed, until somebody asks
bool broken = false;                   // the context: each call says so, and none clears it
cudaError_t next_launch = cudaSuccess;
std::atomic<std::size_t> permitted[2];  // for the one kernel, on two devices
std::atomic<int> settings, launches, refused;
int seen_number = 0;
double seen_real = 0;

cudaError_t finish(cudaError_t error) {
    if (broken) {
        return cudaErrorIllegalAddress;
    }
    if (error != cudaSuccess) {
        last_error = error;
    }
    return error;
}

void kernel(int, double) {}

}  // namespace

extern "C" {

cudaError_t cudaGetDevice(int* result) {
    *result = device;
    return finish(cudaSuccess);
}

cudaError_t cudaGetLastError() {
    const cudaError_t error = broken ? cudaErrorIllegalAddress : last_error;
    last_error = cudaSuccess;
    return error;
}

const char* cudaGetErrorString(cudaError_t error) {
    return error == cudaErrorIllegalAddress ? "illegal address" : "invalid value";
}

cudaError_t cudaFuncSetAttribute(const void*, cudaFuncAttribute, int value) {
    if (value > (200 << 10)) {
        return finish(cudaErrorInvalidValue);
    }
    permitted[device] = static_cast<std::size_t>(value);
    ++settings;
    // Time for another thread to come between.
    std::this_thread::sleep_for(std::chrono::microseconds(20));
    return finish(cudaSuccess);
}

cudaError_t cudaLaunchKernel(const void*, dim3, dim3, void** arguments, std::size_t shared,
                             cudaStream_t) {
    ++launches;
    seen_number = *static_cast<int*>(arguments[0]);
    seen_real = *static_cast<double*>(arguments[1]);
    if (shared > kPlain && shared > permitted[device]) {
        ++refused;
        return finish(cudaErrorInvalidValue);
    }
    return finish(next_launch);
}

}  // extern "C"

#define CHECK(condition)                                        \
    do {                                                        \
        if (!(condition)) {                                     \
            std::printf("line %d: %s\n", __LINE__, #condition); \
            return 1;                                           \
        }                                                       \
    } while (false)

int main() {
    using namespace aimclr;
    using namespace aimclr::cuda;
    const auto run = [](std::size_t shared, int number = 1, float real = 0.5f) {
        return launch(kernel, {1, 32, shared}, nullptr, number, real);
    };
    const auto ok = [](const Status& status) { return status.code == StatusCode::kOk; };

    // Arguments arrive as the kernel's own types.
    CHECK(ok(run(0, 7, 0.25f)));
    CHECK(seen_number == 7 && seen_real == 0.25);
    CHECK(settings == 0);

    // Threads that need different amounts of shared memory.
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < 8; ++i) {
        threads.emplace_back([&run, i] {
            for (std::size_t j = 0; j < 200; ++j) {
                static_cast<void>(run((50 + (i * 37 + j * 11) % 100) << 10));
            }
        });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    CHECK(launches == 1601);
    CHECK(refused == 0);
    CHECK(settings <= 100);  // not one a launch

    // The other device has not been asked yet.
    device = 1;
    CHECK(ok(run(60 << 10)));
    CHECK(permitted[1] == 60 << 10);

    // What failed is reported by that call, and by no other; and is asked for again.
    CHECK(run(201 << 10).code == StatusCode::kDeviceError);
    CHECK(last_error == cudaSuccess);
    CHECK(run(201 << 10).code == StatusCode::kDeviceError);
    CHECK(ok(run(60 << 10)));
    next_launch = cudaErrorInvalidValue;
    CHECK(run(0).code == StatusCode::kDeviceError);
    next_launch = cudaSuccess;
    CHECK(ok(run(0)));
    CHECK(cudaGetLastError() == cudaSuccess);

    // What somebody else left is not taken for this launch's error, nor taken from him.
    last_error = cudaErrorInvalidValue;
    CHECK(ok(run(0)));
    CHECK(cudaGetLastError() == cudaErrorInvalidValue);

    // A broken context is told, and stays broken for all.
    broken = true;
    const Status status = run(0);
    CHECK(status.code == StatusCode::kDeviceError);
    CHECK(std::strcmp(status.message, "illegal address") == 0);
    CHECK(cudaGetLastError() == cudaErrorIllegalAddress);
    return 0;
}
