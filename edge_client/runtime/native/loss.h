/* The loss. It is small beside everything else: double precision, no vectors. */
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
            a->gradient[c * batch + b] = (float)((share - (c == a->labels[b])) / *a->total);
        }
        loss += log(total) + highest - logits[a->labels[b] * batch];
    }
    *a->loss += loss / *a->total;
}
