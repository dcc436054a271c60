/* Sparse linear and convolution layers: forward and input gradient are one kernel on two indices,
 * the weight gradient is computed at the kept positions only. */

/* One tile, `width` vectors of every output row; `ways` entries of a row are summed apart, so that
 * a narrow tile does not wait for its own additions. */
INLINE void product_tile(const product_arguments *a, int64_t batch, int64_t from, int64_t to,
                         const float *input, float *output, const int width, const int ways,
                         const int ordered) {
    const int64_t channel = a->output_channel * batch;
    const int32_t *const offset = a->offset, *const order = a->order;
    const float *const values = a->values;
    for (int64_t row = from; row < to; row++) {
        lanes sums[4][8];
        float bias = a->bias ? a->bias[row] : 0.0f;
        for (int j = 0; j < ways; j++)
            for (int i = 0; i < width; i++) sums[j][i] = (lanes){0} + (j ? 0.0f : bias);
        int64_t k = a->row_start[row], end = a->row_start[row + 1];
        for (; k + ways <= end; k += ways)
            for (int j = 0; j < ways; j++) {
                const float *x = input + offset[k + j] * batch;
                float value = values[ordered ? order[k + j] : k + j];
                for (int i = 0; i < width; i++) sums[j][i] += value * LOAD(x + i * LANES);
            }
        for (; k < end; k++) {
            const float *x = input + offset[k] * batch;
            float value = values[ordered ? order[k] : k];
            for (int i = 0; i < width; i++) sums[0][i] += value * LOAD(x + i * LANES);
        }
        for (int i = 0; i < width; i++) {
            lanes sum = sums[0][i];
            for (int j = 1; j < ways; j++) sum += sums[j][i];
            STORE(output + row * channel + i * LANES, sum);
        }
    }
}

/* The same for `count` < LANES floats. */
INLINE void product_rest(const product_arguments *a, int64_t batch, int64_t from, int64_t to,
                         const float *input, float *output, int64_t count) {
    for (int64_t row = from; row < to; row++) {
        float sums[LANES];
        for (int64_t i = 0; i < count; i++) sums[i] = a->bias ? a->bias[row] : 0.0f;
        for (int64_t k = a->row_start[row]; k < a->row_start[row + 1]; k++) {
            const float *x = input + a->offset[k] * batch;
            float value = a->values[a->order ? a->order[k] : k];
            for (int64_t i = 0; i < count; i++) sums[i] += value * x[i];
        }
        memcpy(output + row * a->output_channel * batch, sums, sizeof(float) * (size_t)count);
    }
}

INLINE void product_run(const product_arguments *a, int64_t batch, int64_t from, int64_t to,
                        const float *input, float *output, const int ordered) {
    const int64_t length = a->run * batch;
    int64_t t = 0;
    for (; t + 8 * LANES <= length; t += 8 * LANES)
        product_tile(a, batch, from, to, input + t, output + t, 8, 1, ordered);
    for (; t + 4 * LANES <= length; t += 4 * LANES)
        product_tile(a, batch, from, to, input + t, output + t, 4, 2, ordered);
    for (; t + 2 * LANES <= length; t += 2 * LANES)
        product_tile(a, batch, from, to, input + t, output + t, 2, 4, ordered);
    for (; t + LANES <= length; t += LANES)
        product_tile(a, batch, from, to, input + t, output + t, 1, 4, ordered);
    if (t == length) return;
    if (length > LANES) { /* the last vector once more, ending where the run ends */
        t = length - LANES;
        product_tile(a, batch, from, to, input + t, output + t, 1, 4, ordered);
    } else {
        product_rest(a, batch, from, to, input, output, length);
    }
}

KERNEL(product, product_arguments) {
    for (int64_t h = 0; h < a->grid_rows; h++)
        for (int64_t w = 0; w < a->grid_columns; w++) {
            const float *input = a->input + (h * a->input_row + w * a->input_column) * batch;
            int64_t start = a->output_start + h * a->output_row + w * a->output_column;
            float *output = a->output + start * batch;
            if (a->order)
                product_run(a, batch, from, to, input, output, 1);
            else
                product_run(a, batch, from, to, input, output, 0);
        }
}

