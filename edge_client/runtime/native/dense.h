/* Linear and convolution layers in which every weight is there, or is worth writing down as zero:
 * the rows of a tile share what is loaded of the input. */

#if LANES == 16 || defined(__aarch64__)
enum { DENSE_ROWS = 4, DENSE_WIDTH = 6, DENSE_ENTRIES = 4 }; /* 32 vector registers */
#else
enum { DENSE_ROWS = 4, DENSE_WIDTH = 2, DENSE_ENTRIES = 2 }; /* 16 */
#endif

/* `height` rows from `row` on, `width` vectors of each; all rows of one group. */
INLINE void dense_tile(const dense_product_arguments *a, int64_t batch, int64_t row,
                       const float *input, float *output, const int64_t *at, const int height,
                       const int width) {
    const int64_t group = row / a->group_rows;
    const int32_t *const offset = a->offset, *const order = a->order;
    const float *values[DENSE_ROWS];
    const float *x0 = input + group * a->group_input * batch;
    lanes sums[DENSE_ROWS][DENSE_WIDTH];
    for (int r = 0; r < height; r++) {
        int64_t within = row + r - group * a->group_rows;
        float bias = a->bias ? a->bias[row + r] : 0.0f;
        values[r] = a->values + group * a->group_values + within * a->row_values;
        for (int i = 0; i < width; i++) sums[r][i] = (lanes){0} + bias;
    }
    for (int64_t k = a->row_start[0]; k < a->row_start[1]; k++) {
        const float *x = x0 + offset[k] * batch;
        const int64_t v = order ? order[k] : k;
        lanes loaded[DENSE_WIDTH];
        for (int i = 0; i < width; i++) loaded[i] = LOAD(x + i * LANES);
        for (int r = 0; r < height; r++) {
            float value = values[r][v];
            for (int i = 0; i < width; i++) sums[r][i] += value * loaded[i];
        }
    }
    for (int r = 0; r < height; r++)
        for (int i = 0; i < width; i++)
            STORE(output + (row + r) * a->output_channel * batch + at[i], sums[r][i]);
}

/* The rows [from, to) of one tile: four at a time as far as their group goes. */
INLINE void dense_rows(const dense_product_arguments *a, int64_t batch, int64_t from, int64_t to,
                       const float *input, float *output, const int64_t *at, const int width) {
    int64_t row = from;
    while (row < to) {
        int64_t end = (row / a->group_rows + 1) * a->group_rows;
        if (end > to) end = to;
        for (; row + DENSE_ROWS <= end; row += DENSE_ROWS)
            dense_tile(a, batch, row, input, output, at, DENSE_ROWS, width);
        for (; row < end; row++) dense_tile(a, batch, row, input, output, at, 1, width);
    }
}

/* The same for `count` < LANES floats, which lie together. */
INLINE void dense_rest(const dense_product_arguments *a, int64_t batch, int64_t from, int64_t to,
                       const float *input, float *output, int64_t count) {
    for (int64_t row = from; row < to; row++) {
        const int64_t group = row / a->group_rows, within = row % a->group_rows;
        const float *values = a->values + group * a->group_values + within * a->row_values;
        const float *x0 = input + group * a->group_input * batch;
        float sums[LANES];
        for (int64_t i = 0; i < count; i++) sums[i] = a->bias ? a->bias[row] : 0.0f;
        for (int64_t k = a->row_start[0]; k < a->row_start[1]; k++) {
            const float *x = x0 + a->offset[k] * batch;
            float value = values[a->order ? a->order[k] : k];
            for (int64_t i = 0; i < count; i++) sums[i] += value * x[i];
        }
        memcpy(output + row * a->output_channel * batch, sums, sizeof(float) * (size_t)count);
    }
}

INLINE void dense_run(const dense_product_arguments *a, int64_t batch, int64_t from, int64_t to,
                      const float *input, float *output, int64_t length, int64_t step) {
    int64_t t = 0, at[DENSE_WIDTH];
    for (; t + DENSE_WIDTH * LANES <= length; t += DENSE_WIDTH * LANES) {
        place(at, t, batch, step, DENSE_WIDTH);
        dense_rows(a, batch, from, to, input + t, output, at, DENSE_WIDTH);
    }
    if (DENSE_WIDTH > 2)
        for (; t + 2 * LANES <= length; t += 2 * LANES) {
            place(at, t, batch, step, 2);
            dense_rows(a, batch, from, to, input + t, output, at, 2);
        }
    for (; t + LANES <= length; t += LANES) {
        place(at, t, batch, step, 1);
        dense_rows(a, batch, from, to, input + t, output, at, 1);
    }
    if (t == length) return;
    if (length > LANES) { /* the last vector once more, ending where the run ends */
        place(at, t = length - LANES, batch, step, 1);
        dense_rows(a, batch, from, to, input + t, output, at, 1);
    } else {
        dense_rest(a, batch, from, to, input, output, length);
    }
}

