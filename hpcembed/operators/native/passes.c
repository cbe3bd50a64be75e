/* Passes over rows for one instruction set: SUFFIX, VECTOR_BYTES and TILE_ROWS come from the build. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Rows of a block, features of a panel (multiples of every TILE_ROWS), rows whose products are
 * added in the precision of the pass before they are added in double. */
#define BLOCK_ROWS 144
#define PANEL 240
#define PENDING_ROWS 4096

struct rows {
    const void *data;
    ptrdiff_t n, n_features, row_stride, column_stride; /* strides in bytes */
    const double *shift, *factor;                       /* of each feature, or NULL */
    int type;                                           /* character of numpy's dtype */
};

#define JOIN_(a, b, c) a##_##b##_##c
#define JOIN(a, b, c) JOIN_(a, b, c)

#define REAL float
#define NAME(x) JOIN(x, f32, SUFFIX)
static float *NAME(allocate)(ptrdiff_t count)
{
    return aligned_alloc(64, ((size_t)count * sizeof(float) + 63) / 64 * 64);
}
#include "pass_kernel.h"
#undef REAL
#undef NAME

#define REAL double
#define NAME(x) JOIN(x, f64, SUFFIX)
static double *NAME(allocate)(ptrdiff_t count)
{
    return aligned_alloc(64, ((size_t)count * sizeof(double) + 63) / 64 * 64);
}
#include "pass_kernel.h"
