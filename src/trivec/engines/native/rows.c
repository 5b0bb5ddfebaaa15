/* What is done to a token's row by itself: layer norm, and the form in which a product takes its inputs.
 *
 * 8-bit weights are multiplied with 16-bit activations: `vpmaddwd` multiplies pairs of 16-bit numbers and adds them up
 * in 32 bits, so nothing ever saturates, as it would where 8-bit activations meet 8-bit weights in `vpmaddubsw`. A
 * token's largest activation becomes the largest number with which the sum over all inputs still fits 32 bits, 16,512
 * for 1,024 inputs: activations lose nothing that matters, and all of int8's error is in the weights.
 */
#include "encoder.h"
#include "vectors.h"

#include <stdatomic.h>

/* Rows that one thread takes at a time: few enough that some queries' rows go round all threads. */
static size_t rows_of_a_piece(const pool_t *pool, size_t rows)
{
    size_t even = (rows + 2 * (size_t)pool_threads(pool) - 1) / (2 * (size_t)pool_threads(pool));
    return even < 1 ? 1 : even > 16 ? 16 : even;
}

static float largest_step(size_t inputs)
{
    size_t most = INT32_MAX / 127 / inputs;
    return most < INT16_MAX ? (float)most : (float)INT16_MAX;
}

/* Make row number `row`, `x`, an operand of `next`: multiply and add if the product wants that, and round if its
 * weights are 8-bit, for which `moved` is a row of scratch; otherwise it is where the result goes. */
static void make_operand(const product_t *next, const float *x, float *moved, operand_t *operand, size_t row)
{
    const size_t width = padded((size_t)next->inputs);
    __m256 largest = _mm256_setzero_ps();
    /* 0 times anything that is not finite is NaN, which the largest of a row alone would not show. */
    __m256 not_finite = _mm256_setzero_ps();
    for (size_t i = 0; i < width; i += 8) {
        __m256 value = _mm256_loadu_ps(x + i);
        if (next->input_weight) {
            value =
                _mm256_fmadd_ps(value, _mm256_loadu_ps(next->input_weight + i), _mm256_loadu_ps(next->input_bias + i));
            _mm256_storeu_ps(moved + i, value);
        }
        largest = _mm256_max_ps(largest, _mm256_andnot_ps(_mm256_set1_ps(-0.0f), value));
        not_finite = _mm256_fmadd_ps(value, _mm256_setzero_ps(), not_finite);
    }
    if (next->type != WEIGHT_I8)
        return;
    const float *finished = next->input_weight ? moved : x;
    const float steps = largest_step((size_t)next->inputs);
    float most = max_vector(largest);
    most = most > 1e-10f ? most : 1e-10f;
    operand->scale[row] = most / steps + sum_vector(not_finite);
    const __m256 by = _mm256_set1_ps(steps / most);
    int16_t *out = operand->i16 + row * width;
    for (size_t i = 0; i < width; i += 16) {
        __m256i low = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(finished + i), by));
        __m256i high = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(finished + i + 8), by));
        /* Packing works within halves of 128 bits: put its quarters in order. */
        __m256i both = _mm256_permute4x64_epi64(_mm256_packs_epi32(low, high), 0xD8);
        _mm256_storeu_si256((__m256i *)(out + i), both);
    }
}

typedef struct {
    pool_t *pool;
    const model_t *model;
    const norm_t *norm;
    const float *x, *residual;
    size_t x_stride, rows, rows_of_a_piece;
    float *hidden;
    const product_t *next;
    operand_t *operand;
    float *operand_f32;
    atomic_int failed;
} row_step_t;

/* Where `make_operand` puts the moved row; NULL if memory ran out. */
static float *moved_row(row_step_t *step, size_t row, int thread)
{
    const size_t width = padded((size_t)step->next->inputs);
    if (step->next->type != WEIGHT_I8)
        return step->operand_f32 + row * width;
    float *scratch = thread_scratch(step->pool, thread, width * sizeof(float));
    if (!scratch)
        step->failed = 1;
    return scratch;
}

static void operand_row(row_step_t *step, const float *x, size_t row, int thread)
{
    float *moved = moved_row(step, row, thread);
    if (moved)
        make_operand(step->next, x, moved, step->operand, row);
}

