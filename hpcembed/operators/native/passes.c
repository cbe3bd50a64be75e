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
/* Largest block of converted rows that is kept for the second product. */
#define KEPT_BYTES (4 << 20)
/* The same for squares in REAL, and rows whose products are added in registers: sums of products of
 * one sign lose digits in proportion to their length. */
#define SQUARE_PENDING_ROWS 576
#define CHAIN_ROWS 48

struct rows {
    const void *data;
    ptrdiff_t n, n_features, row_stride, column_stride; /* strides in bytes */
    const double *shift, *factor; /* of each feature, or NULL */
    int type;                     /* character of numpy's dtype */
    int by_rows;                  /* shift and factor are of each row instead */
};

/* Rows in CSR form: the entries of row i are from starts[i] up to starts[i + 1]. */
struct sparse_rows {
    const void *values, *indices, *starts;
    ptrdiff_t n, n_features;
    int value_bytes, index_bytes; /* 4 or 8 */
};

#define JOIN_(a, b, c) a##_##b##_##c
#define JOIN(a, b, c) JOIN_(a, b, c)

/* DO(TYPE) for the C type of a character of numpy's dtype; DO ends with break. */
#define FOR_TYPE(type, DO)                                                                         \
    switch (type) {                                                                                \
    case 'f': DO(float);                                                                           \
    case 'd': DO(double);                                                                          \
    case 'B': DO(uint8_t);                                                                         \
    case 'b': DO(int8_t);                                                                          \
    case 'H': DO(uint16_t);                                                                        \
    case 'h': DO(int16_t);                                                                         \
    }

static void *allocate(ptrdiff_t count, size_t size)
{
    return aligned_alloc(64, ((size_t)count * size + 63) / 64 * 64);
}

#define REAL float
#define NAME(x) JOIN(x, f32, SUFFIX)
typedef int32_t NAME(integer);
typedef uint32_t NAME(bits);
#include "pass_kernel.h"
#include "square_kernel.h"
#include "sparse_kernel.h"
#undef REAL
#undef NAME

#define REAL double
#define NAME(x) JOIN(x, f64, SUFFIX)
typedef int64_t NAME(integer);
typedef uint64_t NAME(bits);
#include "pass_kernel.h"
#include "square_kernel.h"
#include "sparse_kernel.h"
