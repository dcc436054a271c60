/* Values cut, joined and enlarged. */

/* `count` positions from one place to another; they may lie in one buffer, apart. */
KERNEL(copy_slice, slice_arguments) {
    memcpy(a->output + (a->output_start + from) * batch, a->input + (a->input_start + from) * batch,
           sizeof(float) * (size_t)((to - from) * batch));
}

/* Every position of the input `rows` times below and `columns` times beside itself. */
KERNEL(upsample, upsample_arguments) {
    const int64_t width = a->width * a->columns * batch;
    for (int64_t h = from * a->height; h < to * a->height; h++) {
        float *row = a->output + h * a->rows * width, *y = row;
        for (int64_t w = 0; w < a->width; w++)
            for (int64_t j = 0; j < a->columns; j++, y += batch)
                memcpy(y, a->input + (h * a->width + w) * batch, sizeof(float) * (size_t)batch);
        for (int64_t i = 1; i < a->rows; i++)
            memcpy(row + i * width, row, sizeof(float) * (size_t)width);
    }
}

/* `input` is the large gradient, `output` the small one: sums. */
KERNEL(upsample_backward, upsample_arguments) {
    const int64_t width = a->width * a->columns * batch;
    for (int64_t h = from * a->height; h < to * a->height; h++)
        for (int64_t w = 0; w < a->width; w++) {
            const float *corner = a->input + h * a->rows * width + w * a->columns * batch;
            for (int64_t b = 0; b < batch; b += LANES) {
                lanes sum = {0};
                for (int64_t i = 0; i < a->rows; i++)
                    for (int64_t j = 0; j < a->columns; j++)
                        sum += take(corner + i * width + j * batch + b, batch - b);
                give(a->output + (h * a->width + w) * batch + b, sum, batch - b);
            }
        }
}
