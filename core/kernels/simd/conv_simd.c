#include "core/kernels/simd/conv_simd.h"

#include "core/kernels/simd/vec.h"

/* ---- multiply: MR pixels x 2 vectors of columns in registers ---- */
INLINE void finish_row(const dscm_multiply *m, size_t p, size_t c, vf v)
{
    float *out = m->out + p * m->ldo + c;
    if (m->bias) v += load(m->bias + c);
    if (m->residual) v += load(m->residual + p * m->ldr + c);
    if (m->add) v += load(out);
    store(out, v);
}

/* The last columns of a width that is no multiple of the vector: one by one. */
static void finish_part(const dscm_multiply *m, size_t p, size_t c, size_t count, const float *v)
{
    float *out = m->out + p * m->ldo + c;
    for (size_t i = 0; i < count; i++) {
        float sum = v[i];
        if (m->bias) sum += m->bias[c + i];
        if (m->residual) sum += m->residual[p * m->ldr + c + i];
        out[i] = m->add ? out[i] + sum : sum;
    }
}

INLINE void finish(const dscm_multiply *m, size_t p, size_t c, vf v)
{
    if (c + VW <= m->cols) {
        finish_row(m, p, c, v);
    } else if (c < m->cols) {
        float part[VW];
        store(part, v);
        finish_part(m, p, c, m->cols - c, part);
    }
}

/* `rows` and `blocks` are constants at every call, so the loops unroll and acc stays in registers.
 * A tile spans two vectors of columns per block, or one (`single`). Few rows take two blocks at a
 * time: enough independent sums to hide the latency of a multiply-add. */
INLINE void multiply_tile(const dscm_multiply *m, size_t p, size_t c, const float *w,
                          const int rows, const int blocks, const bool single)
{
    const int vectors = single ? 1 : 2 * blocks;
    const size_t next = m->segs * m->k * CB; /* from a block's weights to the next one's */
    vf acc[MR][4];
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) acc[r][v] = (vf){0};
    const float *line = m->in + p * m->in_step;
    const size_t step = m->in_step;
    for (size_t s = 0; s < m->segs; s++, line += m->seg_step) {
        const float *at[4];
#pragma GCC unroll 4
        for (int g = 0; g < 4; g++) {
            at[g] = line + (size_t)(4 * g) * step;
            OPAQUE(at[g]);
        }
        for (size_t k = 0; k < m->k; k++, w += CB) {
            vf y[4];
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++) y[v] = load(w + (v / 2) * next + (v % 2) * VW);
#pragma GCC unroll 16
            for (int r = 0; r < rows; r++) {
                vf x = splat(at[r / 4][(size_t)(r % 4) * step]);
#pragma GCC unroll 4
                for (int v = 0; v < vectors; v++) acc[r][v] += x * y[v];
            }
#pragma GCC unroll 4
            for (int g = 0; g < 4; g++) at[g]++;
        }
    }
    if (!m->bias && !m->residual && !m->add && c + (size_t)vectors * VW <= m->cols) {
#pragma GCC unroll 16
        for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++)
                store(m->out + (p + (size_t)r) * m->ldo + c + v * VW, acc[r][v]);
        return;
    }
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) finish(m, p + (size_t)r, c + (size_t)v * VW, acc[r][v]);
}

/* A function for each number of rows: the compiler allots registers well to one tile at a time
 * only.
 */
typedef void tile_fn(const dscm_multiply *m, size_t p, size_t c, const float *w);

#define TILE(n, blocks, single)                                                                    \
    static void tile_##n##_##blocks##_##single(const dscm_multiply *m, size_t p, size_t c,         \
                                               const float *w)                                     \
    {                                                                                              \
        multiply_tile(m, p, c, w, n, blocks, single);                                              \
    }
#define NAME(n, blocks, single) tile_##n##_##blocks##_##single,
#define FEW(f, ...)             f(1, __VA_ARGS__) f(2, __VA_ARGS__) f(3, __VA_ARGS__)
#define SOME(f, ...)            f(4, __VA_ARGS__) f(5, __VA_ARGS__) f(6, __VA_ARGS__)
#define MANY(f, ...)                                                                               \
    f(7, __VA_ARGS__) f(8, __VA_ARGS__) f(9, __VA_ARGS__) f(10, __VA_ARGS__) f(11, __VA_ARGS__)    \
        f(12, __VA_ARGS__) f(13, __VA_ARGS__) f(14, __VA_ARGS__)
#if MR > 6
#define FEW_ROWS          6 /* rows of a tile of two blocks */
#define UP_TO_FEW(f, ...) FEW(f, __VA_ARGS__) SOME(f, __VA_ARGS__)
#define UP_TO_MR(f, ...)  UP_TO_FEW(f, __VA_ARGS__) MANY(f, __VA_ARGS__)
#else
#define FEW_ROWS          3
#define UP_TO_FEW(f, ...) FEW(f, __VA_ARGS__)
#define UP_TO_MR(f, ...)  FEW(f, __VA_ARGS__) SOME(f, __VA_ARGS__)
#endif

