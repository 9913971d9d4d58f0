#include "cpu/apply_augment.h"

#include "bindings/binding.h"

AIMCLR_BINDINGS(apply_augment, module) {
    using namespace aimclr;
    bindings::define<&cpu::apply_augment>(module, "apply_augment_cpu");
    bindings::define<&cpu::apply_augment_backward>(module, "apply_augment_backward_cpu");
}
