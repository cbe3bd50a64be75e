/* The square of rows in precision REAL: one triangle of X'X, with X = rows - shift.
 *
 * passes.c includes this file once for each precision, after pass_kernel.h.
 *
 * Rows are taken in blocks of BLOCK_ROWS. A block is converted to REAL and shifted once. For each
 * group of GROUP columns, packed on its own, the tiles of sums on and below the diagonal are computed
 * in registers. Columns that are zero within the block, as constant columns are once their value is
 * subtracted, are skipped. Sums of a block are added to pending sums in REAL, or in integers where
 * `exact`; these are added to the result in double every PENDING_ROWS rows.
 */

#define LANES ((ptrdiff_t)(VECTOR_BYTES / sizeof(REAL)))
#define GROUP (2 * LANES)

typedef NAME(integer) NAME(integers) __attribute__((vector_size(VECTOR_BYTES)));

/* sums[i][:] += sum over p of x[i + p * step] * y[p][:], for TILE_ROWS values of i, and the first one
 * or two vectors of y. */
static inline __attribute__((always_inline)) void
NAME(square_tile)(const REAL *restrict x, ptrdiff_t step, const REAL *restrict y, ptrdiff_t length,
                  int vectors, int exact, void *restrict sums)
{
    NAME(vector) total[TILE_ROWS][2];
    for (int i = 0; i < TILE_ROWS; i++)
        for (int j = 0; j < vectors; j++) total[i][j] = (NAME(vector)){0};
    for (ptrdiff_t p = 0; p < length; p++) {
        const NAME(vector) *values = (const NAME(vector) *)(y + p * GROUP);
#pragma GCC unroll 16
        for (int i = 0; i < TILE_ROWS; i++)
#pragma GCC unroll 2
            for (int j = 0; j < vectors; j++) total[i][j] += x[i + p * step] * values[j];
    }
#pragma GCC unroll 16
    for (int i = 0; i < TILE_ROWS; i++)
#pragma GCC unroll 2
        for (int j = 0; j < vectors; j++) {
            if (exact) {
                NAME(integers) *target = (NAME(integers) *)sums + 2 * i + j;
                *target += __builtin_convertvector(total[i][j], NAME(integers));
            } else {
                ((NAME(vector) *)sums)[2 * i + j] += total[i][j];
            }
        }
}

/* The tile for all rows of a block: sums of CHAIN_ROWS of them in registers, or of all if exact. */
static inline __attribute__((always_inline)) void
NAME(add_tile)(const REAL *restrict x, ptrdiff_t step, const REAL *restrict y, ptrdiff_t n,
               int vectors, int exact, REAL *restrict sums)
{
    const ptrdiff_t chain = exact ? n : CHAIN_ROWS;
    for (ptrdiff_t i = 0; i < n; i += chain)
        NAME(square_tile)(x + i * step, step, y + i * GROUP, n - i < chain ? n - i : chain, vectors,
                          exact, sums);
}

/* Mark the columns of a packed block that are not zero throughout. */
static void NAME(find_nonzero)(const REAL *block, ptrdiff_t n, ptrdiff_t stride, ptrdiff_t d,
                               NAME(bits) *restrict found)
{
    memset(found, 0, (size_t)d * sizeof(*found));
    for (ptrdiff_t i = 0; i < n; i++) {
        const NAME(bits) *restrict values = (const NAME(bits) *)(block + i * stride);
        for (ptrdiff_t p = 0; p < d; p++) found[p] |= values[p];
    }
}

static int NAME(any)(const NAME(bits) *found, ptrdiff_t count)
{
    NAME(bits) all = 0;
    for (ptrdiff_t p = 0; p < count; p++) all |= found[p];
    return all != 0;
}

/* Add the pending sums to `total` in double, and clear them. */
static void NAME(add_pending)(void *pending, ptrdiff_t count, int exact, double *restrict total)
{
    if (exact) {
        const NAME(integer) *restrict integers = pending;
        for (ptrdiff_t p = 0; p < count; p++) total[p] += integers[p];
    } else {
        const REAL *restrict reals = pending;
        for (ptrdiff_t p = 0; p < count; p++) total[p] += reals[p];
    }
    memset(pending, 0, (size_t)count * sizeof(REAL));
}

