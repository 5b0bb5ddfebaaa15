/* A pool of threads that wait without computing between batches, and without sleeping between the steps of one.
 *
 * A step is cut into pieces, and every thread takes the next piece until none is left. The caller waits for pieces that
 * are being computed, never for a thread: one that the system lets wake up late, because others compute on the machine,
 * finds the work done and holds nobody up.
 *
 * A batch has some two hundred steps of a tenth of a millisecond to several: waking a sleeping thread for each would
 * cost as much as a small step, so a thread that waits first looks again and again for SPIN_NANOSECONDS, then sleeps.
 * Between batches everybody sleeps.
 *
 * After a fork the child has the pool's memory but not its threads: engine.py makes a new pool there.
 */
#define _GNU_SOURCE
#include "encoder.h"

#include <immintrin.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>

#define SPIN_NANOSECONDS 100000

typedef struct {
    pool_t *pool;
    int number;
    pthread_t thread;
} worker_t;

struct pool {
    int threads; /* with the caller's */
    worker_t *workers;
    void **scratch; /* by thread, and one of the caller's for the whole batch */
    size_t *scratch_bytes;

    /* What the pieces of the step that `ticket` tells of are. Written by the caller while no piece is left. */
    _Atomic(piece_function) function;
    _Atomic(void *) context;
    _Atomic uint64_t ticket;
    atomic_size_t done; /* pieces of the step that are computed */
    atomic_bool closing;

    pthread_mutex_t lock; /* only for sleeping and waking */
    pthread_cond_t begun, finished;
    atomic_int sleeping; /* workers that wait for `begun` */
    atomic_bool caller_sleeps;
};

/* The step's number, its pieces and the next one to take, in one word, so that they always belong together. */
#define PIECE_BITS 20
#define MOST_PIECES ((UINT64_C(1) << PIECE_BITS) - 1)

static size_t pieces_of(uint64_t ticket)
{
    return ticket >> PIECE_BITS & MOST_PIECES;
}

static size_t next_of(uint64_t ticket)
{
    return ticket & MOST_PIECES;
}

static bool has_work(uint64_t ticket)
{
    return next_of(ticket) < pieces_of(ticket);
}

static int64_t nanoseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

/* Take pieces until none is left. */
static void work(pool_t *pool, int thread)
{
    uint64_t ticket = atomic_load(&pool->ticket);
    while (has_work(ticket)) {
        /* Read before the piece is taken: as long as one is left the caller does not begin another step, and if the
         * ticket is no longer the same, they are read again. */
        piece_function function = pool->function;
        void *context = pool->context;
        if (!atomic_compare_exchange_weak(&pool->ticket, &ticket, ticket + 1))
            continue;
        function(context, next_of(ticket), thread);
        if (atomic_fetch_add(&pool->done, 1) + 1 == pieces_of(ticket) && atomic_load(&pool->caller_sleeps)) {
            pthread_mutex_lock(&pool->lock);
            pthread_cond_signal(&pool->finished);
            pthread_mutex_unlock(&pool->lock);
        }
        ticket = atomic_load(&pool->ticket);
    }
}

static bool is_called(pool_t *pool)
{
    return has_work(atomic_load(&pool->ticket)) || atomic_load(&pool->closing);
}

static bool is_done(pool_t *pool)
{
    return atomic_load(&pool->done) == pieces_of(atomic_load(&pool->ticket));
}

/* Look for SPIN_NANOSECONDS whether something has come true. */
static bool spin_until(bool (*is_true)(pool_t *), pool_t *pool)
{
    int64_t until = nanoseconds() + SPIN_NANOSECONDS;
    do {
        for (int i = 0; i < 64; i++) {
            if (is_true(pool))
                return true;
            _mm_pause();
        }
    } while (nanoseconds() < until);
    return false;
}

static void *worker_main(void *argument)
{
    worker_t *worker = argument;
    pool_t *pool = worker->pool;
    for (;;) {
        if (!spin_until(is_called, pool)) {
            pthread_mutex_lock(&pool->lock);
            /* Counted before it looks once more: whoever calls first writes the ticket, then looks for sleepers. */
            atomic_fetch_add(&pool->sleeping, 1);
            while (!is_called(pool))
                pthread_cond_wait(&pool->begun, &pool->lock);
            atomic_fetch_sub(&pool->sleeping, 1);
            pthread_mutex_unlock(&pool->lock);
        }
        if (atomic_load(&pool->closing))
            return NULL;
        work(pool, worker->number);
    }
}

