/* The arguments of every kernel, as the engine fills them in (see structures.py: same order).
 *
 * Activations are batch-innermost, [channel][row][column][batch]; sizes,
 * steps and offsets are counted in positions (one position = `batch` floats), so that one set of
 * arguments serves every batch size.
 *
 * A kernel is `void kernel(const arguments *, int64_t batch, int64_t from, int64_t to)`. It does its
 * units [from, to): rows, channels or positions, as is said below. Units do not depend on each
 * other, and the result of one does not depend on how they are divided.
 */
#ifndef FEDSPARSE_OPERATIONS_H
#define FEDSPARSE_OPERATIONS_H

#include <stdint.h>

typedef void kernel(const void *arguments, int64_t batch, int64_t from, int64_t to);

/* One kernel call of a program; threads take `chunk` of its units at a time. */
typedef struct {
    kernel *function;
    const void *arguments;
    int64_t units, chunk;
} call;

/* output[r, p] = bias[r] + sum over k of row r: values[order[k]] * input[offset[k] + p]
 * where p walks grid_rows x grid_columns runs of `run` contiguous positions each. `order` may be
 * NULL (identity), and so may `bias`. Units: rows. */
typedef struct {
    int64_t rows, grid_rows, grid_columns, run;
    int64_t input_row, input_column;                    /* steps of the walk over the input */
    int64_t output_row, output_column, output_channel, output_start; /* and over the output */
    const int32_t *row_start, *offset, *order;
    const float *values, *bias, *input;
    float *output;
} product_arguments;

/* result[k] = sum over p: gradient[row of k, p] * input[offset[k] + p], for kept weights only;
 * bias_result[r] = sum over p: gradient[r, p], unless it is NULL. With `accumulate`, here and in
 * all kernels that yield gradients of parameters, they are added to what is there. Units: rows. */
typedef struct {
    int64_t rows, grid_rows, grid_columns, run;
    int64_t input_row, input_column;
    int64_t gradient_row, gradient_column, gradient_channel, accumulate;
    const int32_t *row_start, *offset;
    const float *input, *gradient;
    float *result, *bias_result;
} weight_gradient_arguments;

/* The index of one weight tensor (rows, channels, kernel_height, kernel_width) under its mask.
 * The forward index walks the padded input; the backward index, one block of `channels` rows for
 * each of the stride_height * stride_width phases of the input, walks the padded gradient. */
typedef struct {
    int64_t rows, channels, kernel_height, kernel_width;
    int64_t input_height, input_width; /* with padding */
    int64_t stride_height, stride_width, top, left;
    int64_t gradient_height, gradient_width, gradient_top, gradient_left; /* with padding */
    const uint8_t *mask; /* NULL: everything is kept */
    int32_t *row_start, *offset;
    int32_t *back_start, *back_offset, *back_order; /* NULL where no input gradient is wanted */
} index_arguments;

/* Copy a feature map into the middle of a larger one that is zero around it. Units: channels. */
typedef struct {
    int64_t channels, height, width, top, left, padded_height, padded_width;
    const float *input;
    float *output;
} pad_arguments;

/* Pooling; backward, `input` is the gradient of the output and `output` that of the input.
 * `index` holds, for each output, the position of its maximum relative to the window's corner.
 * Units: channels. */
typedef struct {
    int64_t channels, height, width, kernel_height, kernel_width, stride_height, stride_width;
    int64_t top, left, output_height, output_width;
    const float *input;
    float *output;
    uint16_t *index;
} pool_arguments;

/* Reductions over, and broadcasts to, the positions of each channel. Units: channels. */
typedef struct {
    int64_t channels, positions;
    const float *input;
    float *output;
} channel_arguments;

/* Elementwise work; `other` is the second input of an addition. Units: positions (of `load`,
 * `count` floats of each sample; of `clear`, floats). */
typedef struct {
    int64_t count;
    const float *input, *other;
    float *output;
} map_arguments;

/* Batch normalisation; backward, `output` is the gradient, changed in place. Units: channels. */
typedef struct {
    int64_t channels, positions, accumulate;
    double eps, momentum;
    const float *input;
    float *output;
    const float *scale, *shift;
    float *running_mean, *running_var;
    float *mean, *inverse; /* of this batch, kept from forward to backward */
    float *scale_gradient, *shift_gradient;
} batch_norm_arguments;

/* Softmax cross-entropy of logits [classes][batch], and its gradient, both divided by `total`, the
 * samples of all micro-batches; the loss is added to what is there. One unit. */
typedef struct {
    int64_t classes;
    const float *logits;
    const int32_t *labels;
    const double *total;
    float *gradient;
    double *loss;
} cross_entropy_arguments;

/* One step of SGD as torch.optim.SGD without dampening; `velocity` is NULL without momentum.
 * Units: values. */
typedef struct {
    int64_t count;
    double momentum, weight_decay;
    const double *learning_rate;
    float *value;
    const float *gradient;
    float *velocity;
} sgd_arguments;

/* The limits of the machine (limits.h). One unit. */
typedef struct {
    int64_t count, rounds;
    const float *input;
    float *output;
} limit_arguments;

#endif
