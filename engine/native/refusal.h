// The one exception for what this executor does not run; everything else that is thrown is a failure.
#pragma once

#include <stdexcept>

namespace embedrt {

struct Refusal : std::runtime_error {
    using std::runtime_error::runtime_error;
};

}  // namespace embedrt
