/* Normalisation of each sample on its own, over groups of positions: group and layer norm.
 *
 * A group is `length` contiguous positions; `span` contiguous positions share a scale and a shift,
 * and after `parameters` spans these are taken from the start again. Group norm: `length` = all
 * positions of the group's channels, `span` = those of one channel. Layer norm: `length` = the
 * parameters, `span` = 1. */

/* The samples b to b + count of one group. */
typedef struct {
    int64_t length, batch, count, span, first; /* the group's first parameter */
    const float *input, *scale, *shift;
    float *output;
} group_piece;

INLINE group_piece group_piece_of(const group_norm_arguments *a, int64_t batch, int64_t group,
                                  int64_t b, int64_t count) {
    const int64_t start = group * a->length;
    return (group_piece){
        .length = a->length,
        .batch = batch,
        .count = count,
        .span = a->span,
        .first = start / a->span % a->parameters,
        .input = a->input + start * batch + b,
        .output = a->output + start * batch + b,
        .scale = a->scale,
        .shift = a->shift,
    };
}

enum { SHORT = 64 }; /* positions summed at a time, for the sake of precision */

typedef struct {
    lanes sum, squares;
} moments;

/* Sums of x - centre and of its square, over the positions. */
INLINE moments group_moments(const group_piece *p, lanes centre) {
    moments total = {{0}, {0}};
    for (int64_t start = 0; start < p->length; start += SHORT) {
        const int64_t end = start + SHORT < p->length ? start + SHORT : p->length;
        lanes sum = {0}, squares = {0};
        for (int64_t i = start; i < end; i++) {
            const lanes term = take(p->input + i * p->batch, p->count) - centre;
            sum += term;
            squares += term * term;
        }
        total.sum += sum;
        total.squares += squares;
    }
    return total;
}

INLINE void group_forward(const group_piece *p, double eps, float *mean_result,
                          float *inverse_result) {
    const float share = 1.0f / (float)p->length;
    const lanes about = group_moments(p, (lanes){0}).sum * share; /* rounded: may be off a little */
    const moments rest = group_moments(p, about);
    const lanes shift = rest.sum * share, mean = about + shift;
    lanes inverse = rest.squares * share - shift * shift;
    for (int i = 0; i < LANES; i++) inverse[i] = (float)(1.0 / __builtin_sqrt(inverse[i] + eps));
    give(mean_result, mean, p->count);
    give(inverse_result, inverse, p->count);
    int64_t parameter = p->first, left = p->span;
    for (int64_t i = 0; i < p->length; i++) {
        const lanes x = take(p->input + i * p->batch, p->count);
        const lanes factor = inverse * p->scale[parameter];
        give(p->output + i * p->batch, (x - mean) * factor + p->shift[parameter], p->count);
        if (--left == 0) parameter++, left = p->span;
    }
}

/* Units: groups. */
KERNEL(group_norm, group_norm_arguments) {
    for (int64_t group = from; group < to; group++)
        for (int64_t b = 0; b < batch; b += LANES) {
            const int whole = batch - b >= LANES;
            const group_piece p =
                group_piece_of(a, batch, group, b, whole ? LANES : batch - b);
            float *mean = a->mean + group * batch + b, *inverse = a->inverse + group * batch + b;
            group_forward(&p, a->eps, mean, inverse);
        }
}

/* `output` is the gradient, changed in place. */
INLINE void group_backward(const group_piece *p, lanes mean, lanes inverse) {
    lanes sum = {0}, product = {0};
    int64_t parameter = p->first, left = p->span;
    for (int64_t start = 0; start < p->length; start += SHORT) {
        const int64_t end = start + SHORT < p->length ? start + SHORT : p->length;
        lanes part = {0}, part_product = {0};
        for (int64_t i = start; i < end; i++) {
            const lanes g = take(p->output + i * p->batch, p->count) * p->scale[parameter];
            part += g;
            part_product += g * (take(p->input + i * p->batch, p->count) - mean);
            if (--left == 0) parameter++, left = p->span;
        }
        sum += part;
        product += part_product;
    }
    const float share = 1.0f / (float)p->length;
    const lanes constant = sum * share, slope = product * inverse * inverse * share;
    parameter = p->first, left = p->span;
    for (int64_t i = 0; i < p->length; i++) {
        const lanes g = take(p->output + i * p->batch, p->count) * p->scale[parameter];
        const lanes x = take(p->input + i * p->batch, p->count) - mean;
        give(p->output + i * p->batch, (g - constant - x * slope) * inverse, p->count);
        if (--left == 0) parameter++, left = p->span;
    }
}

/* Units: groups. */
KERNEL(group_norm_backward, group_norm_arguments) {
    for (int64_t group = from; group < to; group++)
        for (int64_t b = 0; b < batch; b += LANES) {
            const int64_t count = batch - b, at = group * batch + b;
            const group_piece p = group_piece_of(a, batch, group, b, count);
            group_backward(&p, take(a->mean + at, count), take(a->inverse + at, count));
        }
}

/* Gradients of scale and shift, from a gradient that is not yet changed. Units: parameters. */
KERNEL(group_norm_parameters, group_norm_arguments) {
    const int64_t period = a->parameters * a->span, end = a->groups * a->length;
    for (int64_t parameter = from; parameter < to; parameter++) {
        double shift = 0, scale = 0;
        for (int64_t start = parameter * a->span; start < end; start += period) {
            const int64_t at = start / a->length * batch;
            for (int64_t b = 0; b < batch; b += LANES) {
                const int64_t count = batch - b;
                const float *x = a->input + start * batch + b, *g = a->output + start * batch + b;
                const lanes mean = take(a->mean + at + b, count);
                lanes sum = {0}, product = {0};
                for (int64_t i = 0; i < a->span; i++) {
                    const lanes gradient = take(g + i * batch, count);
                    sum += gradient;
                    product += gradient * (take(x + i * batch, count) - mean);
                }
                shift += lane_sum(part(sum, count));
                scale += lane_sum(part(product * take(a->inverse + at + b, count), count));
            }
        }
        float *shift_gradient = a->shift_gradient + parameter;
        float *scale_gradient = a->scale_gradient + parameter;
        *shift_gradient = (float)shift + (a->accumulate ? *shift_gradient : 0.0f);
        *scale_gradient = (float)scale + (a->accumulate ? *scale_gradient : 0.0f);
    }
}
