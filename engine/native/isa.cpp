#include "isa.h"

#include <map>
#include <mutex>

#include "refusal.h"
#include "self_check.h"

#if defined(EMBEDRT_X86)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#elif defined(EMBEDRT_ARM64) && defined(__APPLE__)
#include <sys/sysctl.h>
#elif defined(EMBEDRT_ARM64)
#include <sys/auxv.h>
#endif

namespace embedrt {
namespace {

#if defined(EMBEDRT_X86)

struct Features {
    bool avx2 = false;  // with FMA
    bool avxvnni = false;  // and VNNI of 32 bytes
    bool avx512 = false;  // F, BW, DQ, VL and VNNI
    bool bf16 = false;    // and BF16
    bool amx = false;     // and AMX of int8 and bfloat16
};

// Tiles are 8 kB that a thread's state grows by, so Linux wants to be asked, once for a process and what it forks. It refuses
// where a thread has a stack for signals that they would not fit.
[[maybe_unused]] bool may_use_tiles() {
#if defined(__linux__)
    constexpr int REQUEST = 0x1023, TILE_DATA = 18;  // ARCH_REQ_XCOMP_PERM of asm/prctl.h, which older systems lack
    return syscall(SYS_arch_prctl, REQUEST, TILE_DATA) == 0;
#else
    return false;
#endif
}

Features detect() {
    Features found;
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return found;
    const bool fma = c & (1u << 12), saved = c & (1u << 27);
    if (!saved) return found;
    unsigned low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    if ((low & 0x6) != 0x6) return found;  // the system saves xmm and ymm
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return found;
    found.avx2 = fma && (b & (1u << 5));
    const unsigned wanted = (1u << 16) | (1u << 17) | (1u << 30) | (1u << 31);  // F, DQ, BW, VL
    const bool vnni = c & (1u << 11);
    const unsigned tiles = (1u << 22) | (1u << 24) | (1u << 25);  // BF16, tiles, INT8
    [[maybe_unused]] const bool amx = (d & tiles) == tiles && (low & 0x60000) == 0x60000;
    found.avx512 = found.avx2 && (b & wanted) == wanted && vnni && (low & 0xe0) == 0xe0;
    if (a >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d)) {
        found.avxvnni = found.avx2 && (a & (1u << 4));
        found.bf16 = found.avx512 && (a & (1u << 5));
    }
#if defined(EMBEDRT_EMULATE_AMX)
    found.amx = found.bf16;
#else
    found.amx = found.bf16 && amx && may_use_tiles();
#endif
    return found;
}

#elif defined(EMBEDRT_ARM64) && defined(__APPLE__)

bool has_feature(const char* name) {
    int found = 0;
    size_t size = sizeof found;
    return sysctlbyname(name, &found, &size, nullptr, 0) == 0 && found != 0;
}

bool has_dotprod() { return has_feature("hw.optional.arm.FEAT_DotProd"); }
bool has_i8mm() { return has_feature("hw.optional.arm.FEAT_I8MM"); }

#elif defined(EMBEDRT_ARM64)

// Bits of Linux's <asm/hwcap.h>, whose headers may be older than the processor.
bool has_dotprod() { return getauxval(AT_HWCAP) & (1ul << 20); }
bool has_i8mm() { return getauxval(AT_HWCAP2) & (1ul << 13); }

#endif

}  // namespace

std::vector<const Kernels*> built_kernels() {
#if defined(EMBEDRT_X86)
    return {
#if defined(EMBEDRT_AMX)
        &amx_kernels,
#endif
#if !EMBEDRT_EMULATED
        &avx512bf16_kernels,
#endif
        &avx512vnni_kernels,
#if defined(EMBEDRT_AVXVNNI)
        &avxvnni_kernels,
#endif
        &avx2_kernels, &portable_kernels};
#elif defined(EMBEDRT_ARM64)
    return {&i8mm_kernels, &dotprod_kernels, &portable_kernels};
#else
    return {&portable_kernels};
#endif
}

bool machine_has(const Kernels& kernels) {
#if defined(EMBEDRT_X86)
    static const Features features = detect();
#if defined(EMBEDRT_AMX)
    if (&kernels == &amx_kernels) return features.amx;
#endif
#if !EMBEDRT_EMULATED
    if (&kernels == &avx512bf16_kernels) return features.bf16;
#endif
    if (&kernels == &avx512vnni_kernels) return features.avx512 || EMBEDRT_EMULATED;
#if defined(EMBEDRT_AVXVNNI)
    if (&kernels == &avxvnni_kernels) return features.avxvnni;
#endif
    if (&kernels == &avx2_kernels) return features.avx2;
#elif defined(EMBEDRT_ARM64)
    if (&kernels == &i8mm_kernels) return has_i8mm();
    if (&kernels == &dotprod_kernels) return has_dotprod();
#endif
    return &kernels == &portable_kernels;
}

namespace {

// Emulated instructions are for tests, by name.
bool is_emulated([[maybe_unused]] const std::string& name) {
#if defined(EMBEDRT_EMULATE_AMX)
    if (name == "amx") return true;
#endif
    return EMBEDRT_EMULATED && name == "avx512vnni";
}

struct Checks {
    std::mutex mutex;
    std::map<const Kernels*, std::string> faults, broken;
};

Checks& checks() {
    static Checks all;
    return all;
}

}  // namespace

const std::string& fault_of(const Kernels& kernels) {
    static const std::string none;
    if (&kernels == &portable_kernels) return none;
    Checks& all = checks();
    const std::lock_guard<std::mutex> lock(all.mutex);
    const auto [found, fresh] = all.faults.try_emplace(&kernels);
    if (fresh) {
        const auto broken = all.broken.find(&kernels);
        found->second = differing_kernel(broken == all.broken.end() ? kernels : without_kernel(kernels, broken->second));
    }
    return found->second;
}

void break_kernel(const Kernels& kernels, const std::string& name) {
    const std::lock_guard<std::mutex> lock(checks().mutex);
    checks().broken[&kernels] = name;
}

const Kernels& choose_kernels(const std::string& name) {
    std::string known = "auto";
    for (const Kernels* one : built_kernels()) {
        if (name == "auto" ? machine_has(*one) && !is_emulated(one->name) && fault_of(*one).empty() : name == one->name) {
            if (!machine_has(*one)) throw Refusal("this processor or system has no " + name);
            const std::string& fault = fault_of(*one);
            if (fault.empty()) return *one;
            throw Refusal(name + " computes " + fault + " wrongly on this machine; take another instruction set, or auto");
        }
        known += std::string(", ") + one->name;
    }
    throw Refusal("no instruction set is called '" + name + "'; there are " + known);
}

}  // namespace embedrt