UP_TO_FEW(TILE, 2, 0)
UP_TO_MR(TILE, 1, 0)
UP_TO_MR(TILE, 1, 1)
static tile_fn *const pair_tiles[] = {UP_TO_FEW(NAME, 2, 0)};
static tile_fn *const block_tiles[] = {UP_TO_MR(NAME, 1, 0)};
static tile_fn *const vector_tiles[] = {UP_TO_MR(NAME, 1, 1)};

static void multiply_columns(const dscm_multiply *m, size_t c, const float *w,
                             tile_fn *const *tiles)
{
    for (size_t p = 0, rows; p < m->pixels; p += rows) {
        size_t left = m->pixels - p, count = (left + MR - 1) / MR;
        rows = (left + count - 1) / count; /* even tiles: a short last one would waste its loads */
        tiles[rows - 1](m, p, c, w);
    }
}

static void multiply(const dscm_multiply *m)
{
    const size_t next = m->segs * m->k * CB;
    const float *w = m->w;
    size_t c = 0;
    if (m->pixels <= FEW_ROWS)
        for (; c + CB + VW < m->cols; c += 2 * CB, w += 2 * next)
            multiply_columns(m, c, w, pair_tiles);
    for (; c < m->cols; c += CB, w += next)
        multiply_columns(m, c, w, m->cols - c > VW ? block_tiles : vector_tiles);
}

static void multiply_narrow(const dscm_multiply *m)
{
    for (size_t p = 0; p < m->pixels; p++)
        for (size_t c = 0; c < m->cols; c++) {
            const float *w = m->w + c * m->segs * m->k, *line = m->in + p * m->in_step;
            vf acc0 = {0}, acc1 = {0};
            float rest = 0;
            for (size_t s = 0; s < m->segs; s++, line += m->seg_step, w += m->k) {
                size_t k = 0;
                for (; k + 2 * VW <= m->k; k += 2 * VW) {
                    acc0 += load(line + k) * load(w + k);
                    acc1 += load(line + k + VW) * load(w + k + VW);
                }
                for (; k + VW <= m->k; k += VW) acc0 += load(line + k) * load(w + k);
                for (; k < m->k; k++) rest += line[k] * w[k];
            }
            float sum = vsum(acc0 + acc1) + rest;
            finish_part(m, p, c, 1, &sum);
        }
}

/* ---- images of 3x3 pixels: all nine in registers ---- */
#define I3_VECTORS (MR > 6 ? 2 : 1) /* vectors of columns at a time: 9 sums each */

/* Adds the products of one tap: output (y,x) reads input (y + ky - 1, x + kx - 1). */
INLINE void image3_tap(vf acc[9][I3_VECTORS], const dscm_multiply *m, const float *w, const int tap)
{
    const float *at[3];
#pragma GCC unroll 3
    for (int y = 0; y < 3; y++) {
        at[y] = m->in + (size_t)(3 * y) * m->in_step;
        OPAQUE(at[y]);
    }
    for (size_t k = 0; k < m->k; k++, w += CB) {
        vf y[I3_VECTORS];
#pragma GCC unroll 2
        for (int v = 0; v < I3_VECTORS; v++) y[v] = load(w + v * VW);
#pragma GCC unroll 9
        for (int p = 0; p < 9; p++) {
            const int iy = p / 3 + tap / 3 - 1, ix = p % 3 + tap % 3 - 1;
            if (iy < 0 || iy > 2 || ix < 0 || ix > 2) continue;
            vf x = splat(at[iy][(size_t)ix * m->in_step + k]);
#pragma GCC unroll 2
            for (int v = 0; v < I3_VECTORS; v++) acc[p][v] += x * y[v];
        }
    }
}

static void image3_columns(const dscm_multiply *m, size_t c, const float *w)
{
    vf acc[9][I3_VECTORS];
    for (int p = 0; p < 9; p++)
        for (int v = 0; v < I3_VECTORS; v++) acc[p][v] = (vf){0};
#pragma GCC unroll 9
    for (int tap = 0; tap < 9; tap++) image3_tap(acc, m, w + (size_t)tap * m->k * CB, tap);
    for (size_t p = 0; p < 9; p++)
        for (size_t v = 0; v < I3_VECTORS; v++) finish(m, p, c + v * VW, acc[p][v]);
}

static void image3(const dscm_multiply *m)
{
    const float *w = m->w;
    for (size_t c = 0; c < m->cols; c += CB, w += 9 * m->k * CB)
        for (size_t v = 0; v < 2; v += I3_VECTORS)
            if (c + v * VW < m->cols) image3_columns(m, c + v * VW, w + v * VW);
}

/* ---- outer: MR rows x 2 vectors of columns, summed over pixels ---- */
INLINE void add_tail(float *out, vf v, size_t count)
{
    if (count >= VW) {
        store(out, load(out) + v);
        return;
    }
    float part[VW];
    store(part, v);
    for (size_t i = 0; i < count; i++) out[i] += part[i];
}

