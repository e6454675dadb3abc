#include "core/kernels/simd/conv_simd.h"

#include "core/kernels/simd/vec.h"

/* ---- multiply: MR pixels x 2 vectors of columns in registers
 * --------------------------------------- */
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

/* `rows` and `vectors` are constants at every call, so the loops unroll and acc stays in registers.
 */
INLINE void multiply_tile(const dscm_multiply *m, size_t p, size_t c, const float *w,
                          const int rows, const int vectors)
{
    vf acc[MR][2];
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++) acc[r][0] = acc[r][1] = (vf){0};
    const float *line = m->in + p * m->in_step;
    for (size_t s = 0; s < m->segs; s++, line += m->seg_step)
        for (size_t k = 0; k < m->k; k++, w += CB) {
            vf w0 = load(w), w1 = vectors > 1 ? load(w + VW) : w0;
#pragma GCC unroll 16
            for (int r = 0; r < rows; r++) {
                vf x = splat(line[(size_t)r * m->in_step + k]);
                acc[r][0] += x * w0;
                if (vectors > 1) acc[r][1] += x * w1;
            }
        }
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++) {
        finish(m, p + (size_t)r, c, acc[r][0]);
        if (vectors > 1) finish(m, p + (size_t)r, c + VW, acc[r][1]);
    }
}

INLINE void multiply_columns(const dscm_multiply *m, size_t c, const float *w, const int vectors)
{
    for (size_t p = 0, rows; p < m->pixels; p += rows) {
        size_t left = m->pixels - p, tiles = (left + MR - 1) / MR;
        rows = (left + tiles - 1) / tiles; /* even tiles: a short last one would waste its loads */
        switch (rows) {
#define ROWS(n)                                                                                    \
    case n:                                                                                        \
        multiply_tile(m, p, c, w, n, vectors);                                                     \
        break;
            ROWS(1)
            ROWS(2)
            ROWS(3)
            ROWS(4)
            ROWS(5)
            ROWS(6)
#if MR > 6
            ROWS(7)
            ROWS(8)
            ROWS(9)
            ROWS(10)
            ROWS(11)
            ROWS(12)
            ROWS(13)
            ROWS(14)
#endif
#undef ROWS
        default:
            break;
        }
    }
}

