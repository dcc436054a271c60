/* Activations. Forward they may run in place; backward, `input` is what the activation gave or was
 * given (it is said which), and `output` is the gradient, changed in place. NaN passes. */

#define FORWARD(name, value)                                              \
    KERNEL(name, map_arguments) {                                         \
        for (int64_t i = from * batch; i < to * batch; i += LANES) {      \
            const int64_t count = to * batch - i;                         \
            const lanes x = take(a->input + i, count);                    \
            give(a->output + i, value, count);                            \
        }                                                                 \
    }
#define BACKWARD(name, value)                                             \
    KERNEL(name##_backward, map_arguments) {                              \
        for (int64_t i = from * batch; i < to * batch; i += LANES) {      \
            const int64_t count = to * batch - i;                         \
            const lanes x = take(a->input + i, count);                    \
            const lanes g = take(a->output + i, count);                   \
            give(a->output + i, value, count);                            \
        }                                                                 \
    }

/* The gradient where the condition holds, else zero. */
INLINE lanes only(bits condition, lanes gradient) { return (lanes)((bits)gradient & condition); }

/* Backward from the output. */
FORWARD(relu, only(~(bits)(x < 0.0f), x))
BACKWARD(relu, only((bits)(x > 0.0f), g))

FORWARD(relu6, clamp(x, 0.0f, 6.0f))
BACKWARD(relu6, only((bits)(x > 0.0f) & (bits)(x < 6.0f), g))

FORWARD(sigmoid, logistic(x))
BACKWARD(sigmoid, g * x * (1.0f - x))

FORWARD(tanh, hyperbolic_tangent(x))
BACKWARD(tanh, g * (1.0f - x * x))

FORWARD(hard_sigmoid, clamp(x * (1.0f / 6.0f) + 0.5f, 0.0f, 1.0f))
BACKWARD(hard_sigmoid, only((bits)(x > 0.0f) & (bits)(x < 1.0f), g * (1.0f / 6.0f)))

/* Backward from the input. */
INLINE lanes silu_slope(lanes x) {
    const lanes share = logistic(x);
    return share + x * share * (1.0f - share);
}
FORWARD(silu, x * logistic(x))
BACKWARD(silu, g * silu_slope(x))

INLINE lanes hard_swish_slope(lanes x) {
    const lanes inner = x * (1.0f / 3.0f) + 0.5f;
    return choose((bits)(x > 3.0f), (lanes){0} + 1.0f, only(~(bits)(x < -3.0f), inner));
}
FORWARD(hard_swish, x * clamp(x * (1.0f / 6.0f) + 0.5f, 0.0f, 1.0f))
BACKWARD(hard_swish, g * hard_swish_slope(x))

/* x * Phi(x), with the normal distribution. */
INLINE lanes gelu_slope(lanes x) {
    const lanes curve = bell(x);
    return normal_below(x, curve) + x * curve * 0.3989422804f;
}
FORWARD(gelu, x * normal_below(x, bell(x)))
BACKWARD(gelu, g * gelu_slope(x))

/* x * (1 + tanh(u)) / 2 = x * logistic(2 u), u = sqrt(2 / pi) * (x + 0.044715 * x^3). */
INLINE lanes gelu_tanh_share(lanes x) {
    return logistic(x * (1.5957691216f + 0.0713548163f * x * x));
}
INLINE lanes gelu_tanh_slope(lanes x) {
    x = clamp(x, -32.0f, 32.0f); /* beyond, the slope is 0 or 1, but its terms overflow */
    const lanes share = gelu_tanh_share(x);
    return share + x * share * (1.0f - share) * (1.5957691216f + 0.2140644488f * x * x);
}
FORWARD(gelu_tanh, x * gelu_tanh_share(x))
BACKWARD(gelu_tanh, g * gelu_tanh_slope(x))

#undef FORWARD
#undef BACKWARD

/* Backward from the output: a slope that is not negative leaves the sign. */
KERNEL(leaky_relu, leaky_relu_arguments) {
    const float slope = (float)a->slope;
    for (int64_t i = from * batch; i < to * batch; i += LANES) {
        const int64_t count = to * batch - i;
        const lanes x = take(a->input + i, count);
        give(a->output + i, choose((bits)(x > 0.0f), x, x * slope), count);
    }
}

KERNEL(leaky_relu_backward, leaky_relu_arguments) {
    const float slope = (float)a->slope;
    for (int64_t i = from * batch; i < to * batch; i += LANES) {
        const int64_t count = to * batch - i;
        const lanes y = take(a->input + i, count), g = take(a->output + i, count);
        give(a->output + i, choose((bits)(y > 0.0f), g, g * slope), count);
    }
}
