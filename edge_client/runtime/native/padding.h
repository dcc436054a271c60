/* Padding, by which a strided layer's input is divided into planes, too. */

/* `count` floats of a channel, as they are or normalised. */
INLINE void bring(const norm *n, const float *from, float *to, int64_t count,
                  const int normalised) {
    if (normalised)
        normalise(n, from, to, count);
    else
        memcpy(to, from, sizeof(float) * (size_t)count);
}

/* A row of a plane: every `stride_width`-th position of an input row from `column` on. */
INLINE void pad_row(const pad_arguments *a, int64_t batch, const norm *n, const float *row,
                    int64_t column, float *output, const int normalised) {
    const int64_t step = a->stride_width, size = a->plane_width;
    int64_t first = column >= 0 ? 0 : (-column + step - 1) / step;
    int64_t last = a->width > column ? (a->width - column + step - 1) / step : 0;
    if (first > size) first = size;
    if (last > size) last = size;
    if (last < first) last = first;
    memset(output, 0, sizeof(float) * (size_t)(first * batch));
    if (step == 1)
        bring(n, row + (column + first) * batch, output + first * batch, (last - first) * batch,
              normalised);
    else
        for (int64_t w = first; w < last; w++)
            bring(n, row + (column + w * step) * batch, output + w * batch, batch, normalised);
    memset(output + last * batch, 0, sizeof(float) * (size_t)((size - last) * batch));
}

INLINE void pad_channel(const pad_arguments *a, int64_t batch, int64_t channel, const norm *n,
                        const int normalised) {
    const int64_t line = a->plane_width * batch;
    const float *input = a->input + channel * a->height * a->width * batch;
    float *output =
        a->output + channel * a->planes_down * a->planes_across * a->plane_height * line;
    for (int64_t p = 0; p < a->planes_down; p++)
        for (int64_t q = 0; q < a->planes_across; q++)
            for (int64_t h = 0; h < a->plane_height; h++, output += line) {
                int64_t row = h * a->stride_height + p - a->top;
                if (row < 0 || row >= a->height)
                    memset(output, 0, sizeof(float) * (size_t)line);
                else
                    pad_row(a, batch, n, input + row * a->width * batch, q - a->left, output,
                            normalised);
            }
}

KERNEL(pad, pad_arguments) {
    for (int64_t c = from; c < to; c++) pad_channel(a, batch, c, NULL, 0);
}

KERNEL(normalise_pad, pad_arguments) {
    for (int64_t c = from; c < to; c++) {
        const norm n = {
            .mean = a->mean[c],
            .factor = a->inverse[c] * a->scale[c],
            .shift = a->shift[c],
            .low = (float)a->low,
            .high = (float)a->high,
        };
        pad_channel(a, batch, c, &n, 1);
    }
}
