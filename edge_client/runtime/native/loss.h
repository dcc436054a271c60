/* Losses: single precision for each output, double for the sums. */
#include <math.h>

/* The exponentials of one sample's logits less the highest are kept in `gradient` meanwhile. */
KERNEL(cross_entropy, cross_entropy_arguments) {
    (void)from, (void)to; /* one unit: the sum is over samples */
    const float share = (float)(1.0 / *a->total);
    double loss = 0;
    for (int64_t b = 0; b < batch; b += LANES) {
        const int64_t count = batch - b;
        lanes highest = take(a->logits + b, count), total = {0};
        for (int64_t c = 1; c < a->classes; c++) {
            const lanes x = take(a->logits + c * batch + b, count);
            highest = choose((bits)(x > highest), x, highest);
        }
        for (int64_t c = 0; c < a->classes; c++) {
            const lanes e = exponential(take(a->logits + c * batch + b, count) - highest);
            give(a->gradient + c * batch + b, e, count);
            total += e;
        }
        const lanes factor = share / total;
        for (int64_t c = 0; c < a->classes; c++) {
            float *gradient = a->gradient + c * batch + b;
            give(gradient, take(gradient, count) * factor, count);
        }
        for (int64_t i = 0; i < LANES && i < count; i++) {
            const int64_t at = a->targets[b + i] * batch + b + i;
            a->gradient[at] -= share;
            loss += log(total[i]) + highest[i] - a->logits[at];
        }
    }
    *a->loss += loss / *a->total;
}

/* The targets of one output, for LANES samples. */
INLINE lanes targets_of(const elementwise_loss_arguments *a, int64_t output, int64_t b,
                        int64_t count) {
    lanes targets = {0};
    for (int64_t i = 0; i < LANES && i < count; i++)
        targets[i] = a->targets[(b + i) * a->outputs + output];
    return targets;
}

KERNEL(mse, elementwise_loss_arguments) {
    (void)from, (void)to;
    const double share = 1.0 / (*a->total * (double)a->outputs);
    const float factor = (float)(2.0 * share);
    double loss = 0;
    for (int64_t c = 0; c < a->outputs; c++)
        for (int64_t b = 0; b < batch; b += LANES) {
            const int64_t i = c * batch + b, count = batch - b;
            const lanes error = take(a->logits + i, count) - targets_of(a, c, b, count);
            give(a->gradient + i, error * factor, count);
            loss += lane_sum(part(error * error, count));
        }
    *a->loss += loss * share;
}

/* With y a logit: max(y, 0) - y * target + ln(1 + e^-|y|), which never overflows. */
KERNEL(bce, elementwise_loss_arguments) {
    (void)from, (void)to;
    const double share = 1.0 / (*a->total * (double)a->outputs);
    double loss = 0;
    for (int64_t c = 0; c < a->outputs; c++)
        for (int64_t b = 0; b < batch; b += LANES) {
            const int64_t i = c * batch + b, count = batch - b;
            const lanes y = take(a->logits + i, count), target = targets_of(a, c, b, count);
            const lanes rest = logarithm_beyond_one(exponential(-magnitude(y)));
            const lanes positive = choose((bits)(y < 0.0f), (lanes){0}, y);
            give(a->gradient + i, (logistic(y) - target) * (float)share, count);
            loss += lane_sum(part(positive - y * target + rest, count));
        }
    *a->loss += loss * share;
}
