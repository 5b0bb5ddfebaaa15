/* A pool of threads that wait without computing between batches, and without sleeping between the steps of one.
 *
 * A step is cut into pieces, and every thread takes the next piece until none is left, so a thread that the system
 * stops for a while holds nobody up for longer than its piece. A batch has some two hundred steps of a tenth of a
 * millisecond to several: waking a sleeping thread for each would cost as much as a small step, so a thread that waits
 * first looks again and again for SPIN_NANOSECONDS, then sleeps. Between batches everybody sleeps.
 *
 * After a fork the child has the pool's memory but not its threads: library.py makes a new pool there.
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
    void **scratch;
    size_t *scratch_bytes;

    piece_function function;
    void *context;
    size_t pieces;
    atomic_size_t next_piece;
    atomic_int at_work; /* workers that have not finished the step yet */
    atomic_uint step;   /* counts up with each step; how workers notice one */
    atomic_bool closing;

    pthread_mutex_t lock; /* only for sleeping and waking */
    pthread_cond_t begun, finished;
    int sleeping; /* workers that wait for `begun` */
    bool caller_sleeps;
};

static int64_t nanoseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static void work(pool_t *pool, int thread)
{
    for (;;) {
        size_t piece = atomic_fetch_add(&pool->next_piece, 1);
        if (piece >= pool->pieces)
            return;
        pool->function(pool->context, piece, thread);
    }
}

/* Wait until the step is another than `seen`. */
static void wait_for_step(pool_t *pool, unsigned seen)
{
    int64_t until = nanoseconds() + SPIN_NANOSECONDS;
    do {
        for (int i = 0; i < 64; i++) {
            if (atomic_load_explicit(&pool->step, memory_order_acquire) != seen)
                return;
            _mm_pause();
        }
    } while (nanoseconds() < until);
    pthread_mutex_lock(&pool->lock);
    pool->sleeping++;
    while (atomic_load(&pool->step) == seen)
        pthread_cond_wait(&pool->begun, &pool->lock);
    pool->sleeping--;
    pthread_mutex_unlock(&pool->lock);
}

static void *worker_main(void *argument)
{
    worker_t *worker = argument;
    pool_t *pool = worker->pool;
    unsigned seen = 0;
    for (;;) {
        wait_for_step(pool, seen);
        seen++;
        if (atomic_load(&pool->closing))
            return NULL;
        work(pool, worker->number);
        if (atomic_fetch_sub(&pool->at_work, 1) == 1) {
            pthread_mutex_lock(&pool->lock);
            if (pool->caller_sleeps)
                pthread_cond_signal(&pool->finished);
            pthread_mutex_unlock(&pool->lock);
        }
    }
}

static void begin_step(pool_t *pool)
{
    pthread_mutex_lock(&pool->lock);
    atomic_fetch_add(&pool->step, 1);
    if (pool->sleeping)
        pthread_cond_broadcast(&pool->begun);
    pthread_mutex_unlock(&pool->lock);
}

static void wait_for_workers(pool_t *pool)
{
    int64_t until = nanoseconds() + SPIN_NANOSECONDS;
    do {
        for (int i = 0; i < 64; i++) {
            if (atomic_load_explicit(&pool->at_work, memory_order_acquire) == 0)
                return;
            _mm_pause();
        }
    } while (nanoseconds() < until);
    pthread_mutex_lock(&pool->lock);
    pool->caller_sleeps = true;
    while (atomic_load(&pool->at_work))
        pthread_cond_wait(&pool->finished, &pool->lock);
    pool->caller_sleeps = false;
    pthread_mutex_unlock(&pool->lock);
}

void run_pieces(pool_t *pool, size_t pieces, piece_function function, void *context)
{
    if (pool->threads == 1 || pieces == 1) {
        for (size_t piece = 0; piece < pieces; piece++)
            function(context, piece, 0);
        return;
    }
    pool->function = function;
    pool->context = context;
    pool->pieces = pieces;
    atomic_store(&pool->next_piece, 0);
    atomic_store(&pool->at_work, pool->threads - 1);
    begin_step(pool);
    work(pool, 0);
    wait_for_workers(pool);
}

int pool_threads(const pool_t *pool)
{
    return pool->threads;
}

void *thread_scratch(pool_t *pool, int thread, size_t bytes)
{
    if (pool->scratch_bytes[thread] < bytes) {
        free(pool->scratch[thread]);
        pool->scratch[thread] = aligned_alloc(64, (bytes + 63) / 64 * 64);
        pool->scratch_bytes[thread] = pool->scratch[thread] ? bytes : 0;
    }
    return pool->scratch[thread];
}

/* Give the threads' own memory back. */
void trivec_pool_trim(pool_t *pool)
{
    for (int thread = 0; thread < pool->threads; thread++) {
        free(pool->scratch[thread]);
        pool->scratch[thread] = NULL;
        pool->scratch_bytes[thread] = 0;
    }
}

void trivec_pool_free(pool_t *pool)
{
    if (!pool)
        return;
    atomic_store(&pool->closing, true);
    begin_step(pool);
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
    pool->scratch = calloc((size_t)threads, sizeof *pool->scratch);
    pool->scratch_bytes = calloc((size_t)threads, sizeof *pool->scratch_bytes);
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
