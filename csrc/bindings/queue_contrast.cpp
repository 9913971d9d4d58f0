#include "cpu/queue_contrast.h"

#include "bindings/binding.h"

AIMCLR_BINDINGS(queue_contrast, module) {
    using namespace aimclr;
    bindings::define<&cpu::queue_contrast_f32>(module, "queue_contrast_f32_cpu");
    bindings::define<&cpu::queue_contrast_f64>(module, "queue_contrast_f64_cpu");
    module.def("queue_contrast_workspace_cpu", &cpu::queue_contrast_workspace);
}
