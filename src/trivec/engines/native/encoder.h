/* The XLM-RoBERTa encoder for x86-64 processors with AVX2 and FMA: what its parts know of each other.
 *
 * A batch is one flat matrix of tokens, texts one behind the other, so nothing is ever padded to the longest text.
 * Every row of numbers that is made here is as long as a multiple of 16 (`padded`), so that vectors of 8 and panels of
 * 16 need no special case at its end; what lies beyond the real width is 0.
 *
 *   threads.c     runs the pieces of a step on several threads
 *   product.c     activations times weights: float32, bfloat16 and 8-bit weights
 *   attention.c   softmax(Q K^T) V for every head of every text
 *   rows.c        what is done to a token's row by itself: layer norm, rounding to 16 bits
 *   encoder.c     the order of all this, and its memory
 */
#ifndef TRIVEC_ENCODER_H
#define TRIVEC_ENCODER_H

#include <stddef.h>
#include <stdint.h>

/* Outputs of a product that are computed together: two vectors of 8. */
#define PANEL 16
/* Rows (tokens) that are computed together. 6 x 2 accumulators, 2 weights, 1 activation: 15 of 16 registers. */
#define TILE_ROWS 6

static inline size_t padded(size_t width)
{
    return (width + PANEL - 1) / PANEL * PANEL;
}

/* ---- Model: laid out as ctypes.Structure in library.py; change both. ---- */

enum weight_type { WEIGHT_F32 = 0, WEIGHT_BF16 = 1, WEIGHT_I8 = 2 };

/* x W^T + b. The weights lie in panels of 16 outputs: for each panel all inputs, for each input its 16 weights. 8-bit
 * weights go by pairs of inputs, as `vpmaddwd` wants them: for each pair 16 outputs x 2 inputs, an odd last input with
 * 0 beside it.
 *
 * For int8 a product may take its inputs from before the last layer norm's own weight and bias, or from behind GELU,
 * and multiply by a weight and add a bias of its own. */
typedef struct {
    int32_t type;
    int32_t outputs, inputs;
    const void *weight;
    const float *scale;                     /* of 8-bit weights, by output; else NULL */
    const float *bias;                      /* by output */
    const float *input_weight, *input_bias; /* by input; or NULL */
} product_t;

typedef struct {
    const float *weight, *bias;
} norm_t;

typedef struct {
    product_t qkv, attended, inner, outer;
    norm_t attended_norm, outer_norm;
} layer_t;

typedef struct {
    int32_t layers, hidden, heads, intermediate;
    float epsilon;
    norm_t embedding_norm;
    const layer_t *layer;
} model_t;

/* ---- threads.c ---- */

typedef struct pool pool_t;
typedef void (*piece_function)(void *context, size_t piece, int thread);

/* Run function(context, 0 .. pieces - 1, thread) on the pool's threads and the caller's; returns when all are done. */
void run_pieces(pool_t *pool, size_t pieces, piece_function function, void *context);
int pool_threads(const pool_t *pool);
/* At least `bytes` of memory of thread's own, kept from step to step; NULL if there is none. */
void *thread_scratch(pool_t *pool, int thread, size_t bytes);
/* The same for the batch as a whole. */
void *batch_scratch(pool_t *pool, size_t bytes);

/* ---- rows.c ---- */

/* The inputs of a product, a row a token, in the form that its type of weights takes. */
typedef struct {
    const float *f32; /* float32 and bfloat16 weights */
    int16_t *i16;     /* 8-bit weights: 16-bit steps, times `scale` of the token */
    float *scale;
    size_t stride; /* from row to row, in elements */
} operand_t;

/* x (+ residual) normed into `hidden`, and made the operand of the next product (unless that is NULL). What such an
 * operand is moved to stands in `operand_f32`, where float32 or bfloat16 weights have inputs of their own. 0, or -1 if
 * memory ran out. */
int norm_rows(pool_t *pool, const model_t *model, const norm_t *norm, const float *x, size_t x_stride,
              const float *residual, size_t rows, float *hidden, const product_t *next, operand_t *operand,
              float *operand_f32);
/* x made the operand of a product. */
int operand_rows(pool_t *pool, const float *x, size_t x_stride, size_t rows, const product_t *next, operand_t *operand,
                 float *operand_f32);

/* ---- product.c ---- */

/* out[row][output] = activation(operand W^T + bias), with GELU for the activation or none; rows of `out` are
 * padded(outputs) apart. Returns 0, or -1 if memory ran out. */
int run_product(pool_t *pool, const product_t *product, const operand_t *operand, size_t rows, int gelu, float *out);

/* ---- attention.c ---- */

/* context[token][hidden] from qkv[token][3 * hidden]; text t is the tokens starts[t] to starts[t + 1]. Padding of
 * `context` stays as it was. 0, or -1 if memory ran out. */
int run_attention(pool_t *pool, const model_t *model, const float *qkv, const int32_t *starts, size_t texts,
                  float *context);

#endif