static void multiply(const dscm_multiply *m)
{
    const float *w = m->w;
    for (size_t c = 0; c < m->cols; c += CB, w += m->segs * m->k * CB) {
        if (m->cols - c > VW)
            multiply_columns(m, c, w, 2);
        else
            multiply_columns(m, c, w, 1);
    }
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

/* ---- outer: MR rows x 2 vectors of columns, summed over pixels
 * ------------------------------------- */
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

/* Full vectors of b are loaded, so `cols` must leave a whole tile except where `narrow` copies. */
INLINE void outer_tile(const dscm_outer *m, size_t r0, size_t c0, const int rows, const int vectors,
                       const size_t narrow)
{
    vf acc[MR][2];
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++) acc[r][0] = acc[r][1] = (vf){0};
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

INLINE void outer_columns(const dscm_outer *m, size_t c0, const int vectors, const size_t narrow)
{
    size_t r = 0;
    for (; r + MR <= m->rows; r += MR) outer_tile(m, r, c0, MR, vectors, narrow);
    for (; r + 4 <= m->rows; r += 4) outer_tile(m, r, c0, 4, vectors, narrow);
    for (; r < m->rows; r++) outer_tile(m, r, c0, 1, vectors, narrow);
}

static void outer(const dscm_outer *m)
{
    size_t c = 0;
    for (; c + CB <= m->cols; c += CB) outer_columns(m, c, 2, 0);
    for (; c + VW <= m->cols; c += VW) outer_columns(m, c, 1, 0);
    if (c < m->cols) outer_columns(m, c, 1, m->cols - c);
}

/* ---- Winograd F(4x4,3x3)
 * -------------------------------------------------------------------------- */
/* One line of Bᵀ d (Lavin & Gray 2016, §4.3). */
INLINE void input_line(vf out[6], const vf d[6])
{
    out[0] = 4 * d[0] - 5 * d[2] + d[4];
    vf even = d[4] - 4 * d[2], odd = d[3] - 4 * d[1];
    out[1] = even + odd;
    out[2] = even - odd;
    even = d[4] - d[2];
    odd = 2 * (d[3] - d[1]);
    out[3] = even + odd;
    out[4] = even - odd;
    out[5] = 4 * d[1] - 5 * d[3] + d[5];
}

/* One line of Aᵀ m. */
INLINE void output_line(vf out[4], const vf m[6])
{
    vf s1 = m[1] + m[2], d1 = m[1] - m[2], s2 = m[3] + m[4], d2 = m[3] - m[4];
    out[0] = m[0] + s1 + s2;
    out[1] = d1 + 2 * d2;
    out[2] = s1 + 4 * s2;
    out[3] = d1 + 8 * d2 + m[5];
}

/* One line of A y. */
INLINE void output_grad_line(vf out[6], const vf y[4])
{
    vf even = y[0] + y[2], odd = y[1] + y[3];
    out[0] = y[0];
    out[1] = even + odd;
    out[2] = even - odd;
    even = y[0] + 4 * y[2];
    odd = 2 * y[1] + 8 * y[3];
    out[3] = even + odd;
    out[4] = even - odd;
    out[5] = y[3];
}

INLINE vf tile_load(const float *image, const dscm_tile *t, int dy, int dx, size_t c)
{
    ptrdiff_t y = t->y + dy, x = t->x + dx;
    if (y < 0 || x < 0 || (size_t)y >= t->h || (size_t)x >= t->w) return (vf){0};
    return load(image + ((size_t)y * t->w + (size_t)x) * t->ld + c);
}

static void winograd_input(float *v, size_t step, const float *image, const dscm_tile *t)
{
    for (size_t c = 0; c < t->channels; c += VW) {
        vf mid[6][6], line[6], out[6];
#pragma GCC unroll 6
        for (int x = 0; x < 6; x++) {
#pragma GCC unroll 6
            for (int y = 0; y < 6; y++) line[y] = tile_load(image, t, y, x, c);
            input_line(out, line);
#pragma GCC unroll 6
            for (int y = 0; y < 6; y++) mid[y][x] = out[y];
        }
#pragma GCC unroll 6
        for (int y = 0; y < 6; y++) {
            input_line(out, mid[y]);
#pragma GCC unroll 6
            for (int x = 0; x < 6; x++) store(v + (size_t)(6 * y + x) * step + c, out[x]);
        }
    }
}

static void winograd_output_grad(float *v, size_t step, const float *image, const dscm_tile *t)
{
    for (size_t c = 0; c < t->channels; c += VW) {
        vf mid[6][4], line[4], out[6];
#pragma GCC unroll 4
        for (int x = 0; x < 4; x++) {
#pragma GCC unroll 4
            for (int y = 0; y < 4; y++) line[y] = tile_load(image, t, y, x, c);
            output_grad_line(out, line);
#pragma GCC unroll 6
            for (int y = 0; y < 6; y++) mid[y][x] = out[y];
        }
#pragma GCC unroll 6
        for (int y = 0; y < 6; y++) {
            output_grad_line(out, mid[y]);
#pragma GCC unroll 6
            for (int x = 0; x < 6; x++) store(v + (size_t)(6 * y + x) * step + c, out[x]);
        }
    }
}

/* ---- sums over pixels
 * ------------------------------------------------------------------------------- */
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

/* G of F(4x4,3x3) applied to a line of three. */
INLINE void weight_line(vf out[6], const vf g[3])
{
    vf even = (g[0] + g[2]) * (1.0f / 6), odd = g[1] * (1.0f / 6);
    vf far_even = g[0] * (1.0f / 24) + g[2] * (1.0f / 6), far_odd = g[1] * (1.0f / 12);
    out[0] = g[0] * 0.25f;
    out[1] = -(even + odd);
    out[2] = odd - even;
    out[3] = far_even + far_odd;
    out[4] = far_even - far_odd;
    out[5] = g[2];
}

static void winograd_weights(float *u, size_t step, const float *taps)
{
    for (size_t c = 0; c < CB; c += VW) {
        vf mid[6][3], line[3], out[6];
#pragma GCC unroll 3
        for (int x = 0; x < 3; x++) {
#pragma GCC unroll 3
            for (int y = 0; y < 3; y++) line[y] = load(taps + (3 * y + x) * CB + c);
            weight_line(out, line);
#pragma GCC unroll 6
            for (int y = 0; y < 6; y++) mid[y][x] = out[y];
        }
#pragma GCC unroll 6
        for (int y = 0; y < 6; y++) {
            weight_line(out, mid[y]);
#pragma GCC unroll 6
            for (int x = 0; x < 6; x++) store(u + (size_t)(6 * y + x) * step + c, out[x]);
        }
    }
}

/* Gᵀ applied to a line of six. */
INLINE void weight_grad_line(vf out[3], const vf m[6])
{
    vf near = (m[1] + m[2]) * (1.0f / 6), far = m[3] + m[4];
    out[0] = m[0] * 0.25f - near + far * (1.0f / 24);
    out[1] = (m[2] - m[1]) * (1.0f / 6) + (m[3] - m[4]) * (1.0f / 12);
    out[2] = far * (1.0f / 6) - near + m[5];
}

static void winograd_weight_grad(float *taps, const float *m, size_t step)
{
    vf mid[3][6], line[6], out[3];
#pragma GCC unroll 6
    for (int x = 0; x < 6; x++) {
#pragma GCC unroll 6
        for (int y = 0; y < 6; y++) line[y] = load(m + (size_t)(6 * y + x) * step);
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

static void winograd_output(float *image, const float *m, size_t step, const dscm_tile *t,
                            const float *bias, const float *residual, size_t ldr, bool add)
{
    size_t rows = t->h - (size_t)t->y < 4 ? t->h - (size_t)t->y : 4;
    size_t columns = t->w - (size_t)t->x < 4 ? t->w - (size_t)t->x : 4;
    for (size_t c = 0; c < t->channels; c += VW) {
        vf mid[4][6], line[6], out[4];
#pragma GCC unroll 6
        for (int x = 0; x < 6; x++) {
#pragma GCC unroll 6
            for (int y = 0; y < 6; y++) line[y] = load(m + (size_t)(6 * y + x) * step + c);
            output_line(out, line);
#pragma GCC unroll 4
            for (int y = 0; y < 4; y++) mid[y][x] = out[y];
        }
        vf shift = bias ? load(bias + c) : (vf){0};
        for (size_t y = 0; y < rows; y++) {
            output_line(out, mid[y]);
            for (size_t x = 0; x < columns; x++) {
                size_t pixel = ((size_t)t->y + y) * t->w + (size_t)t->x + x;
                vf value = out[x] + shift;
                if (residual) value += load(residual + pixel * ldr + c);
                float *place = image + pixel * t->ld + c;
                if (add) value += load(place);
                store(place, value);
            }
        }
    }
}

const dscm_conv_kernels ISA(dscm_conv_kernels) = {
    .vector = VW,
    .block = CB,
    .multiply = multiply,
    .outer = outer,
    .multiply_narrow = multiply_narrow,
    .column_sums = column_sums,
    .winograd_weights = winograd_weights,
    .winograd_weight_grad = winograd_weight_grad,
    .winograd_input = winograd_input,
    .winograd_output_grad = winograd_output_grad,
    .winograd_output = winograd_output,
};