/* A piece of the walk that stays in the first-level cache. */
typedef struct {
    const float *input, *gradient;
    int64_t columns, input_step, gradient_step, length;
} piece;

INLINE void add_products(const piece *p, const int32_t *offset, int64_t batch, int64_t row_base,
                         float *result, const int ways) {
    lanes sums[8];
    float rest[8] = {0};
    const float *x[8];
    for (int j = 0; j < 8; j++) sums[j] = (lanes){0};
    for (int j = 0; j < ways; j++) x[j] = p->input + offset[j] * batch;
    const float *g = p->gradient + row_base;
    for (int64_t w = 0; w < p->columns; w++) {
        int64_t t = w * p->input_step, u = w * p->gradient_step, end = t + p->length;
        for (; t + LANES <= end; t += LANES, u += LANES) {
            lanes gradient = LOAD(g + u);
            for (int j = 0; j < ways; j++) sums[j] += gradient * LOAD(x[j] + t);
        }
        for (; t < end; t++, u++)
            for (int j = 0; j < ways; j++) rest[j] += g[u] * x[j][t];
    }
    if (ways == 8) {
        for (int j = 0; j < 8; j++) result[j] += rest[j];
        add_sums(sums, result);
    } else {
        for (int j = 0; j < ways; j++) result[j] += rest[j] + lane_sum(sums[j]);
    }
}

INLINE float gradient_sum(const piece *p, int64_t row_base) {
    lanes sums = {0};
    float rest = 0;
    for (int64_t w = 0; w < p->columns; w++) {
        const float *g = p->gradient + row_base + w * p->gradient_step, *end = g + p->length;
        for (; g + LANES <= end; g += LANES) sums += LOAD(g);
        for (; g < end; g++) rest += *g;
    }
    return rest + lane_sum(sums);
}

INLINE void weight_gradient_piece(const weight_gradient_arguments *a, const piece *p,
                                  int64_t batch, int64_t from, int64_t to) {
    for (int64_t row = from; row < to; row++) {
        int64_t k = a->row_start[row], end = a->row_start[row + 1];
        int64_t base = row * a->gradient_channel * batch;
        for (; k + 8 <= end; k += 8)
            add_products(p, a->offset + k, batch, base, a->result + k, 8);
        for (; k < end; k++) add_products(p, a->offset + k, batch, base, a->result + k, 1);
        if (a->bias_result) a->bias_result[row] += gradient_sum(p, base);
    }
}

KERNEL(weight_gradient, weight_gradient_arguments) {
    enum { PIECE = 1024 };
    const int64_t length = a->run * batch;
    const int64_t columns = length < PIECE ? (PIECE + length - 1) / length : 1;
    if (!a->accumulate) {
        int64_t first = a->row_start[from], last = a->row_start[to];
        memset(a->result + first, 0, sizeof(float) * (size_t)(last - first));
        if (a->bias_result) memset(a->bias_result + from, 0, sizeof(float) * (size_t)(to - from));
    }
    for (int64_t h = 0; h < a->grid_rows; h++)
        for (int64_t w = 0; w < a->grid_columns; w += columns)
            for (int64_t t = 0; t < length; t += PIECE) {
                int64_t x = (h * a->input_row + w * a->input_column) * batch + t;
                int64_t g = (h * a->gradient_row + w * a->gradient_column) * batch + t;
                piece p = {
                    .input = a->input + x,
                    .gradient = a->gradient + g,
                    .columns = a->grid_columns - w < columns ? a->grid_columns - w : columns,
                    .input_step = a->input_column * batch,
                    .gradient_step = a->gradient_column * batch,
                    .length = length - t < PIECE ? length - t : PIECE,
                };
                weight_gradient_piece(a, &p, batch, from, to);
            }
}
