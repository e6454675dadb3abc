#include "core/kernels/simd/winograd_simd.h"

#include "core/kernels/simd/vec.h"

#define LINE DSCM_WINOGRAD_LINE
#define TILE DSCM_WINOGRAD_TILE

/* ---- one line, R outputs from R + 2 points ----
 *
 * The row of point a in Bᵀ holds the coefficients of the product of (x - b) over the other points
 * b, times N(a) of the full tile over N(a) of this one, N(a) the product of a - b: G is that of the
 * full tile everywhere. */
INLINE void input_line(vf out[LINE], const vf d[LINE], const int outputs)
{
    if (outputs == 4) {
        vf even = d[4] - 4 * d[2], odd = d[3] - 4 * d[1];
        out[0] = 4 * d[0] - 5 * d[2] + d[4];
        out[1] = even + odd;
        out[2] = 4 * d[1] - 5 * d[3] + d[5];
        out[3] = even - odd;
        even = d[4] - d[2];
        odd = 2 * (d[3] - d[1]);
        out[4] = even + odd;
        out[5] = even - odd;
    } else if (outputs == 3) {
        vf gap = 2 * (d[1] - d[3]);
        out[0] = 4 * (d[0] - d[2]) - gap;
        out[1] = 3 * (d[3] - d[2]) - 6 * d[1];
        out[2] = d[4] - d[2] + gap;
        out[3] = 2 * d[1] - 3 * d[2] + d[3];
        out[4] = -2 * gap;
    } else if (outputs == 2) {
        out[0] = 4 * (d[0] - d[2]);
        out[1] = -3 * (d[1] + d[2]);
        out[2] = d[3] - d[1];
        out[3] = 3 * (d[1] - d[2]);
    } else {
        out[0] = 4 * (d[0] - d[1]);
        out[1] = -6 * d[1];
        out[2] = d[2] - d[1];
    }
}

/* One line of Aᵀ m: powers of the points, and infinity in the last output. */
INLINE void output_line(vf out[TILE], const vf m[LINE], const int outputs)
{
    if (outputs == 4) {
        vf s1 = m[1] + m[3], d1 = m[1] - m[3], s2 = m[4] + m[5], d2 = m[4] - m[5];
        out[0] = m[0] + s1 + s2;
        out[1] = d1 + 2 * d2;
        out[2] = s1 + 4 * s2;
        out[3] = d1 + 8 * d2 + m[2];
    } else if (outputs == 3) {
        vf s1 = m[1] + m[3], d1 = m[1] - m[3];
        out[0] = m[0] + s1 + m[4];
        out[1] = d1 + 2 * m[4];
        out[2] = s1 + 4 * m[4] + m[2];
    } else if (outputs == 2) {
        out[0] = m[0] + m[1] + m[3];
        out[1] = m[1] - m[3] + m[2];
    } else {
        out[0] = m[0] + m[1] + m[2];
    }
}

/* One line of A y. */
INLINE void output_grad_line(vf out[LINE], const vf y[TILE], const int outputs)
{
    if (outputs == 4) {
        vf even = y[0] + y[2], odd = y[1] + y[3];
        out[1] = even + odd;
        out[3] = even - odd;
        even = y[0] + 4 * y[2];
        odd = 2 * y[1] + 8 * y[3];
        out[4] = even + odd;
        out[5] = even - odd;
    } else if (outputs == 3) {
        vf even = y[0] + y[2];
        out[1] = even + y[1];
        out[3] = even - y[1];
        out[4] = y[0] + 2 * y[1] + 4 * y[2];
    } else if (outputs == 2) {
        out[1] = y[0] + y[1];
        out[3] = y[0] - y[1];
    } else {
        out[1] = y[0];
    }
    out[0] = y[0];
    out[2] = y[outputs - 1];
}

/* ---- tiles ----
 *
 * `rows` and `columns` are constants at every call, so that the loops unroll. Every size has a
 * function of its own: the compiler allots registers well to one at a time only.
 */
#define SIZES(f)                                                                                   \
    f(4, 4) f(4, 3) f(4, 2) f(4, 1) f(3, 4) f(3, 3) f(3, 2) f(3, 1) f(2, 4) f(2, 3) f(2, 2)        \
        f(2, 1) f(1, 4) f(1, 3) f(1, 2) f(1, 1)
/* Calls f(rows, columns) with the sizes of a tile. */
#define EACH_SIZE(rows, columns, f)                                                                \
    switch (10 * (rows) + (columns)) {                                                             \
        SIZES_OF(4, f) SIZES_OF(3, f) SIZES_OF(2, f) SIZES_OF(1, f) default : break;               \
    }
