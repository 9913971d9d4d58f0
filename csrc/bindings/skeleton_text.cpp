#include "cpu/skeleton_text/skeleton_text.h"

#include "bindings/binding.h"

AIMCLR_BINDINGS(skeleton_text, module) {
    using namespace aimclr;
    bindings::define<&cpu::read_skeleton_text>(module, "read_skeleton_text");
    bindings::define<&cpu::read_number_table>(module, "read_number_table");
}
