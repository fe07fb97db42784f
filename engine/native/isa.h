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

// The kernel of a table, which this machine has, that computes here what the portable one does not (self_check.h), or
// nothing. Found out once in a process, which keeps the text.
const std::string& fault_of(const Kernels& kernels);

// For tests, before that: as if one kernel did nothing.
void break_kernel(const Kernels& kernels, const std::string& name);

// The table of that name, or the machine's best for "auto", without a fault. Throws Refusal if there is none, or the machine
// lacks it.
const Kernels& choose_kernels(const std::string& name);

}  // namespace embedrt
