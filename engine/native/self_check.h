// Whether an instruction set computes here what the portable one does.
#pragma once

#include <string>

#include "kernels.h"

namespace embedrt {

// Every kernel of the table on small seeded inputs, compared with the portable one; the first that differs, by name, or
// nothing. Some milliseconds.
std::string differing_kernel(const Kernels& kernels);

// A table with one kernel, by name, that writes nothing: for tests. Throws std::invalid_argument for other names.
Kernels without_kernel(Kernels kernels, const std::string& name);

}  // namespace embedrt
