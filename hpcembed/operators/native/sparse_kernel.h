/* One pass over sparse rows in precision REAL: cross += X'(X V - 1 a').
 *
 * passes.c includes this file once for each precision, after pass_kernel.h.
 *
 * Columns of V are taken in groups of GROUP: the rows of V and of the sums that an entry selects lie
 * in one or two cache lines, and those of one group stay in the cache. The entries of each row are
 * read for its product with V, and once more to add that to the sums.
 */

#define LANES ((ptrdiff_t)(VECTOR_BYTES / sizeof(REAL)))
#define GROUP (2 * LANES)
/* Entries ahead of the current one whose cache lines are requested. */
#define AHEAD 8

#define ALWAYS_INLINE static inline __attribute__((always_inline))

ALWAYS_INLINE ptrdiff_t NAME(index)(const void *indices, ptrdiff_t e, int bytes)
{
    return bytes == 4 ? ((const int32_t *)indices)[e] : (ptrdiff_t)((const int64_t *)indices)[e];
}

ALWAYS_INLINE REAL NAME(value)(const void *values, ptrdiff_t e, int bytes)
{
    return bytes == 4 ? (REAL)((const float *)values)[e] : (REAL)((const double *)values)[e];
}

ALWAYS_INLINE void NAME(group_pass)(const struct sparse_rows *rows, int value_bytes,
                                    int index_bytes, const REAL *restrict v,
                                    const REAL *restrict offset, ptrdiff_t flush,
                                    REAL *restrict pending, double *restrict total,
                                    double *restrict columns)
{
    const void *values = rows->values, *indices = rows->indices, *starts = rows->starts;
    const ptrdiff_t size = rows->n_features * GROUP, n = rows->n;
    const ptrdiff_t last = NAME(index)(starts, n, index_bytes);
    for (ptrdiff_t row = 0; row < n; row++) {
        const ptrdiff_t first = NAME(index)(starts, row, index_bytes);
        const ptrdiff_t end = NAME(index)(starts, row + 1, index_bytes);
        NAME(vector) left = {0}, right = {0};
        for (ptrdiff_t e = first; e < end; e++) {
            const ptrdiff_t next = e + AHEAD < last ? e + AHEAD : e;
            const ptrdiff_t ahead = NAME(index)(indices, next, index_bytes) * GROUP;
            for (ptrdiff_t j = 0; j < GROUP; j += 64 / (ptrdiff_t)sizeof(REAL)) {
                __builtin_prefetch(v + ahead + j);
                __builtin_prefetch(pending + ahead + j, 1);
            }
            const REAL value = NAME(value)(values, e, value_bytes);
            const REAL *from = v + NAME(index)(indices, e, index_bytes) * GROUP;
            left += value * ((const NAME(vector) *)from)[0];
            right += value * ((const NAME(vector) *)from)[1];
        }
        left -= ((const NAME(vector) *)offset)[0];
        right -= ((const NAME(vector) *)offset)[1];
        for (ptrdiff_t e = first; e < end; e++) {
            const REAL value = NAME(value)(values, e, value_bytes);
            REAL *to = pending + NAME(index)(indices, e, index_bytes) * GROUP;
            ((NAME(vector) *)to)[0] += value * left;
            ((NAME(vector) *)to)[1] += value * right;
        }
        for (ptrdiff_t j = 0; j < LANES; j++) {
            columns[j] += left[j];
            columns[LANES + j] += right[j];
        }
        if ((row + 1) % flush == 0 || row + 1 == n) {
            for (ptrdiff_t p = 0; p < size; p++) total[p] += pending[p];
            memset(pending, 0, (size_t)size * sizeof(REAL));
        }
    }
}

/* Contributions of `flush` rows are added in REAL before they are added in double. */
int NAME(sparse_pass)(const struct sparse_rows *rows, const REAL *V, ptrdiff_t m,
                      const REAL *offset, ptrdiff_t flush, double *cross, double *columns)
{
    const ptrdiff_t d = rows->n_features;
    REAL *v = allocate(d * GROUP, sizeof(REAL)), *pending = allocate(d * GROUP, sizeof(REAL));
    REAL *a = allocate(GROUP, sizeof(REAL));
    double *total = allocate(d * GROUP, sizeof(double)), *sums = allocate(GROUP, sizeof(double));
    const int failed = !v || !pending || !a || !total || !sums;
    if (failed) goto end;

    memset(pending, 0, (size_t)(d * GROUP) * sizeof(REAL));
    for (ptrdiff_t first = 0; first < m; first += GROUP) {
        const ptrdiff_t width = m - first < GROUP ? m - first : GROUP;
        memset(total, 0, (size_t)(d * GROUP) * sizeof(double));
        for (ptrdiff_t j = 0; j < GROUP; j++) {
            a[j] = offset && j < width ? offset[first + j] : 0;
            sums[j] = 0.0;
        }
        for (ptrdiff_t p = 0; p < d; p++)
            for (ptrdiff_t j = 0; j < GROUP; j++)
                v[p * GROUP + j] = j < width ? V[p * m + first + j] : 0;
        if (rows->value_bytes == 4 && rows->index_bytes == 4)
            NAME(group_pass)(rows, 4, 4, v, a, flush, pending, total, sums);
        else if (rows->value_bytes == 4)
            NAME(group_pass)(rows, 4, 8, v, a, flush, pending, total, sums);
        else if (rows->index_bytes == 4)
            NAME(group_pass)(rows, 8, 4, v, a, flush, pending, total, sums);
        else
            NAME(group_pass)(rows, 8, 8, v, a, flush, pending, total, sums);
        for (ptrdiff_t p = 0; p < d; p++)
            for (ptrdiff_t j = 0; j < width; j++) cross[p * m + first + j] += total[p * GROUP + j];
        for (ptrdiff_t j = 0; j < width; j++) columns[first + j] += sums[j];
    }
end:
    free(v);
    free(pending);
    free(a);
    free(total);
    free(sums);
    return failed;
}

#undef LANES
#undef GROUP
#undef AHEAD
#undef ALWAYS_INLINE