/* square[j * d + p] += the entry (j, p) of X'X, for p >= j, and sums += the sums of the columns.
 *
 * With `exact`, in float, the values must be integers whose squares, BLOCK_ROWS of them added, stay
 * below 2^24. */
int NAME(square)(const struct rows *rows, int exact, double *square, double *sums)
{
    const ptrdiff_t d = rows->n_features, groups = (d + GROUP - 1) / GROUP;
    const ptrdiff_t tiles = (d + TILE_ROWS - 1) / TILE_ROWS;
    const ptrdiff_t most = groups * GROUP > tiles * TILE_ROWS ? groups * GROUP : tiles * TILE_ROWS;
    /* An odd number of cache lines: consecutive rows fall on different cache sets. */
    const ptrdiff_t line = 64 / (ptrdiff_t)sizeof(REAL);
    const ptrdiff_t stride = ((most + line - 1) / line | 1) * line;
    const ptrdiff_t flush = exact ? PENDING_ROWS : SQUARE_PENDING_ROWS;
    REAL *block = allocate(BLOCK_ROWS * stride, sizeof(REAL));
    REAL *y = allocate(BLOCK_ROWS * GROUP, sizeof(REAL));
    NAME(bits) *found = allocate(stride, sizeof(REAL));
    /* Sums, as [group of columns][feature][column]. */
    REAL *pending = allocate(groups * stride * GROUP, sizeof(REAL));
    double *total = allocate(groups * stride * GROUP, sizeof(double));
    const int failed = !block || !y || !found || !pending || !total;
    if (failed) goto end;

    memset(pending, 0, (size_t)(groups * stride * GROUP) * sizeof(REAL));
    memset(total, 0, (size_t)(groups * stride * GROUP) * sizeof(double));
    ptrdiff_t rows_pending = 0;
    for (ptrdiff_t row = 0; row < rows->n; row += BLOCK_ROWS) {
        const ptrdiff_t n = rows->n - row < BLOCK_ROWS ? rows->n - row : BLOCK_ROWS;
        NAME(pack)(rows, row, n, 0, d, stride, stride, block);
        NAME(add_moments)(block, n, d, stride, 1, sums, NULL);
        NAME(find_nonzero)(block, n, stride, stride, found);
        for (ptrdiff_t g = 0; g < groups; g++) {
            if (!NAME(any)(found + g * GROUP, GROUP)) continue;
            for (ptrdiff_t i = 0; i < n; i++)
                memcpy(y + i * GROUP, block + i * stride + g * GROUP, GROUP * sizeof(REAL));
            for (ptrdiff_t p = g * GROUP / TILE_ROWS * TILE_ROWS; p < d; p += TILE_ROWS) {
                if (!NAME(any)(found + p, TILE_ROWS)) continue;
                REAL *target = pending + (g * stride + p) * GROUP;
                /* the second vector is above the diagonal, or beyond the last column */
                const int narrow = p + TILE_ROWS <= g * GROUP + LANES || d <= g * GROUP + LANES;
                if (exact && narrow)
                    NAME(add_tile)(block + p, stride, y, n, 1, 1, target);
                else if (exact)
                    NAME(add_tile)(block + p, stride, y, n, 2, 1, target);
                else if (narrow)
                    NAME(add_tile)(block + p, stride, y, n, 1, 0, target);
                else
                    NAME(add_tile)(block + p, stride, y, n, 2, 0, target);
            }
        }
        rows_pending += n;
        if (rows_pending >= flush || row + n == rows->n) {
            for (ptrdiff_t g = 0; g < groups; g++) {
                const ptrdiff_t diagonal = g * GROUP / TILE_ROWS * TILE_ROWS;
                const ptrdiff_t first = (g * stride + diagonal) * GROUP;
                NAME(add_pending)(pending + first, (stride - diagonal) * GROUP, exact,
                                  total + first);
            }
            rows_pending = 0;
        }
    }
    for (ptrdiff_t j = 0; j < d; j++)
        for (ptrdiff_t p = j; p < d; p++)
            square[j * d + p] += total[((j / GROUP) * stride + p) * GROUP + j % GROUP];
end:
    free(block);
    free(y);
    free(found);
    free(pending);
    free(total);
    return failed;
}

#undef LANES
#undef GROUP