#define SIZES_OF(r, f) SIZE_CASE(r, 4, f) SIZE_CASE(r, 3, f) SIZE_CASE(r, 2, f) SIZE_CASE(r, 1, f)
#define SIZE_CASE(r, c, f)                                                                         \
    case 10 * (r) + (c):                                                                           \
        f(r, c);                                                                                   \
        break;

/* Inputs of a tile, one vector of channels: (y,x) at base + y * line + x * ld. A tile at the border
 * sticks out of the image by a line or column of zeros. */
typedef struct inputs {
    const float *base;
    size_t line, ld;
    bool top, bottom, left, right; /* that is outside */
} inputs;

static const float zeros[VW] __attribute__((aligned(64)));

/* A line of points to v, given that line of Bᵀ d. */
INLINE void input_row(float *v, size_t step, const vf row[LINE], const int columns)
{
    vf out[LINE];
    input_line(out, row, columns);
    OPAQUE(v);
#pragma GCC unroll 6
    for (int x = 0; x < columns + 2; x++) store(v + (size_t)x * step, out[x]);
}

/* Two lines of v = Bᵀ d B, if there are as many: columns first. The inputs are read again for every
 * pair, so that all of a pair fits the registers. */
INLINE void input_lines(float *v0, float *v1, size_t step, const inputs *d, const int pair,
                        const int rows, const int columns)
{
    const int one = DSCM_WINOGRAD_PAIR_LINE(pair, 0), two = DSCM_WINOGRAD_PAIR_LINE(pair, 1);
    const float *column = d->base;
    vf mid[2][LINE];
    if (one >= rows + 2) return;
#pragma GCC unroll 6
    for (int x = 0; x < columns + 2; x++, column += d->ld) {
        const bool outside = (x == 0 && d->left) || (x == columns + 1 && d->right);
        const float *from = outside ? zeros : column;
        size_t line = outside ? 0 : d->line;
        OPAQUE(from);
        vf in[LINE], out[LINE];
        in[0] = load(d->top ? zeros : from);
#pragma GCC unroll 4
        for (int y = 1; y <= rows; y++) in[y] = load(from + (size_t)y * line);
        in[rows + 1] = load(d->bottom ? zeros : from + (size_t)(rows + 1) * line);
        input_line(out, in, rows);
        mid[0][x] = out[one];
        if (two < rows + 2) mid[1][x] = out[two];
    }
    input_row(v0, step, mid[0], columns);
    if (two < rows + 2) input_row(v1, step, mid[1], columns);
}

INLINE inputs inputs_of(const dscm_tile *t)
{
    return (inputs){.line = t->w * t->ld,
                    .ld = t->ld,
                    .top = t->y == 0,
                    .bottom = t->y + (size_t)t->rows == t->h,
                    .left = t->x == 0,
                    .right = t->x + (size_t)t->columns == t->w};
}

INLINE void input_tile(float *v, size_t step, const float *image, const dscm_tile *t,
                       const int rows, const int columns)
{
    inputs from = inputs_of(t);
    image += (t->y * t->w + t->x) * t->ld;
    for (size_t c = 0; c < t->channels; c += VW) {
        from.base = image + c - from.line - from.ld;
#pragma GCC unroll 3
        for (int pair = 0; pair < DSCM_WINOGRAD_PAIRS; pair++) {
            size_t at = step;
            OPAQUE(at);
            float *v0 = v + c + (size_t)(LINE * DSCM_WINOGRAD_PAIR_LINE(pair, 0)) * at;
            float *v1 = v + c + (size_t)(LINE * DSCM_WINOGRAD_PAIR_LINE(pair, 1)) * at;
            input_lines(v0, v1, at, &from, pair, rows, columns);
        }
    }
}

INLINE void input_pair_tile(float *v, size_t step, const float *image, const dscm_tile *t,
                            const int pair, const int rows, const int columns)
{
    inputs from = inputs_of(t);
    image += (t->y * t->w + t->x) * t->ld;
    for (size_t c = 0; c < t->channels; c += VW) {
        from.base = image + c - from.line - from.ld;
        input_lines(v + c, v + c + LINE * step, step, &from, pair, rows, columns);
    }
}

#define INPUT_TILE(rows, columns)                                                                  \
    static __attribute__((noinline)) void input_##rows##columns(                                   \
        float *v, size_t step, const float *image, const dscm_tile *t)                             \
    {                                                                                              \
        input_tile(v, step, image, t, rows, columns);                                              \
    }                                                                                              \
    INPUT_PAIR(0, rows, columns) INPUT_PAIR(1, rows, columns) INPUT_PAIR(2, rows, columns)
