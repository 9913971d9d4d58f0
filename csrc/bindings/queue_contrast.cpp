#include "cpu/queue_contrast/queue_contrast.h"

#include "bindings/binding.h"

AIMCLR_BINDINGS(queue_contrast, module) {
    using namespace aimclr;
    bindings::define<&cpu::queue_contrast_f32>(module, "queue_contrast_f32_cpu");
    bindings::define<&cpu::queue_contrast_f64>(module, "queue_contrast_f64_cpu");
    using Int = std::int64_t;
    module.def("queue_contrast_workspace_cpu",
               [](Int n, Int k, Int d, Int topk, int threads, Int element_bytes) {
                   Int bytes = 0;
                   bindings::raise_if_error(
                       cpu::queue_contrast_workspace(n, k, d, topk, threads, element_bytes, bytes));
                   return bytes;
               });
}
