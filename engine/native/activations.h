// 2^x and the FFN's activations, over a vector type V. Included by kernels_body.h.

// 2^x for -100 <= x <= 0: nearest integer and a polynomial of degree 5 on [-0.5, 0.5], relative error 2e-7. 2^-100 below,
// so that its products with weights and values are normal numbers: others are made in microcode by Intel's processors, slowly.
static inline F exp2_nonpositive(F x) {
    x = V::max_nan(V::set1(-100.0f), x);
    const F whole = V::round(x);
    const F f = V::sub(x, whole);
    F p = V::set1(1.3276471e-3f);
    p = V::fma(p, f, V::set1(9.6755419e-3f));
    p = V::fma(p, f, V::set1(5.5507131e-2f));
    p = V::fma(p, f, V::set1(2.4022120e-1f));
    p = V::fma(p, f, V::set1(6.9314694e-1f));
    p = V::fma(p, f, V::set1(1.0000001f));
    return V::scale_by_power(p, whole);
}

#if EMBEDRT_LOOKS_UP
alignas(64) constexpr float GELU_UNDER[6][16] = {
#include "gelu_table.inc"
};

// max(x, 0) less what gelu lies under it, a function of |x|, by polynomials around multiples of 1/2: within 5e-8 before
// rounding. Adding 1.5 * 2^22, where neighbours are 1/2 apart, rounds to such a multiple and leaves its number in the lowest
// bits. Six multiplications where erf takes fifteen and a quotient.
static inline F gelu_erf(F x) {
    const F shift = V::set1(6291456.0f), magnitude = V::min(V::magnitude(x), V::set1(7.5f));
    const F place = V::add(magnitude, shift), r = V::sub(magnitude, V::sub(place, shift));
    F under = V::look_up(GELU_UNDER[5], place);
    for (int power = 4; power >= 0; power--) under = V::fma(under, r, V::look_up(GELU_UNDER[power], place));
    return V::sub(V::max_nan(V::set1(0.0f), x), under);
}
#else
// erf(z) = z P(z^2) / Q(z^2) with |z| clamped to where erf is 1 in float32; fitted, within 2e-8 before rounding.
static inline F gelu_erf(F x) {
    const F z = V::max(V::min(V::mul(x, V::set1(0.70710678f)), V::set1(3.95f)), V::set1(-3.95f));
    const F s = V::mul(z, z);
    F p = V::set1(2.0117470e-6f);
    p = V::fma(p, s, V::set1(2.8760103e-4f));
    p = V::fma(p, s, V::set1(3.9173169e-3f));
    p = V::fma(p, s, V::set1(5.3207055e-2f));
    p = V::fma(p, s, V::set1(1.9403562e-1f));
    p = V::fma(p, s, V::set1(1.1283790f));
    F q = V::set1(3.7839782e-5f);
    q = V::fma(q, s, V::set1(1.1982016e-3f));
    q = V::fma(q, s, V::set1(1.5270699e-2f));
    q = V::fma(q, s, V::set1(1.1559073e-1f));
    q = V::fma(q, s, V::set1(5.0529104e-1f));
    q = V::fma(q, s, V::set1(1.0f));
    const F half = V::mul(x, V::set1(0.5f));
    return V::fma(half, V::div(V::mul(z, p), q), half);
}
#endif

// x / (1 + 2^(factor * u)), for a factor under zero.
static inline F times_sigmoid(F x, F u, float factor) {
    const F magnitude = V::max(u, V::sub(V::set1(0.0f), u));
    const F one = V::set1(1.0f), e = exp2_nonpositive(V::mul(magnitude, V::set1(factor)));
    return V::mul(x, V::div(V::select_negative(u, e, one), V::add(one, e)));
}

// 0.5 x (1 + tanh(u)) = x / (1 + e^(-2u)), u = sqrt(2 / pi) (x + 0.044715 x^3).
static inline F gelu_tanh(F x) {
    const F square = V::mul(x, x);
    const F u = V::mul(x, V::fma(square, V::set1(0.044715f * 0.79788456f), V::set1(0.79788456f)));
    return times_sigmoid(x, u, -2.0f * 1.44269504f);
}

template <Activation A>
static inline F activate(F x) {
    if constexpr (A == Activation::gelu_erf) return gelu_erf(x);
    if constexpr (A == Activation::gelu_tanh) return gelu_tanh(x);
    if constexpr (A == Activation::silu) return times_sigmoid(x, x, -1.44269504f);
    if constexpr (A == Activation::quick_gelu) return times_sigmoid(x, x, -1.702f * 1.44269504f);
    return V::max_nan(V::set1(0.0f), x);
}

// body(the activation as a constant).
template <class Body>
static inline void with_activation(Activation activation, Body body) {
    switch (activation) {
        case Activation::gelu_erf: return body(Number<static_cast<int>(Activation::gelu_erf)>{});
        case Activation::gelu_tanh: return body(Number<static_cast<int>(Activation::gelu_tanh)>{});
        case Activation::relu: return body(Number<static_cast<int>(Activation::relu)>{});
        case Activation::silu: return body(Number<static_cast<int>(Activation::silu)>{});
        case Activation::quick_gelu: return body(Number<static_cast<int>(Activation::quick_gelu)>{});
    }
}