KERNEL(dense_product, dense_product_arguments) {
    const walk w = a->walk;
    const int whole = w.output_step == 1 || batch % LANES == 0; /* as in product */
    for (int64_t line = 0; line < w.lines; line++) {
        const float *input = a->input + line * w.input_line * batch;
        float *output = a->output + (w.output_start + line * w.output_line) * batch;
        if (whole) {
            dense_run(a, batch, from, to, input, output, w.run * batch, w.output_step);
            continue;
        }
        for (int64_t p = 0; p < w.run; p++)
            dense_run(a, batch, from, to, input + p * batch, output + p * w.output_step * batch,
                      batch, 1);
    }
}

/* `height` rows by `width` entries of a weight gradient, over one piece. */
INLINE void dense_block(const dense_weight_gradient_arguments *a, const piece *p, int64_t batch,
                        int64_t row, int64_t k, const int height, const int width) {
    enum { BLOCK_SUMS = DENSE_ROWS * DENSE_ENTRIES };
    const int64_t entries = a->row_start[1];
    const float *g[DENSE_ROWS], *x[DENSE_ENTRIES];
    lanes sums[BLOCK_SUMS];
    float totals[BLOCK_SUMS] = {0};
    for (int s = 0; s < BLOCK_SUMS; s++) sums[s] = (lanes){0};
    for (int r = 0; r < height; r++)
        g[r] = p->gradient + (row + r) * a->gradient_channel * batch;
    for (int j = 0; j < width; j++)
        x[j] = p->input + (row / a->group_rows * a->group_input + a->offset[k + j]) * batch;
    for (int64_t w = 0; w < p->lines; w++) {
        int64_t t = w * p->input_line, u = w * p->gradient_line, end = t + p->length;
        for (; t + LANES <= end; t += LANES, u += LANES)
            for (int r = 0; r < height; r++) {
                lanes gradient = LOAD(g[r] + u);
                for (int j = 0; j < width; j++) sums[r * width + j] += gradient * LOAD(x[j] + t);
            }
        for (; t < end; t++, u++)
            for (int r = 0; r < height; r++)
                for (int j = 0; j < width; j++) totals[r * width + j] += g[r][u] * x[j][t];
    }
    for (int s = 0; s < height * width; s++)
        if (height * width < 8)
            totals[s] += lane_sum(sums[s]);
        else if (s % 8 == 0)
            add_sums(sums + s, totals + s);
    for (int r = 0; r < height; r++)
        for (int j = 0; j < width; j++)
            a->result[(row + r) * entries + k + j] += totals[r * width + j];
}

/* `height` rows of a weight gradient, over one piece. */
INLINE void dense_gradient_rows(const dense_weight_gradient_arguments *a, const piece *p,
                                int64_t batch, int64_t row, const int height) {
    const int64_t entries = a->row_start[1];
    int64_t k = 0;
    for (; k + DENSE_ENTRIES <= entries; k += DENSE_ENTRIES)
        dense_block(a, p, batch, row, k, height, DENSE_ENTRIES);
    for (; k < entries; k++) dense_block(a, p, batch, row, k, height, 1);
}

INLINE void dense_weight_gradient_piece(const dense_weight_gradient_arguments *a, const piece *p,
                                        int64_t batch, int64_t from, int64_t to) {
    int64_t row = from;
    while (row < to) {
        int64_t end = (row / a->group_rows + 1) * a->group_rows;
        if (end > to) end = to;
        for (; row + DENSE_ROWS <= end; row += DENSE_ROWS)
            dense_gradient_rows(a, p, batch, row, DENSE_ROWS);
        for (; row < end; row++) dense_gradient_rows(a, p, batch, row, 1);
    }
    if (a->bias_result)
        for (row = from; row < to; row++)
            a->bias_result[row] += gradient_sum(p, row * a->gradient_channel * batch);
}

KERNEL(dense_weight_gradient, dense_weight_gradient_arguments) {
    const int64_t lines = piece_lines(&a->walk, batch), length = a->walk.run * batch;
    const int64_t entries = a->row_start[1];
    if (!a->accumulate)
        memset(a->result + from * entries, 0, sizeof(float) * (size_t)((to - from) * entries));
    if (a->bias_result && !a->bias_accumulate)
        memset(a->bias_result + from, 0, sizeof(float) * (size_t)(to - from));
    for (int64_t line = 0; line < a->walk.lines; line += lines)
        for (int64_t t = 0; t < length; t += PIECE) {
            piece p = piece_at(a->input, a->gradient, &a->walk, batch, line, lines, t);
            dense_weight_gradient_piece(a, &p, batch, from, to);
        }
}

KERNEL(scatter, position_arguments) {
    (void)batch, (void)from, (void)to;
    memset(a->output, 0, sizeof(float) * (size_t)a->size);
    for (int64_t i = 0; i < a->count; i++) a->output[a->position[i]] = a->input[i];
}

KERNEL(gather, position_arguments) {
    (void)batch;
    for (int64_t i = from; i < to; i++)
        a->output[i] = a->input[a->position[i]] + (a->accumulate ? a->output[i] : 0.0f);
}
