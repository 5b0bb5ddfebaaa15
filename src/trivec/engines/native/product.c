/* A product of a layer: activations (rows, inputs) times weights (outputs, inputs) transposed, plus bias, through GELU
 * or not.
 *
 * Weights lie in memory as they are read: panels of 16 outputs, one behind the other. Rows are taken in blocks that
 * stay in the second-level cache while all panels go by, panels in groups that stay there while the rows of a block go
 * by: with few tokens every weight is read from memory once, with many once a block. A piece of the step is a block by
 * a group.
 */
#include "tile.h"
#include "vectors.h"

#include <stdatomic.h>

/* Bytes of a block of activations, and about as many of a group of panels, in the second-level cache (256 KB or more).
 */
#define BLOCK_BYTES (192 * 1024)
#define GROUP_BYTES (64 * 1024)

typedef struct {
    pool_t *pool;
    const product_t *product;
    const operand_t *operand;
    size_t rows;
    int gelu;
    float *out;
    size_t block, group, groups, panels;
    atomic_int failed;
} product_step_t;

/* Finish a tile and store it: float32 sums. */
ALWAYS_INLINE void finish(int rows, __m256 sums[TILE_ROWS][2], const float *bias, int gelu, float *out, size_t stride)
{
    FOR_ROWS (r, rows)
        for (int half = 0; half < 2; half++) {
            __m256 value = _mm256_add_ps(sums[r][half], _mm256_loadu_ps(bias + 8 * half));
            _mm256_storeu_ps(out + (size_t)r * stride + 8 * half, gelu ? gelu_vector(value) : value);
        }
}

ALWAYS_INLINE void float_tile(int rows, const product_step_t *step, const float *panel, size_t row, size_t output)
{
    __m256 sums[TILE_ROWS][2];
    const operand_t *operand = step->operand;
    const size_t stride = padded((size_t)step->product->outputs);
    tile_f32(rows, operand->f32 + row * operand->stride, operand->stride, panel, (size_t)step->product->inputs, sums);
    finish(rows, sums, step->product->bias + output, step->gelu, step->out + row * stride + output, stride);
}

ALWAYS_INLINE void int8_tile(int rows, const product_step_t *step, const int8_t *panel, const int8_t *ahead,
                             size_t ahead_step, size_t row, size_t output)
{
    __m256i steps[TILE_ROWS][2];
    __m256 sums[TILE_ROWS][2];
    const operand_t *operand = step->operand;
    const size_t stride = padded((size_t)step->product->outputs);
    tile_i8(rows, operand->i16 + row * operand->stride, operand->stride, panel, ((size_t)step->product->inputs + 1) / 2,
            ahead, ahead_step, steps);
    const float *scale = step->product->scale + output;
    FOR_ROWS (r, rows)
        for (int half = 0; half < 2; half++) {
            __m256 by =
                _mm256_mul_ps(_mm256_set1_ps(operand->scale[row + (size_t)r]), _mm256_loadu_ps(scale + 8 * half));
            sums[r][half] = _mm256_mul_ps(_mm256_cvtepi32_ps(steps[r][half]), by);
        }
    finish(rows, sums, step->product->bias + output, step->gelu, step->out + row * stride + output, stride);
}

/* Widen a panel of bfloat16, the upper halves of float32s. */
static const float *widened(const uint16_t *panel, size_t count, float *scratch)
{
    for (size_t i = 0; i < count; i += 8) {
        __m256i bits = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(panel + i)));
        _mm256_store_ps(scratch + i, _mm256_castsi256_ps(_mm256_slli_epi32(bits, 16)));
    }
    return scratch;
}

static void product_piece(void *context, size_t piece, int thread)
{
    product_step_t *step = context;
    const product_t *product = step->product;
    const size_t inputs = (size_t)product->inputs, paired = (inputs + 1) / 2 * 2;
    const size_t first_row = piece / step->groups * step->block, first_panel = piece % step->groups * step->group;
    const size_t end_row = first_row + step->block < step->rows ? first_row + step->block : step->rows;
    const size_t end_panel = first_panel + step->group < step->panels ? first_panel + step->group : step->panels;
    float *scratch = NULL;
    if (product->type == WEIGHT_BF16 &&
        !(scratch = thread_scratch(step->pool, thread, inputs * PANEL * sizeof(float)))) {
        step->failed = 1;
        return;
    }
    for (size_t panel = first_panel; panel < end_panel; panel++) {
        const size_t output = panel * PANEL;
        if (product->type == WEIGHT_I8) {
            const int8_t *weights = (const int8_t *)product->weight + panel * paired * PANEL;
            /* Every tile of rows fetches its share of the next panel: with few rows, waiting for memory takes as long
             * as computing, and is over when both go on at once. */
            const size_t bytes = paired * PANEL, tiles = (end_row - first_row + TILE_ROWS - 1) / TILE_ROWS;
            const size_t ahead_step = (2 * PANEL + tiles - 1) / tiles;
            const int8_t *ahead = weights + bytes;
            for (size_t row = first_row; row < end_row; row += TILE_ROWS, ahead += paired / 2 * ahead_step)
                WITH_CONSTANT_ROWS(end_row - row, int8_tile, step, weights, ahead, ahead_step, row, output)
        } else {
            const size_t before = panel * inputs * PANEL;
            const float *weights = product->type == WEIGHT_F32
                                       ? (const float *)product->weight + before
                                       : widened((const uint16_t *)product->weight + before, inputs * PANEL, scratch);
            for (size_t row = first_row; row < end_row; row += TILE_ROWS)
                WITH_CONSTANT_ROWS(end_row - row, float_tile, step, weights, row, output)
        }
    }
}

int run_product(pool_t *pool, const product_t *product, const operand_t *operand, size_t rows, int gelu, float *out)
{
    const size_t inputs = (size_t)product->inputs;
    const size_t activation_bytes = product->type == WEIGHT_I8 ? 2 : 4;
    const size_t weight_bytes = product->type == WEIGHT_I8 ? 1 : product->type == WEIGHT_BF16 ? 2 : 4;
    product_step_t step = {
        .pool = pool, .product = product, .operand = operand, .rows = rows, .gelu = gelu, .out = out};
    step.panels = padded((size_t)product->outputs) / PANEL;
    step.block = BLOCK_BYTES / (inputs * activation_bytes) / TILE_ROWS * TILE_ROWS;
    step.block = step.block < 4 * TILE_ROWS ? 4 * TILE_ROWS : step.block;
    step.group = GROUP_BYTES / (inputs * PANEL * weight_bytes);
    step.group = step.group < 1 ? 1 : step.group;
    if (rows <= step.block) { /* then no panel is used twice: some large groups, read in one go */
        const size_t even = step.panels / (8 * (size_t)pool_threads(pool));
        step.group = even < 1 ? 1 : even;
    }
    step.groups = (step.panels + step.group - 1) / step.group;
    const size_t blocks = (rows + step.block - 1) / step.block;
    run_pieces(pool, blocks * step.groups, product_piece, &step);
    return step.failed ? -1 : 0;
}
