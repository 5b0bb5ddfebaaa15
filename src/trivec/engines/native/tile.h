/* The innermost loops: up to 6 rows of activations by a panel of 16 outputs, all sums in registers.
 *
 * `rows` must be a constant where these are called: the compiler then makes a loop for each number of rows. The empty
 * `asm` keeps it from computing all products of a step before the first sum, for which there are not registers enough.
 */
#ifndef TRIVEC_TILE_H
#define TRIVEC_TILE_H

#include "encoder.h"

#include <immintrin.h>
#include <string.h>

#define ALWAYS_INLINE static inline __attribute__((always_inline))
#define FOR_ROWS(r, rows) _Pragma("GCC unroll 6") for (int r = 0; r < (rows); r++)

/* sums[row][output] = sum over inputs of a[row][input] * panel[input][output] */
ALWAYS_INLINE void tile_f32(int rows, const float *a, size_t a_stride, const float *panel, size_t inputs,
                            __m256 sums[TILE_ROWS][2])
{
    FOR_ROWS (r, rows)
        sums[r][0] = sums[r][1] = _mm256_setzero_ps();
    for (size_t i = 0; i < inputs; i++, panel += PANEL) {
        __m256 low = _mm256_loadu_ps(panel), high = _mm256_loadu_ps(panel + 8);
        FOR_ROWS (r, rows) {
            __m256 x = _mm256_broadcast_ss(a + (size_t)r * a_stride + i);
            sums[r][0] = _mm256_fmadd_ps(x, low, sums[r][0]);
            sums[r][1] = _mm256_fmadd_ps(x, high, sums[r][1]);
            __asm__("" : "+x"(sums[r][0]), "+x"(sums[r][1]));
        }
    }
}

/* The same with 16-bit activations, two inputs at a time, and 8-bit weights, widened here. Meanwhile memory from
 * `ahead` on is fetched, `ahead_step` bytes further with each pair. */
ALWAYS_INLINE void tile_i8(int rows, const int16_t *a, size_t a_stride, const int8_t *panel, size_t pairs,
                           const int8_t *ahead, size_t ahead_step, __m256i sums[TILE_ROWS][2])
{
    FOR_ROWS (r, rows)
        sums[r][0] = sums[r][1] = _mm256_setzero_si256();
    for (size_t i = 0; i < pairs; i++, panel += 2 * PANEL) {
        __m256i low = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)panel));
        __m256i high = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(panel + PANEL)));
        _mm_prefetch((const char *)ahead, _MM_HINT_T0);
        ahead += ahead_step;
        FOR_ROWS (r, rows) {
            int32_t pair;
            memcpy(&pair, a + (size_t)r * a_stride + 2 * i, sizeof pair);
            __m256i x = _mm256_set1_epi32(pair);
            sums[r][0] = _mm256_add_epi32(sums[r][0], _mm256_madd_epi16(x, low));
            sums[r][1] = _mm256_add_epi32(sums[r][1], _mm256_madd_epi16(x, high));
            __asm__("" : "+x"(sums[r][0]), "+x"(sums[r][1]));
        }
    }
}

/* Call TILE(rows, ...) with a constant number of rows. */
#define WITH_CONSTANT_ROWS(rows, TILE, ...)                                                                            \
    switch (rows) {                                                                                                    \
    case 1: TILE(1, __VA_ARGS__); break;                                                                               \
    case 2: TILE(2, __VA_ARGS__); break;                                                                               \
    case 3: TILE(3, __VA_ARGS__); break;                                                                               \
    case 4: TILE(4, __VA_ARGS__); break;                                                                               \
    case 5: TILE(5, __VA_ARGS__); break;                                                                               \
    default: TILE(6, __VA_ARGS__); break;                                                                              \
    }

#endif