#define INPUT_PAIR(pair, rows, columns)                                                            \
    static __attribute__((noinline)) void input_pair##pair##_##rows##columns(                      \
        float *v, size_t step, const float *image, const dscm_tile *t)                             \
    {                                                                                              \
        input_pair_tile(v, step, image, t, pair, rows, columns);                                   \
    }
SIZES(INPUT_TILE)
#undef INPUT_PAIR
#undef INPUT_TILE

static void input(float *v, size_t step, const float *image, const dscm_tile *t)
{
#define INPUT(rows, columns) input_##rows##columns(v, step, image, t)
    EACH_SIZE(t->rows, t->columns, INPUT)
#undef INPUT
}

static void input_pair(float *v, size_t step, const float *image, const dscm_tile *t, int pair){
#define INPUT(rows, columns)                                                                       \
    (pair == 0   ? input_pair0_##rows##columns                                                     \
     : pair == 1 ? input_pair1_##rows##columns                                                     \
                 : input_pair2_##rows##columns)(v, step, image, t)
    EACH_SIZE(t->rows, t->columns, INPUT)
#undef INPUT
}

INLINE void output_grad_row(float *v, size_t step, const vf row[TILE], const int columns)
{
    vf out[LINE];
    output_grad_line(out, row, columns);
#pragma GCC unroll 6
    for (int x = 0; x < columns + 2; x++) store(v + (size_t)x * step, out[x]);
}

INLINE void output_grad_tile(float *v, size_t step, const float *image, const dscm_tile *t,
                             const int pair, const int rows, const int columns)
{
    const int one = DSCM_WINOGRAD_PAIR_LINE(pair, 0), two = DSCM_WINOGRAD_PAIR_LINE(pair, 1);
    const float *from = image + (t->y * t->w + t->x) * t->ld;
    if (one >= rows + 2) return;
    for (size_t c = 0; c < t->channels; c += VW) {
        vf mid[2][TILE], line[TILE], out[LINE];
#pragma GCC unroll 4
        for (int x = 0; x < columns; x++) {
#pragma GCC unroll 4
            for (int y = 0; y < rows; y++)
                line[y] = load(from + ((size_t)y * t->w + (size_t)x) * t->ld + c);
            output_grad_line(out, line, rows);
            mid[0][x] = out[one];
            if (two < rows + 2) mid[1][x] = out[two];
        }
        output_grad_row(v + c, step, mid[0], columns);
        if (two < rows + 2) output_grad_row(v + c + LINE * step, step, mid[1], columns);
    }
}

static void output_grad_pair(float *v, size_t step, const float *image, const dscm_tile *t,
                             int pair)
{
#define OUTPUT_GRAD(rows, columns)                                                                 \
    switch (pair) {                                                                                \
    case 0:                                                                                        \
        output_grad_tile(v, step, image, t, 0, rows, columns);                                     \
        break;                                                                                     \
    case 1:                                                                                        \
        output_grad_tile(v, step, image, t, 1, rows, columns);                                     \
        break;                                                                                     \
    default:                                                                                       \
        output_grad_tile(v, step, image, t, 2, rows, columns);                                     \
        break;                                                                                     \
    }
    EACH_SIZE(t->rows, t->columns, OUTPUT_GRAD)
#undef OUTPUT_GRAD
}

/* What is added to the outputs of a tile. */
typedef struct extras {
    const float *bias, *residual;
    size_t ldr;
    bool add;
} extras;

INLINE void output_tile(float *image, const float *m, size_t step, const dscm_tile *t,
                        const extras *e, const int rows, const int columns)
{
    size_t first = t->y * t->w + t->x;
    for (size_t c = 0; c < t->channels; c += VW) {
        vf mid[TILE][LINE], line[LINE], out[TILE];
#pragma GCC unroll 6
        for (int x = 0; x < columns + 2; x++) {
            const float *from = m + (size_t)x * step + c;
            OPAQUE(from);
#pragma GCC unroll 6
            for (int y = 0; y < rows + 2; y++) line[y] = load(from + (size_t)(LINE * y) * step);
            output_line(out, line, rows);
#pragma GCC unroll 4
            for (int y = 0; y < rows; y++) mid[y][x] = out[y];
        }
        vf shift = e->bias ? load(e->bias + c) : (vf){0};
#pragma GCC unroll 4
        for (int y = 0; y < rows; y++) {
            output_line(out, mid[y], columns);
            size_t pixel = first + (size_t)y * t->w;
            float *to = image + pixel * t->ld + c;
            OPAQUE(to);
#pragma GCC unroll 4
            for (int x = 0; x < columns; x++) out[x] += shift;
            if (e->residual) {
                const float *residual = e->residual + pixel * e->ldr + c;
                OPAQUE(residual);
#pragma GCC unroll 4
                for (int x = 0; x < columns; x++) out[x] += load(residual + (size_t)x * e->ldr);
            }
            if (e->add)
#pragma GCC unroll 4
                for (int x = 0; x < columns; x++) out[x] += load(to + (size_t)x * t->ld);
#pragma GCC unroll 4
            for (int x = 0; x < columns; x++) store(to + (size_t)x * t->ld, out[x]);
        }
    }
}

#define OUTPUT_TILE(rows, columns)                                                                 \
    static __attribute__((noinline)) void output_##rows##columns(                                  \
        float *image, const float *m, size_t step, const dscm_tile *t, const extras *e)            \
    {                                                                                              \
        output_tile(image, m, step, t, e, rows, columns);                                          \
    }
