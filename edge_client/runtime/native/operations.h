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

/* Positions of a product: `lines` runs of `run` contiguous ones. The output's positions of a run are
 * `output_step` apart; elsewhere it is 1. */
typedef struct {
    int64_t lines, run, input_line, output_line, output_step, output_start;
} walk;

/* output[r, p] = bias[r] + sum over k of row r: values[order[k]] * input[offset[k] + p]
 * where p goes along the walk. `order` may be NULL (identity), and so may `bias`. Units: rows. */
typedef struct {
    walk walk;
    int64_t output_channel;
    const int32_t *row_start, *offset, *order;
    const float *values, *bias, *input;
    float *output;
} product_arguments;

/* result[k] = sum over p: gradient[row of k, p] * input[offset[k] + p], for kept weights only;
 * bias_result[r] = sum over p: gradient[r, p], unless it is NULL. The walk's output is the
 * gradient. With `accumulate`, here and in all kernels that yield gradients of parameters, they are
 * added to what is there. Units: rows. */
typedef struct {
    walk walk;
    int64_t gradient_channel, accumulate;
    const int32_t *row_start, *offset;
    const float *input, *gradient;
    float *result, *bias_result;
} weight_gradient_arguments;

/* The same two where every weight is there: the rows of a group share their offsets, entry e of row
 * r in group g is values[g * group_values + r * row_values + order[e]], its input lies
 * g * group_input positions further on; entries row_start[0] to row_start[1]. Units: rows. */
typedef struct {
    walk walk;
    int64_t output_channel, group_rows, group_values, group_input, row_values;
    const int32_t *row_start, *offset, *order;
    const float *values, *bias, *input;
    float *output;
} dense_product_arguments;

typedef struct {
    walk walk;
    int64_t gradient_channel, accumulate, bias_accumulate, group_rows, group_input;
    const int32_t *row_start, *offset;
    const float *input, *gradient;
    float *result, *bias_result;
} dense_weight_gradient_arguments;

/* Between kept values and a dense tensor of `size`: scatter writes dense (zero elsewhere), one unit;
 * gather reads it. Units of gather: kept values. */
typedef struct {
    int64_t count, size, accumulate;
    const int32_t *position;
    const float *input;
    float *output;
} position_arguments;

/* The index of one weight tensor (rows, channels, kernel_height, kernel_width) under its mask;
 * `channels` are those of a group of `group_rows` rows. The forward index walks the input, padded
 * and divided into phase planes; the backward index, one block of rows (the input's channels) for
 * each phase of the input, walks the padded gradient. `order_skip` is added to the order once a row,
 * for an index of one channel of a wider tensor. */
typedef struct {
    int64_t rows, channels, kernel_height, kernel_width, group_rows, order_skip;
    int64_t stride_height, stride_width, dilation_height, dilation_width, top, left;
    int64_t planes_down, planes_across, plane_height, plane_width;        /* of the input */
    int64_t gradient_height, gradient_width, gradient_top, gradient_left; /* with padding */
    const uint8_t *mask; /* NULL: everything is kept */
    int32_t *row_start, *offset;
    int32_t *back_start, *back_offset, *back_order; /* NULL where no input gradient is wanted */
} index_arguments;

/* Copy a feature map into the middle of a larger one that is zero around it, divided into planes:
 * position (h, w) of plane (p, q) is (h * stride_height + p, w * stride_width + q) of the larger
 * one. With `mean` and the others, what is copied is batch-normalised and clamped on the way. Units:
 * channels. */
typedef struct {
    int64_t channels, height, width, top, left, stride_height, stride_width;
    int64_t planes_down, planes_across, plane_height, plane_width;
    double low, high;
    const float *input;
    float *output;
    const float *mean, *inverse, *scale, *shift;
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

/* Elementwise work; `other` is the second input of a sum or product. Units: positions (of `load`,
 * `count` floats of each sample; of `clear`, floats). */
typedef struct {
    int64_t count;
    const float *input, *other;
    float *output;
} map_arguments;

/* Leaky ReLU, forward and backward. Units: positions. */
typedef struct {
    double slope;
    const float *input;
    float *output;
} leaky_relu_arguments;

/* Dropout at `rate`; `sample` counts the step's samples before this micro-batch. Units: positions. */
typedef struct {
    int64_t node;
    double rate;
    const uint64_t *seed;
    const int64_t *sample;
    const float *input;
    float *output;
} dropout_arguments;

/* A feature map and one value for each of its channels. Units: channels. */
typedef struct {
    int64_t positions;
    const float *input, *other;
    float *output;
} gate_arguments;

/* A copy; starts are in positions. Units: positions. */
typedef struct {
    int64_t input_start, output_start;
    const float *input;
    float *output;
} slice_arguments;

/* Each position of a feature map (height, width) and the block of rows x columns that it becomes.
 * Units: channels. */
typedef struct {
    int64_t height, width, rows, columns;
    const float *input;
    float *output;
} upsample_arguments;

/* Normalisation of each sample over groups of `length` positions; `span` positions share a scale
 * and a shift (see group_norm.h). Backward, `output` is the gradient, changed in place. Units:
 * groups; of the gradients of scale and shift, `parameters`. */
typedef struct {
    int64_t groups, length, span, parameters, accumulate;
    double eps;
    const float *input;
    float *output;
    const float *scale, *shift;
    float *mean, *inverse; /* [group][batch], kept from forward to backward */
    float *scale_gradient, *shift_gradient;
} group_norm_arguments;

/* Batch normalisation, clamped to [low, high] where they are finite; backward, `output` is the
 * gradient, changed in place. Units: channels. */
typedef struct {
    int64_t channels, positions, accumulate;
    double eps, momentum, low, high;
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
    const int32_t *targets;
    const double *total;
    float *gradient;
    double *loss;
} cross_entropy_arguments;

/* A mean over outputs and samples, of outputs [output][batch] and targets [batch][output]; else as
 * the cross-entropy. */
typedef struct {
    int64_t outputs;
    const float *logits, *targets;
    const double *total;
    float *gradient;
    double *loss;
} elementwise_loss_arguments;

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