static void wake_workers(pool_t *pool)
{
    if (atomic_load(&pool->sleeping)) {
        pthread_mutex_lock(&pool->lock);
        pthread_cond_broadcast(&pool->begun);
        pthread_mutex_unlock(&pool->lock);
    }
}

void run_pieces(pool_t *pool, size_t pieces, piece_function function, void *context)
{
    if (pool->threads == 1 || pieces <= 1 || pieces > MOST_PIECES) {
        for (size_t piece = 0; piece < pieces; piece++)
            function(context, piece, 0);
        return;
    }
    pool->function = function;
    pool->context = context;
    atomic_store(&pool->done, 0);
    uint64_t number = (atomic_load(&pool->ticket) >> 2 * PIECE_BITS) + 1;
    atomic_store(&pool->ticket, number << 2 * PIECE_BITS | (uint64_t)pieces << PIECE_BITS);
    wake_workers(pool);
    work(pool, 0);
    if (spin_until(is_done, pool))
        return;
    pthread_mutex_lock(&pool->lock);
    atomic_store(&pool->caller_sleeps, true);
    while (!is_done(pool))
        pthread_cond_wait(&pool->finished, &pool->lock);
    atomic_store(&pool->caller_sleeps, false);
    pthread_mutex_unlock(&pool->lock);
}

int pool_threads(const pool_t *pool)
{
    return pool->threads;
}

/* Sizes grow by a quarter at least, so that batches of many sizes do not leave holes of many sizes behind. */
static void *scratch(pool_t *pool, int number, size_t bytes)
{
    if (pool->scratch_bytes[number] < bytes) {
        size_t size = (bytes + bytes / 4 + 4095) / 4096 * 4096;
        free(pool->scratch[number]);
        pool->scratch[number] = aligned_alloc(4096, size);
        pool->scratch_bytes[number] = pool->scratch[number] ? size : 0;
    }
    return pool->scratch[number];
}

void *thread_scratch(pool_t *pool, int thread, size_t bytes)
{
    return scratch(pool, thread, bytes);
}

void *batch_scratch(pool_t *pool, size_t bytes)
{
    return scratch(pool, pool->threads, bytes);
}

/* Give the memory back that is kept from batch to batch. */
void trivec_pool_trim(pool_t *pool)
{
    for (int number = 0; pool->scratch && pool->scratch_bytes && number <= pool->threads; number++) {
        free(pool->scratch[number]);
        pool->scratch[number] = NULL;
        pool->scratch_bytes[number] = 0;
    }
}

void trivec_pool_free(pool_t *pool)
{
    if (!pool)
        return;
    atomic_store(&pool->closing, true);
    wake_workers(pool);
    for (int i = 1; i < pool->threads; i++)
        pthread_join(pool->workers[i].thread, NULL);
    trivec_pool_trim(pool);
    pthread_cond_destroy(&pool->begun);
    pthread_cond_destroy(&pool->finished);
    pthread_mutex_destroy(&pool->lock);
    free(pool->scratch);
    free(pool->scratch_bytes);
    free(pool->workers);
    free(pool);
}

/* NULL if there is no memory or no more threads are to be had. */
pool_t *trivec_pool_new(int threads)
{
    pool_t *pool = calloc(1, sizeof *pool);
    if (!pool)
        return NULL;
    pool->workers = calloc((size_t)threads, sizeof *pool->workers);
    pool->scratch = calloc((size_t)threads + 1, sizeof *pool->scratch);
    pool->scratch_bytes = calloc((size_t)threads + 1, sizeof *pool->scratch_bytes);
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->begun, NULL);
    pthread_cond_init(&pool->finished, NULL);
    pool->threads = 1;
    while (pool->workers && pool->scratch && pool->scratch_bytes && pool->threads < threads) {
        worker_t *worker = &pool->workers[pool->threads];
        *worker = (worker_t){.pool = pool, .number = pool->threads};
        if (pthread_create(&worker->thread, NULL, worker_main, worker))
            break;
        pool->threads++;
    }
    if (pool->threads < threads || !pool->workers || !pool->scratch || !pool->scratch_bytes) {
        trivec_pool_free(pool);
        return NULL;
    }
    return pool;
}