/* Asks for the sums that a tile is going to add to: far caches or memory hold them. */
INLINE void prefetch_sums(const dscm_outer *m, size_t r0, size_t c0, const int rows,
                          const int vectors)
{
    const float *line = m->acc + r0 * m->ldacc + c0;
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++, line += m->ldacc)
        for (int v = 0; v < vectors; v++) __builtin_prefetch(line + v * VW, 1);
}

/* `rows` and `vectors` are constants at every call. The last columns of a width that is no multiple
 * of the vector, `narrow` of them, are copied; 0: full vectors. */
INLINE void outer_tile(const dscm_outer *m, size_t r0, size_t c0, const int rows, const int vectors,
                       const size_t narrow)
{
    vf acc[MR][2];
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++) acc[r][0] = acc[r][1] = (vf){0};
    prefetch_sums(m, r0, c0, rows, vectors);
    for (size_t l = 0; l < m->lines; l++) {
        const float *a = m->a + l * m->a_line + r0, *b = m->b + l * m->b_line + c0;
        for (size_t p = 0; p < m->pixels; p++, a += m->a_step, b += m->b_step) {
            vf b0, b1;
            if (narrow) {
                float part[VW] = {0};
                for (size_t i = 0; i < narrow; i++) part[i] = b[i];
                b0 = load(part);
            } else {
                b0 = load(b);
            }
            b1 = vectors > 1 ? load(b + VW) : b0;
#pragma GCC unroll 16
            for (int r = 0; r < rows; r++) {
                vf x = splat(a[r]);
                acc[r][0] += x * b0;
                if (vectors > 1) acc[r][1] += x * b1;
            }
        }
    }
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++) {
        float *out = m->acc + (r0 + (size_t)r) * m->ldacc + c0;
        add_tail(out, acc[r][0], narrow ? narrow : VW);
        if (vectors > 1) add_tail(out + VW, acc[r][1], VW);
    }
}

/* A function for each number of rows, as above. */
typedef void outer_fn(const dscm_outer *m, size_t r0, size_t c0);

#define OUTER(n, vectors)                                                                          \
    static void outer_##n##_##vectors(const dscm_outer *m, size_t r0, size_t c0)                   \
    {                                                                                              \
        outer_tile(m, r0, c0, n, vectors, 0);                                                      \
    }
#define OUTER_NAME(n, vectors) outer_##n##_##vectors,

UP_TO_MR(OUTER, 2)
UP_TO_MR(OUTER, 1)
static outer_fn *const outer_pairs[] = {UP_TO_MR(OUTER_NAME, 2)};
static outer_fn *const outer_singles[] = {UP_TO_MR(OUTER_NAME, 1)};

static void outer_columns(const dscm_outer *m, size_t c0, outer_fn *const *tiles)
{
    for (size_t r = 0, rows; r < m->rows; r += rows) {
        size_t left = m->rows - r, count = (left + MR - 1) / MR;
        rows = (left + count - 1) / count; /* even tiles */
        tiles[rows - 1](m, r, c0);
    }
}

static void outer(const dscm_outer *m)
{
    size_t c = 0, r = 0;
    for (; c + CB <= m->cols; c += CB) outer_columns(m, c, outer_pairs);
    for (; c + VW <= m->cols; c += VW) outer_columns(m, c, outer_singles);
    if (c == m->cols) return;
    for (; r + 4 <= m->rows; r += 4) outer_tile(m, r, c, 4, 1, m->cols - c);
    for (; r < m->rows; r++) outer_tile(m, r, c, 1, 1, m->cols - c);
}

/* ---- sums over pixels ---- */
#define SUM_PIXELS ((size_t)256) /* short partial sums lose less to rounding than one long one */

INLINE vf sum_block(const float *in, size_t ld, size_t pixels)
{
    vf s[4] = {{0}};
    size_t p = 0;
    for (; p + 4 <= pixels; p += 4, in += 4 * ld)
#pragma GCC unroll 4
        for (size_t u = 0; u < 4; u++) s[u] += load(in + u * ld);
    for (; p < pixels; p++, in += ld) s[0] += load(in);
    return (s[0] + s[1]) + (s[2] + s[3]);
}

static void column_sums(float *sum, const float *in, size_t ld, size_t pixels, size_t channels)
{
    size_t c = 0;
    for (; c + VW <= channels; c += VW) {
        vf total = {0};
        for (size_t p = 0; p < pixels; p += SUM_PIXELS)
            total +=
                sum_block(in + p * ld + c, ld, pixels - p < SUM_PIXELS ? pixels - p : SUM_PIXELS);
        store(sum + c, load(sum + c) + total);
    }
    for (; c < channels; c++) {
        double total = 0;
        for (size_t p = 0; p < pixels; p++) total += (double)in[p * ld + c];
        sum[c] += (float)total;
    }
}

const dscm_conv_kernels ISA(dscm_conv_kernels) = {
    .vector = VW,
    .block = CB,
    .multiply = multiply,
    .outer = outer,
    .multiply_narrow = multiply_narrow,
    .image3 = image3,
    .column_sums = column_sums,
    .winograd = &ISA(dscm_winograd_kernels),
};
