/* One pass over rows in precision REAL: cross += X'(X V - 1 a'), with X = (rows - shift) * factor.
 *
 * passes.c includes this file once for each precision. Vectors are GCC's vector extensions, so that
 * one source serves every instruction set; VECTOR_BYTES and TILE_ROWS are chosen for each.
 *
 * Rows are taken in blocks of BLOCK_ROWS, and columns in panels of PANEL features. A panel is
 * converted to REAL, shifted and scaled once, into memory whose row stride spreads over all cache
 * sets. Both products use one tile: TILE_ROWS x (2 vectors) sums that stay in registers.
 */

#define LANES ((ptrdiff_t)(VECTOR_BYTES / sizeof(REAL)))
/* Columns of a tile: V, Y and the sums are stored in groups of so many columns. */
#define GROUP (2 * LANES)
/* Row stride of a packed panel: not a multiple of 512 bytes. */
#define PACKED_STRIDE (PANEL + 32 / (ptrdiff_t)sizeof(REAL))
/* The same for the features of a panel of transposed rows, and features that are read ahead. */
#define AHEAD 8
#define COLUMN_STRIDE (BLOCK_ROWS + 32 / (ptrdiff_t)sizeof(REAL))
/* Features of a panel with those that fill its last tile. */
#define PADDED(width) (((width) + TILE_ROWS - 1) / TILE_ROWS * TILE_ROWS)

typedef REAL NAME(vector) __attribute__((vector_size(VECTOR_BYTES)));

/* sums[i][:] = sum over p of x[i * row_step + p * step] * y[p][:], for TILE_ROWS values of i. */
static inline void NAME(tile)(const REAL *restrict x, ptrdiff_t row_step, ptrdiff_t step,
                              const REAL *restrict y, ptrdiff_t length, REAL *restrict sums)
{
    NAME(vector) total[TILE_ROWS][2];
    for (int i = 0; i < TILE_ROWS; i++) {
        total[i][0] = (NAME(vector)){0};
        total[i][1] = (NAME(vector)){0};
    }
    for (ptrdiff_t p = 0; p < length; p++) {
        const NAME(vector) left = ((const NAME(vector) *)(y + p * GROUP))[0];
        const NAME(vector) right = ((const NAME(vector) *)(y + p * GROUP))[1];
#pragma GCC unroll 16
        for (int i = 0; i < TILE_ROWS; i++) {
            const REAL value = x[i * row_step + p * step];
            total[i][0] += value * left;
            total[i][1] += value * right;
        }
    }
#pragma GCC unroll 16
    for (int i = 0; i < TILE_ROWS; i++) {
        ((NAME(vector) *)(sums + i * GROUP))[0] += total[i][0];
        ((NAME(vector) *)(sums + i * GROUP))[1] += total[i][1];
    }
}

/* Convert `width` features of `n` rows, from feature `first`, into a packed panel whose rows are
 * `stride` numbers apart, and set the numbers from `width` up to `padded` to zero. */
static inline void NAME(pack)(const struct rows *rows, ptrdiff_t row, ptrdiff_t n, ptrdiff_t first,
                              ptrdiff_t width, ptrdiff_t stride, ptrdiff_t padded,
                              REAL *restrict panel)
{
#define PACK(TYPE)                                                                                 \
    for (ptrdiff_t i = 0; i < n; i++) {                                                            \
        const char *source =                                                                       \
            (const char *)rows->data + (row + i) * rows->row_stride + first * rows->column_stride; \
        REAL *restrict target = panel + i * stride;                                                \
        if (rows->column_stride == (ptrdiff_t)sizeof(TYPE)) {                                      \
            const TYPE *restrict values = (const TYPE *)source;                                    \
            for (ptrdiff_t p = 0; p < width; p++) target[p] = (REAL)values[p];                     \
        } else {                                                                                   \
            for (ptrdiff_t p = 0; p < width; p++)                                                  \
                target[p] = (REAL) * (const TYPE *)(source + p * rows->column_stride);             \
        }                                                                                          \
    }                                                                                              \
    break
    FOR_TYPE(rows->type, PACK)
#undef PACK
    for (ptrdiff_t i = 0; i < n; i++) {
        REAL *restrict target = panel + i * stride;
        if (rows->by_rows) {
            const double shift = rows->shift ? rows->shift[row + i] : 0.0;
            const double factor = rows->factor ? rows->factor[row + i] : 1.0;
            if (rows->shift || rows->factor)
                for (ptrdiff_t p = 0; p < width; p++)
                    target[p] = (REAL)((REAL)(target[p] - shift) * factor);
            for (ptrdiff_t p = width; p < padded; p++) target[p] = 0;
            continue;
        }
        if (rows->shift)
            for (ptrdiff_t p = 0; p < width; p++)
                target[p] = (REAL)(target[p] - rows->shift[first + p]);
        if (rows->factor)
            for (ptrdiff_t p = 0; p < width; p++)
                target[p] = (REAL)(target[p] * rows->factor[first + p]);
        for (ptrdiff_t p = width; p < padded; p++) target[p] = 0;
    }
    for (ptrdiff_t i = n; i < BLOCK_ROWS; i++)
        memset(panel + i * stride, 0, (size_t)padded * sizeof(REAL));
}

