// Which instruction sets this build and this machine have.
#pragma once

#include <string>
#include <vector>

#include "kernels.h"

namespace embedrt {

// Best first: "amx", "avx512bf16", "avx512vnni" and "avx2", or "i8mm" and "dotprod", by the architecture; and "portable".
std::vector<const Kernels*> built_kernels();

// Whether the processor has the instructions and the operating system keeps their registers.
bool machine_has(const Kernels& kernels);

// The table of that name, or the machine's best for "auto". Throws Refusal if there is none, or the machine lacks it.
const Kernels& choose_kernels(const std::string& name);

}  // namespace embedrt
