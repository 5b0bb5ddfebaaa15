/* softmax(Q K^T / sqrt(d)) V, a piece for every head of every text.
 *
 * A head's keys and values are copied once into panels of 16, so that both products are `tile_f32`. Queries are taken
 * 24 at a time: their scores with all keys of the text are all that is held of the square of its length, 0.8 MB a
 * thread at 8,192 tokens.
 */
#include "tile.h"
#include "vectors.h"

#include <math.h>
#include <stdatomic.h>

#define QUERIES (4 * TILE_ROWS)

typedef struct {
    pool_t *pool;
    const model_t *model;
    const float *qkv;
    const int32_t *starts;
    float *context;
    atomic_int failed;
} attention_step_t;

/* The head of a text: where things are, and how far apart from token to token. */
typedef struct {
    const float *query, *key, *value;
    size_t stride, tokens, size;
    float *keys;   /* panels of 16 tokens: for each channel 16 tokens */
    float *values; /* panels of 16 channels: for each token 16 channels */
    float *scores; /* [QUERIES][padded(tokens)] */
    float *context;
    size_t context_stride;
} head_t;

static void transpose_8x8(__m256 rows[8])
{
    __m256 pairs[8], fours[8];
    for (int i = 0; i < 8; i += 2) {
        pairs[i] = _mm256_unpacklo_ps(rows[i], rows[i + 1]);
        pairs[i + 1] = _mm256_unpackhi_ps(rows[i], rows[i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {
        fours[i] = _mm256_shuffle_ps(pairs[i], pairs[i + 2], 0x44);
        fours[i + 1] = _mm256_shuffle_ps(pairs[i], pairs[i + 2], 0xEE);
        fours[i + 2] = _mm256_shuffle_ps(pairs[i + 1], pairs[i + 3], 0x44);
        fours[i + 3] = _mm256_shuffle_ps(pairs[i + 1], pairs[i + 3], 0xEE);
    }
    for (int i = 0; i < 4; i++) {
        rows[i] = _mm256_permute2f128_ps(fours[i], fours[i + 4], 0x20);
        rows[i + 4] = _mm256_permute2f128_ps(fours[i], fours[i + 4], 0x31);
    }
}

static void pack_keys(const head_t *head)
{
    const size_t whole = head->size / 8 * 8;
    for (size_t token = 0; token < padded(head->tokens); token += 8) {
        float *panel = head->keys + token / PANEL * PANEL * head->size + token % PANEL;
        for (size_t channel = 0; channel < whole; channel += 8) {
            __m256 rows[8];
            for (size_t i = 0; i < 8; i++)
                rows[i] = token + i < head->tokens ? _mm256_loadu_ps(head->key + (token + i) * head->stride + channel)
                                                   : _mm256_setzero_ps();
            transpose_8x8(rows);
            for (size_t i = 0; i < 8; i++)
                _mm256_storeu_ps(panel + (channel + i) * PANEL, rows[i]);
        }
        for (size_t channel = whole; channel < head->size; channel++)
            for (size_t i = 0; i < 8; i++)
                panel[channel * PANEL + i] =
                    token + i < head->tokens ? head->key[(token + i) * head->stride + channel] : 0;
    }
}

static void pack_values(const head_t *head)
{
    for (size_t channel = 0; channel < head->size; channel += PANEL) {
        const size_t width = head->size - channel < PANEL ? head->size - channel : PANEL;
        float *panel = head->values + channel * head->tokens;
        for (size_t token = 0; token < head->tokens; token++, panel += PANEL) {
            const float *value = head->value + token * head->stride + channel;
            if (width == PANEL) {
                _mm256_storeu_ps(panel, _mm256_loadu_ps(value));
                _mm256_storeu_ps(panel + 8, _mm256_loadu_ps(value + 8));
            } else {
                memset(panel, 0, PANEL * sizeof *panel);
                memcpy(panel, value, width * sizeof *panel);
            }
        }
    }
}

ALWAYS_INLINE void score_tile(int rows, const head_t *head, size_t query, size_t key, float *scores)
{
    __m256 sums[TILE_ROWS][2];
    const size_t stride = padded(head->tokens);
    tile_f32(rows, head->query + query * head->stride, head->stride, head->keys + key * head->size, head->size, sums);
    FOR_ROWS (r, rows) {
        _mm256_storeu_ps(scores + (size_t)r * stride + key, sums[r][0]);
        _mm256_storeu_ps(scores + (size_t)r * stride + key + 8, sums[r][1]);
    }
}

/* Make a row of scores shares of their exponentials, but for the division by their sum, which is returned. */
static float exponentials(float *scores, size_t tokens, float scale)
{
    const size_t stride = padded(tokens);
    for (size_t key = tokens; key < stride; key++)
        scores[key] = -INFINITY;
    __m256 largest = _mm256_loadu_ps(scores);
    for (size_t key = 8; key < stride; key += 8)
        largest = _mm256_max_ps(largest, _mm256_loadu_ps(scores + key));
    const __m256 by = _mm256_set1_ps(scale), minus = _mm256_set1_ps(max_vector(largest) * scale);
    __m256 sum = _mm256_setzero_ps();
    for (size_t key = 0; key < stride; key += 8) {
        __m256 share = exp_vector(_mm256_fmsub_ps(_mm256_loadu_ps(scores + key), by, minus));
        _mm256_storeu_ps(scores + key, share);
        sum = _mm256_add_ps(sum, share);
    }
    return sum_vector(sum);
}

ALWAYS_INLINE void context_tile(int rows, const head_t *head, size_t query, size_t channel, const float *shares,
                                const float *sums_of_shares)
{
    __m256 sums[TILE_ROWS][2];
    const size_t width = head->size - channel < PANEL ? head->size - channel : PANEL;
    tile_f32(rows, shares, padded(head->tokens), head->values + channel * head->tokens, head->tokens, sums);
    FOR_ROWS (r, rows) {
        float *out = head->context + (query + (size_t)r) * head->context_stride + channel;
        const __m256 by = _mm256_set1_ps(1.0f / sums_of_shares[r]);
        __m256 low = _mm256_mul_ps(sums[r][0], by), high = _mm256_mul_ps(sums[r][1], by);
        if (width == PANEL) {
            _mm256_storeu_ps(out, low);
            _mm256_storeu_ps(out + 8, high);
        } else { /* beside it lie the channels of the next head, which another thread writes */
            float whole[PANEL];
            _mm256_storeu_ps(whole, low);
            _mm256_storeu_ps(whole + 8, high);
            memcpy(out, whole, width * sizeof *out);
        }
    }
}

static void attention_piece(void *context, size_t piece, int thread)
{
    attention_step_t *step = context;
    const size_t heads = (size_t)step->model->heads, hidden = (size_t)step->model->hidden;
    const size_t text = piece / heads, number = piece % heads, size = hidden / heads;
    const size_t first = (size_t)step->starts[text], tokens = (size_t)step->starts[text + 1] - first;
    const size_t stride = padded(3 * hidden);
    float *scratch = thread_scratch(
        step->pool, thread, (padded(tokens) * size + padded(size) * tokens + QUERIES * padded(tokens)) * sizeof(float));
    if (!scratch) {
        step->failed = 1;
        return;
    }
    const float *qkv = step->qkv + first * stride + number * size;
    head_t head = {
        .query = qkv,
        .key = qkv + hidden,
        .value = qkv + 2 * hidden,
        .stride = stride,
        .tokens = tokens,
        .size = size,
        .keys = scratch,
        .values = scratch + padded(tokens) * size,
        .scores = scratch + padded(tokens) * size + padded(size) * tokens,
        .context = step->context + first * padded(hidden) + number * size,
        .context_stride = padded(hidden),
    };
    pack_keys(&head);
    pack_values(&head);
    const float scale = 1.0f / sqrtf((float)size);
    for (size_t query = 0; query < tokens; query += QUERIES) {
        const size_t queries = tokens - query < QUERIES ? tokens - query : QUERIES;
        float sums[QUERIES];
        for (size_t key = 0; key < padded(tokens); key += PANEL)
            for (size_t row = 0; row < queries; row += TILE_ROWS)
                WITH_CONSTANT_ROWS(queries - row, score_tile, &head, query + row, key,
                                   head.scores + row * padded(tokens))
        for (size_t row = 0; row < queries; row++)
            sums[row] = exponentials(head.scores + row * padded(tokens), tokens, scale);
        for (size_t channel = 0; channel < size; channel += PANEL)
            for (size_t row = 0; row < queries; row += TILE_ROWS)
                WITH_CONSTANT_ROWS(queries - row, context_tile, &head, query + row, channel,
                                   head.scores + row * padded(tokens), sums + row)
    }
}

int run_attention(pool_t *pool, const model_t *model, const float *qkv, const int32_t *starts, size_t texts,
                  float *context)
{
    attention_step_t step = {pool, model, qkv, starts, context, 0};
    run_pieces(pool, texts * (size_t)model->heads, attention_piece, &step);
    return step.failed ? -1 : 0;
}