/* Whether the rows are columns of a row-major array. */
static inline int NAME(is_transposed)(const struct rows *rows)
{
    ptrdiff_t size = 0;
#define SIZE(TYPE) size = sizeof(TYPE); break
    FOR_TYPE(rows->type, SIZE)
#undef SIZE
    return rows->row_stride == size && rows->column_stride != size;
}

/* The same for such rows, into a panel of which a feature, not a row, is contiguous, and features
 * are COLUMN_STRIDE numbers apart. */
static inline void NAME(pack_columns)(const struct rows *rows, ptrdiff_t row, ptrdiff_t n,
                                      ptrdiff_t first, ptrdiff_t width, ptrdiff_t padded,
                                      REAL *restrict panel)
{
    for (ptrdiff_t p = 0; p < width; p++) {
        const char *source = (const char *)rows->data + row * rows->row_stride +
                             (first + p) * rows->column_stride;
        REAL *restrict target = panel + p * COLUMN_STRIDE;
        /* The next features are on other pages of memory, where the processor does not look ahead. */
        if (first + p + AHEAD < rows->n_features)
            for (ptrdiff_t i = 0; i < n * rows->row_stride; i += 64)
                __builtin_prefetch(source + AHEAD * rows->column_stride + i);
#define PACK(TYPE)                                                                                 \
    for (ptrdiff_t i = 0; i < n; i++) target[i] = (REAL)((const TYPE *)source)[i];                 \
    break
        FOR_TYPE(rows->type, PACK)
#undef PACK
        if (rows->by_rows) {
            if (rows->shift)
                for (ptrdiff_t i = 0; i < n; i++) target[i] = (REAL)(target[i] - rows->shift[row + i]);
            if (rows->factor)
                for (ptrdiff_t i = 0; i < n; i++) target[i] = (REAL)(target[i] * rows->factor[row + i]);
        } else {
            const double shift = rows->shift ? rows->shift[first + p] : 0.0;
            const double factor = rows->factor ? rows->factor[first + p] : 1.0;
            if (rows->shift || rows->factor)
                for (ptrdiff_t i = 0; i < n; i++) target[i] = (REAL)((REAL)(target[i] - shift) * factor);
        }
        for (ptrdiff_t i = n; i < BLOCK_ROWS; i++) target[i] = 0;
    }
    for (ptrdiff_t p = width; p < padded; p++)
        memset(panel + p * COLUMN_STRIDE, 0, BLOCK_ROWS * sizeof(REAL));
}

/* Add the sums, and the sums of squares unless that is NULL, of the features of a packed block: rows
 * are `stride` numbers apart and features one; or rows one and features `step`. */
static void NAME(add_moments)(const REAL *block, ptrdiff_t n, ptrdiff_t width, ptrdiff_t stride,
                              ptrdiff_t step, double *sums, double *squares)
{
    for (ptrdiff_t p = 0; step > 1 && p < width; p++) {
        double sum = 0, square = 0;
        for (ptrdiff_t i = 0; i < n; i++) {
            const double value = block[p * step + i];
            sum += value;
            square += value * value;
        }
        sums[p] += sum;
        if (squares) squares[p] += square;
    }
    for (ptrdiff_t first = 0; step == 1 && first < width; first += PANEL) {
        const ptrdiff_t count = width - first < PANEL ? width - first : PANEL;
        double sum[PANEL] = {0}, square[PANEL] = {0};
        for (ptrdiff_t i = 0; i < n; i++) {
            const REAL *restrict values = block + i * stride + first;
            for (ptrdiff_t p = 0; p < count; p++) sum[p] += values[p];
            if (squares)
                for (ptrdiff_t p = 0; p < count; p++)
                    square[p] += (double)values[p] * values[p];
        }
        for (ptrdiff_t p = 0; p < count; p++) {
            sums[first + p] += sum[p];
            if (squares) squares[first + p] += square[p];
        }
    }
}

static inline void NAME(pack_panel)(const struct rows *rows, int transposed, ptrdiff_t row,
                                    ptrdiff_t n, ptrdiff_t first, ptrdiff_t width, REAL *panel)
{
    if (transposed)
        NAME(pack_columns)(rows, row, n, first, width, PADDED(width), panel);
    else
        NAME(pack)(rows, row, n, first, width, PACKED_STRIDE, PADDED(width), panel);
}

