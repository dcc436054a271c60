/* From a mask to the two indices of a layer; compiled once, it runs once per mask. */
#include <string.h>

#include "operations.h"

typedef void visitor(const index_arguments *a, int64_t row, int64_t channel, int64_t i, int64_t j,
                     int64_t k);

static int64_t modulo(int64_t a, int64_t b) { return ((a % b) + b) % b; }

/* Row of the backward index: the phase of the input that kernel position (i, j) reaches, and the
 * channel. */
static int64_t back_row(const index_arguments *a, int64_t row, int64_t channel, int64_t i,
                        int64_t j) {
    int64_t groups = a->rows / a->group_rows;
    int64_t phase = modulo(i * a->dilation_height - a->top, a->stride_height) * a->stride_width +
                    modulo(j * a->dilation_width - a->left, a->stride_width);
    return (phase * groups + row / a->group_rows) * a->channels + channel;
}

static void forward_entry(const index_arguments *a, int64_t row, int64_t channel, int64_t i,
                          int64_t j, int64_t k) {
    int64_t h = i * a->dilation_height, w = j * a->dilation_width;
    int64_t plane = (row / a->group_rows * a->channels + channel) * a->planes_down;
    plane = (plane + h % a->stride_height) * a->planes_across + w % a->stride_width;
    int64_t line = plane * a->plane_height + h / a->stride_height;
    a->offset[k] = (int32_t)(line * a->plane_width + w / a->stride_width);
    a->row_start[row + 1] = (int32_t)(k + 1);
}

static void back_count(const index_arguments *a, int64_t row, int64_t channel, int64_t i,
                       int64_t j, int64_t k) {
    (void)k;
    a->back_start[back_row(a, row, channel, i, j) + 1]++;
}

/* Uses back_start as the cursor of each row: afterwards it holds the ends of the rows. */
static void back_entry(const index_arguments *a, int64_t row, int64_t channel, int64_t i,
                       int64_t j, int64_t k) {
    int32_t slot = a->back_start[back_row(a, row, channel, i, j)]++;
    int64_t down = i * a->dilation_height - a->top, across = j * a->dilation_width - a->left;
    int64_t h = (modulo(down, a->stride_height) - down) / a->stride_height + a->gradient_top;
    int64_t w = (modulo(across, a->stride_width) - across) / a->stride_width + a->gradient_left;
    a->back_offset[slot] = (int32_t)((row * a->gradient_height + h) * a->gradient_width + w);
    a->back_order[slot] = (int32_t)(k + row * a->order_skip);
}

static void visit(const index_arguments *a, visitor *entry) {
    const uint8_t *mask = a->mask;
    int64_t k = 0;
    for (int64_t row = 0; row < a->rows; row++)
        for (int64_t channel = 0; channel < a->channels; channel++)
            for (int64_t i = 0; i < a->kernel_height; i++)
                for (int64_t j = 0; j < a->kernel_width; j++)
                    if (a->mask == NULL || *mask++) entry(a, row, channel, i, j, k++);
}

void fedsparse_index(const index_arguments *a) {
    memset(a->row_start, 0, sizeof(int32_t) * (size_t)(a->rows + 1));
    visit(a, forward_entry);
    for (int64_t row = 0; row < a->rows; row++) /* a row without entries ends where it starts */
        if (a->row_start[row + 1] < a->row_start[row]) a->row_start[row + 1] = a->row_start[row];
    if (a->back_start == NULL) return;
    int64_t channels = a->rows / a->group_rows * a->channels;
    int64_t rows = channels * a->stride_height * a->stride_width;
    memset(a->back_start, 0, sizeof(int32_t) * (size_t)(rows + 1));
    visit(a, back_count);
    for (int64_t row = 0; row < rows; row++) a->back_start[row + 1] += a->back_start[row];
    visit(a, back_entry);
    memmove(a->back_start + 1, a->back_start, sizeof(int32_t) * (size_t)rows);
    a->back_start[0] = 0;
}
