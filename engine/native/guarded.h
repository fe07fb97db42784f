// What the C door makes of exceptions.
#pragma once

#include <cstdio>
#include <exception>
#include <new>

#include "embedrt_native.h"
#include "refusal.h"

namespace embedrt {

inline void say(char* error, size_t size, const char* message) {
    if (error != nullptr && size > 0) std::snprintf(error, size, "%s", message);
}

// Runs `body` and turns what it throws into a code and a message.
template <class Body>
int32_t guarded(char* error, size_t size, Body body) {
    try {
        body();
        return EMBEDRT_OK;
    } catch (const Refusal& refusal) {
        say(error, size, refusal.what());
        return EMBEDRT_UNSUPPORTED;
    } catch (const std::bad_alloc&) {
        say(error, size, "out of memory");
    } catch (const std::exception& failure) {
        say(error, size, failure.what());
    } catch (...) {
        say(error, size, "unknown failure");
    }
    return EMBEDRT_FAILED;
}

}  // namespace embedrt
