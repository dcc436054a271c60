/* Losses. The cross-entropy is small beside everything else: double precision, no vectors. */
#include <math.h>

KERNEL(cross_entropy, cross_entropy_arguments) {
    (void)from, (void)to; /* one unit: the sum is over samples */
    double loss = 0;
    for (int64_t b = 0; b < batch; b++) {
        const float *logits = a->logits + b;
        double highest = logits[0], total = 0;
        for (int64_t c = 1; c < a->classes; c++)
            if (logits[c * batch] > highest) highest = logits[c * batch];
        for (int64_t c = 0; c < a->classes; c++) total += exp(logits[c * batch] - highest);
        for (int64_t c = 0; c < a->classes; c++) {
            double share = exp(logits[c * batch] - highest) / total;
            a->gradient[c * batch + b] = (float)((share - (c == a->targets[b])) / *a->total);
        }
        loss += log(total) + highest - logits[a->targets[b] * batch];
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

/* Sum of the first `count` lanes. */
INLINE double part_sum(lanes value, int64_t count) {
    double sum = 0;
    for (int64_t i = 0; i < LANES && i < count; i++) sum += value[i];
    return sum;
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
            loss += part_sum(error * error, count);
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
            loss += part_sum(positive - y * target + rest, count);
        }
    *a->loss += loss * share;
}