int NAME(pass)(const struct rows *rows, const REAL *V, ptrdiff_t m, const REAL *offset,
               double *cross, double *columns, double *sums, double *squares)
{
    const ptrdiff_t d = rows->n_features, panels = (d + PANEL - 1) / PANEL;
    const ptrdiff_t groups = (m + GROUP - 1) / GROUP, padded = panels * PANEL;
    const int transposed = NAME(is_transposed)(rows);
    const ptrdiff_t panel_size = transposed ? PANEL * COLUMN_STRIDE : BLOCK_ROWS * PACKED_STRIDE;
    const ptrdiff_t row_step = transposed ? 1 : PACKED_STRIDE, step = transposed ? COLUMN_STRIDE : 1;
    /* Groups of columns of V and of the pending sums: [group][feature][column]; Y: [group][row]. */
    REAL *packed_v = allocate(groups * padded * GROUP, sizeof(REAL));
    REAL *pending = allocate(groups * padded * GROUP, sizeof(REAL));
    /* Long rows are converted once for each product: a block of them would not stay in cache. */
    const int keeps = panels * panel_size * (ptrdiff_t)sizeof(REAL) <= KEPT_BYTES;
    REAL *packed_x = allocate((keeps ? panels : 1) * panel_size, sizeof(REAL));
    REAL *y = allocate(groups * BLOCK_ROWS * GROUP, sizeof(REAL));
    const int failed = !packed_v || !pending || !packed_x || !y;
    if (failed) goto end;

    memset(packed_v, 0, groups * padded * GROUP * sizeof(REAL));
    memset(pending, 0, groups * padded * GROUP * sizeof(REAL));
    for (ptrdiff_t p = 0; p < d; p++)
        for (ptrdiff_t j = 0; j < m; j++)
            packed_v[((j / GROUP) * padded + p) * GROUP + j % GROUP] = V[p * m + j];

    ptrdiff_t rows_pending = 0;
    for (ptrdiff_t row = 0; row < rows->n; row += BLOCK_ROWS) {
        const ptrdiff_t n = rows->n - row < BLOCK_ROWS ? rows->n - row : BLOCK_ROWS;
        memset(y, 0, groups * BLOCK_ROWS * GROUP * sizeof(REAL));
        for (ptrdiff_t panel = 0; panel < panels; panel++) {
            const ptrdiff_t first = panel * PANEL, width = d - first < PANEL ? d - first : PANEL;
            REAL *x = packed_x + (keeps ? panel : 0) * panel_size;
            NAME(pack_panel)(rows, transposed, row, n, first, width, x);
            if (sums)
                NAME(add_moments)(x, n, width, row_step, step, sums + first,
                                  squares ? squares + first : NULL);
            for (ptrdiff_t g = 0; g < groups; g++)
                for (ptrdiff_t i = 0; i < n; i += TILE_ROWS)
                    NAME(tile)(x + i * row_step, row_step, step,
                               packed_v + (g * padded + first) * GROUP, width,
                               y + (g * BLOCK_ROWS + i) * GROUP);
        }
        for (ptrdiff_t j = 0; j < m; j++) {
            REAL *column = y + (j / GROUP) * BLOCK_ROWS * GROUP + j % GROUP;
            double total = 0.0;
            for (ptrdiff_t i = 0; i < n; i++) {
                if (offset) column[i * GROUP] -= offset[j];
                total += column[i * GROUP];
            }
            columns[j] += total;
        }
        for (ptrdiff_t panel = 0; panel < panels; panel++) {
            const ptrdiff_t first = panel * PANEL, width = d - first < PANEL ? d - first : PANEL;
            REAL *x = packed_x + (keeps ? panel : 0) * panel_size;
            if (!keeps)
                NAME(pack_panel)(rows, transposed, row, n, first, width, x);
            for (ptrdiff_t g = 0; g < groups; g++)
                for (ptrdiff_t p = 0; p < width; p += TILE_ROWS)
                    NAME(tile)(x + p * step, step, row_step,
                               y + g * BLOCK_ROWS * GROUP, n,
                               pending + (g * padded + first + p) * GROUP);
        }
        rows_pending += n;
        if (rows_pending >= PENDING_ROWS || row + n == rows->n) {
            for (ptrdiff_t p = 0; p < d; p++)
                for (ptrdiff_t j = 0; j < m; j++)
                    cross[p * m + j] += pending[((j / GROUP) * padded + p) * GROUP + j % GROUP];
            memset(pending, 0, groups * padded * GROUP * sizeof(REAL));
            rows_pending = 0;
        }
    }
end:
    free(packed_v);
    free(pending);
    free(packed_x);
    free(y);
    return failed;
}

#undef LANES
#undef GROUP
#undef PACKED_STRIDE
#undef PADDED
#undef COLUMN_STRIDE
#undef AHEAD