SIZES(OUTPUT_TILE)
#undef OUTPUT_TILE

static void output(float *image, const float *m, size_t step, const dscm_tile *t, const float *bias,
                   const float *residual, size_t ldr, bool add)
{
    const extras e = {.bias = bias, .residual = residual, .ldr = ldr, .add = add};
#define OUTPUT(rows, columns) output_##rows##columns(image, m, step, t, &e)
    EACH_SIZE(t->rows, t->columns, OUTPUT)
#undef OUTPUT
}

/* ---- weights ---- */
/* G applied to a line of three. */
INLINE void weight_line(vf out[LINE], const vf g[3])
{
    vf even = (g[0] + g[2]) * (1.0f / 6), odd = g[1] * (1.0f / 6);
    vf far_even = g[0] * (1.0f / 24) + g[2] * (1.0f / 6), far_odd = g[1] * (1.0f / 12);
    out[0] = g[0] * 0.25f;
    out[1] = -(even + odd);
    out[2] = g[2];
    out[3] = odd - even;
    out[4] = far_even + far_odd;
    out[5] = far_even - far_odd;
}

static void weights(float *u, size_t step, const float *taps)
{
    for (size_t c = 0; c < CB; c += VW) {
        vf mid[LINE][3], line[3], out[LINE];
#pragma GCC unroll 3
        for (int x = 0; x < 3; x++) {
#pragma GCC unroll 3
            for (int y = 0; y < 3; y++) line[y] = load(taps + (3 * y + x) * CB + c);
            weight_line(out, line);
#pragma GCC unroll 6
            for (int y = 0; y < LINE; y++) mid[y][x] = out[y];
        }
#pragma GCC unroll 6
        for (int y = 0; y < LINE; y++) {
            weight_line(out, mid[y]);
            float *to = u + (size_t)(LINE * y) * step + c;
            OPAQUE(to);
#pragma GCC unroll 6
            for (int x = 0; x < LINE; x++) store(to + (size_t)x * step, out[x]);
        }
    }
}

/* Gᵀ applied to a line of six. */
INLINE void weight_grad_line(vf out[3], const vf m[LINE])
{
    vf near = (m[1] + m[3]) * (1.0f / 6), far = m[4] + m[5];
    out[0] = m[0] * 0.25f - near + far * (1.0f / 24);
    out[1] = (m[3] - m[1]) * (1.0f / 6) + (m[4] - m[5]) * (1.0f / 12);
    out[2] = far * (1.0f / 6) - near + m[2];
}

static void weight_grad(float *taps, const float *m, size_t step)
{
    vf mid[3][LINE], line[LINE], out[3];
#pragma GCC unroll 6
    for (int x = 0; x < LINE; x++) {
#pragma GCC unroll 6
        for (int y = 0; y < LINE; y++) line[y] = load(m + (size_t)(LINE * y + x) * step);
        weight_grad_line(out, line);
#pragma GCC unroll 3
        for (int y = 0; y < 3; y++) mid[y][x] = out[y];
    }
#pragma GCC unroll 3
    for (int y = 0; y < 3; y++) {
        weight_grad_line(out, mid[y]);
#pragma GCC unroll 3
        for (int x = 0; x < 3; x++) store(taps + (3 * y + x) * VW, out[x]);
    }
}

const dscm_winograd_kernels ISA(dscm_winograd_kernels) = {
    .weights = weights,
    .weight_grad = weight_grad,
    .input = input,
    .input_pair = input_pair,
    .output_grad_pair = output_grad_pair,
    .output = output,
};