static void norm_piece(void *context, size_t piece, int thread)
{
    row_step_t *step = context;
    const size_t width = (size_t)step->model->hidden, stride = padded(width);
    /* The mean and variance are of the real width: beyond it nothing is subtracted from 0. */
    const size_t whole = width / 8 * 8;
    const __m256i places = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const __m256 in_tail = _mm256_castsi256_ps(_mm256_cmpgt_epi32(_mm256_set1_epi32((int)(width - whole)), places));
    const size_t first = piece * step->rows_of_a_piece;
    const size_t end = first + step->rows_of_a_piece < step->rows ? first + step->rows_of_a_piece : step->rows;
    for (size_t row = first; row < end; row++) {
        const float *x = step->x + row * step->x_stride;
        float *hidden = step->hidden + row * stride;
        __m256 sum = _mm256_setzero_ps(), squares = _mm256_setzero_ps();
        for (size_t i = 0; i < stride; i += 8) {
            __m256 value;
            if (step->residual)
                value = _mm256_add_ps(_mm256_loadu_ps(x + i), _mm256_loadu_ps(step->residual + row * stride + i));
            else /* the embeddings' rows are not padded */
                value = i < whole   ? _mm256_loadu_ps(x + i)
                        : i < width ? _mm256_maskload_ps(x + i, _mm256_castps_si256(in_tail))
                                    : _mm256_setzero_ps();
            _mm256_storeu_ps(hidden + i, value);
            sum = _mm256_add_ps(sum, value);
        }
        const __m256 mean = _mm256_set1_ps(sum_vector(sum) / (float)width);
        for (size_t i = 0; i < stride; i += 8) {
            __m256 value = _mm256_sub_ps(_mm256_loadu_ps(hidden + i), mean);
            if (i >= whole)
                value = i < width ? _mm256_and_ps(value, in_tail) : _mm256_setzero_ps();
            _mm256_storeu_ps(hidden + i, value);
            squares = _mm256_fmadd_ps(value, value, squares);
        }
        const float variance = sum_vector(squares) / (float)width;
        const __m256 by =
            _mm256_div_ps(_mm256_set1_ps(1.0f), _mm256_sqrt_ps(_mm256_set1_ps(variance + step->model->epsilon)));
        for (size_t i = 0; i < stride; i += 8)
            _mm256_storeu_ps(hidden + i, _mm256_mul_ps(_mm256_loadu_ps(hidden + i), by));
        /* A product with inputs of its own wants the row before the norm's weight and bias. */
        if (step->next && step->next->input_weight)
            operand_row(step, hidden, row, thread);
        for (size_t i = 0; i < stride; i += 8) {
            __m256 value = _mm256_fmadd_ps(_mm256_loadu_ps(hidden + i), _mm256_loadu_ps(step->norm->weight + i),
                                           _mm256_loadu_ps(step->norm->bias + i));
            _mm256_storeu_ps(hidden + i, value);
        }
        if (step->next && !step->next->input_weight && step->next->type == WEIGHT_I8)
            operand_row(step, hidden, row, thread);
    }
}

/* Where the operand of a product is found. */
static void describe_operand(const product_t *next, const float *as_it_is, operand_t *operand, const float *moved)
{
    operand->stride = padded((size_t)next->inputs);
    operand->f32 = next->input_weight ? moved : as_it_is;
}

int norm_rows(pool_t *pool, const model_t *model, const norm_t *norm, const float *x, size_t x_stride,
              const float *residual, size_t rows, float *hidden, const product_t *next, operand_t *operand,
              float *operand_f32)
{
    row_step_t step = {pool,   model, norm,    x,           residual, x_stride, rows, rows_of_a_piece(pool, rows),
                       hidden, next,  operand, operand_f32, 0};
    run_pieces(pool, (rows + step.rows_of_a_piece - 1) / step.rows_of_a_piece, norm_piece, &step);
    if (next)
        describe_operand(next, hidden, operand, operand_f32);
    return step.failed ? -1 : 0;
}

static void operand_piece(void *context, size_t piece, int thread)
{
    row_step_t *step = context;
    const size_t first = piece * step->rows_of_a_piece;
    const size_t end = first + step->rows_of_a_piece < step->rows ? first + step->rows_of_a_piece : step->rows;
    for (size_t row = first; row < end; row++)
        operand_row(step, step->x + row * step->x_stride, row, thread);
}

int operand_rows(pool_t *pool, const float *x, size_t x_stride, size_t rows, const product_t *next, operand_t *operand,
                 float *operand_f32)
{
    row_step_t step = {.pool = pool,
                       .x = x,
                       .x_stride = x_stride,
                       .rows = rows,
                       .rows_of_a_piece = rows_of_a_piece(pool, rows),
                       .next = next,
                       .operand = operand,
                       .operand_f32 = operand_f32};
    if (next->input_weight || next->type == WEIGHT_I8)
        run_pieces(pool, (rows + step.rows_of_a_piece - 1) / step.rows_of_a_piece, operand_piece, &step);
    describe_operand(next, x, operand, operand_f32);
    return step.failed ? -1 : 0;
}
