/* The encoder's steps in order, and the memory they hand results on in. */
#include "encoder.h"

#include <string.h>

/* Rows that go through a layer's feed-forward half together: its inner activations, four times as wide, stay in the
 * cache. */
#define FEED_FORWARD_ROWS 384

typedef struct {
    float *qkv;       /* [tokens][3 * hidden] */
    float *context;   /* [tokens][hidden], attention's result */
    float *projected; /* [tokens][hidden], what a half of a layer adds to the hidden state */
    float *inner;     /* [FEED_FORWARD_ROWS][intermediate] */
    float *moved;     /* operands of float products that have inputs of their own: [tokens][hidden] */
    float *inner_moved;
    operand_t operand;       /* [tokens][hidden] */
    operand_t inner_operand; /* [FEED_FORWARD_ROWS][intermediate] */
} workspace_t;

/* One allocation, cut up: NULL for `base` measures it. */
static size_t lay_out(workspace_t *space, char *base, const model_t *model, size_t tokens)
{
    const size_t hidden = padded((size_t)model->hidden), inner = padded((size_t)model->intermediate);
    const size_t chunk = tokens < FEED_FORWARD_ROWS ? tokens : FEED_FORWARD_ROWS;
    size_t used = 0;
#define TAKE(member, count)                                                                                            \
    do {                                                                                                               \
        space->member = (void *)(base ? base + used : NULL);                                                           \
        used += ((count) * sizeof *space->member + 63) / 64 * 64;                                                      \
    } while (0)
    TAKE(qkv, tokens * padded(3 * (size_t)model->hidden));
    TAKE(context, tokens * hidden);
    TAKE(projected, tokens * hidden);
    TAKE(inner, chunk * inner);
    TAKE(moved, tokens * hidden);
    TAKE(inner_moved, chunk * inner);
    TAKE(operand.i16, tokens * hidden);
    TAKE(operand.scale, tokens);
    TAKE(inner_operand.i16, chunk * inner);
    TAKE(inner_operand.scale, chunk);
#undef TAKE
    return used;
}

/* The feed-forward half up to its last sum, some rows at a time; `operand` is that of the inner product. */
static int feed_forward(pool_t *pool, const model_t *model, const layer_t *layer, workspace_t *space, size_t tokens)
{
    const size_t hidden = padded((size_t)model->hidden), inner = padded((size_t)model->intermediate);
    for (size_t first = 0; first < tokens; first += FEED_FORWARD_ROWS) {
        const size_t rows = tokens - first < FEED_FORWARD_ROWS ? tokens - first : FEED_FORWARD_ROWS;
        const operand_t *all = &space->operand;
        operand_t some = {all->f32 + first * hidden, all->i16 + first * hidden, all->scale + first, all->stride};
        if (run_product(pool, &layer->inner, &some, rows, 1, space->inner) ||
            operand_rows(pool, space->inner, inner, rows, &layer->outer, &space->inner_operand, space->inner_moved) ||
            run_product(pool, &layer->outer, &space->inner_operand, rows, 0, space->projected + first * hidden))
            return -1;
    }
    return 0;
}

static int run_layers(pool_t *pool, const model_t *model, workspace_t *space, const float *embeddings,
                      const int32_t *starts, size_t texts, float *hidden)
{
    const size_t tokens = (size_t)starts[texts], stride = padded((size_t)model->hidden);
    memset(space->context, 0, tokens * stride * sizeof *space->context); /* its padding */
    if (norm_rows(pool, model, &model->embedding_norm, embeddings, (size_t)model->hidden, NULL, tokens, hidden,
                  &model->layer[0].qkv, &space->operand, space->moved))
        return -1;
    for (int32_t number = 0; number < model->layers; number++) {
        const layer_t *layer = &model->layer[number];
        const product_t *next = number + 1 < model->layers ? &layer[1].qkv : NULL;
        if (run_product(pool, &layer->qkv, &space->operand, tokens, 0, space->qkv) ||
            run_attention(pool, model, space->qkv, starts, texts, space->context) ||
            operand_rows(pool, space->context, stride, tokens, &layer->attended, &space->operand, space->moved) ||
            run_product(pool, &layer->attended, &space->operand, tokens, 0, space->projected) ||
            norm_rows(pool, model, &layer->attended_norm, space->projected, stride, hidden, tokens, hidden,
                      &layer->inner, &space->operand, space->moved) ||
            feed_forward(pool, model, layer, space, tokens) ||
            norm_rows(pool, model, &layer->outer_norm, space->projected, stride, hidden, tokens, hidden, next,
                      &space->operand, space->moved))
            return -1;
    }
    return 0;
}

/* Hidden states of a batch: `hidden`[tokens][padded(model->hidden)] from `embeddings`[tokens][model->hidden], the sums
 * of word, position and type. Text t is the tokens starts[t] to starts[t + 1]. Returns 0, or -1 if memory ran out. */
int trivec_encode(pool_t *pool, const model_t *model, const float *embeddings, const int32_t *starts, int32_t texts,
                  float *hidden)
{
    workspace_t space;
    const size_t tokens = (size_t)starts[texts];
    char *memory = batch_scratch(pool, lay_out(&space, NULL, model, tokens));
    if (!memory)
        return -1;
    lay_out(&space, memory, model, tokens);
    return run_layers(pool, model, &space, embeddings, starts, (size_t)texts, hidden);
}

/* x W^T + b by itself, for a head: `out`[rows][padded(outputs)] from `x`[rows][padded(inputs)], float32 weights. */
int trivec_linear(pool_t *pool, const product_t *product, const float *x, int32_t rows, float *out)
{
    const operand_t operand = {.f32 = x, .stride = padded((size_t)product->inputs)};
    return run_product(pool, product, &operand, (size_t)rows, 0, out);
}
