#include "core/kernels/simd/nn_simd.h"

#include <math.h>

#include "core/kernels/simd/vec.h"

enum { ACT_NONE, ACT_SILU, ACT_RELU };

/* e^x by range reduction to |r| <= ln2/2 and a degree-6 polynomial (coefficients of Cephes expf,
 * Moshier); relative error below 2e-7. Inputs are clamped so that the exponent stays finite. */
INLINE vf vexp(vf x)
{
    x = vmin(vmax(x, splat(-87.0f)), splat(88.0f));
    vf shifted = x * 1.44269504f + 12582912.0f; /* 1.5 * 2^23: the integer lands in the low bits */
    vf n = shifted - 12582912.0f;
    vf r = x - n * 0.693359375f;
    r = r + n * 2.12194440e-4f;
    vf p = splat(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    vi bits = (vi)shifted << 23; /* the magic number's own low bits are zero after the shift */
    return (vf)((vi)p + bits);
}

#if defined(__AVX512F__)
/* 1 / (1 + 2^t), t = -x log2(e), by scaling and by the reciprocal instruction with a Newton step;
 * polynomial of 2^f on |f| <= 1/2 from Cephes exp2f (Moshier). Relative error below 1e-6. */
INLINE vf vsigmoid(vf x)
{
    vf t = vmin(x * -1.44269504f, splat(126.0f)); /* stays finite */
    vf n = _mm512_roundscale_ps(t, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC), f = t - n;
    vf p = splat(1.535336188e-4f);
    p = p * f + 1.339887440e-3f;
    p = p * f + 9.618437358e-3f;
    p = p * f + 5.550332471e-2f;
    p = p * f + 2.402264791e-1f;
    p = p * f + 6.931472029e-1f;
    p = p * f + 1.0f;
    vf d = 1.0f + (vf)_mm512_scalef_ps(p, n), r = _mm512_rcp14_ps(d);
    return r + r * (1.0f - d * r);
}
#else
INLINE vf vsigmoid(vf x)
{
    return 1.0f / (1.0f + vexp(-x));
}
#endif

INLINE vf vact(vf x, const int act)
{
    if (act == ACT_SILU) return x * vsigmoid(x);
    if (act == ACT_RELU) return vmax(x, (vf){0});
    return x;
}

/* act'(x) */
INLINE vf vslope(vf x, const int act)
{
    if (act == ACT_SILU) {
        vf s = vsigmoid(x);
        return s * (1.0f + x * (1.0f - s));
    }
    if (act == ACT_RELU) return vselect(x > (vf){0}, splat(1.0f), (vf){0});
    return splat(1.0f);
}

/* The last channels of a width that is no multiple of the vector go through a zero-filled copy. */
INLINE vf load_part(const float *p, size_t count)
{
    float part[VW] = {0};
    for (size_t i = 0; i < count; i++) part[i] = p[i];
    return load(part);
}

INLINE void store_part(float *p, vf v, size_t count)
{
    float part[VW];
    store(part, v);
    for (size_t i = 0; i < count; i++) p[i] = part[i];
}

INLINE vf get(const float *p, size_t count)
{
    return count >= VW ? load(p) : load_part(p, count);
}

INLINE void put(float *p, vf v, size_t count)
{
    if (count >= VW)
        store(p, v);
    else
        store_part(p, v, count);
}

/* ---- lines of pixels: one vector of channels at a time; `n` is its number of channels, VW or, for
 * the last ones, fewer. A constant at the first call, so that full vectors are not asked. */
#define COLUMNS(call)                                                                              \
    do {                                                                                           \
        size_t c = 0, n = VW;                                                                      \
        for (; c + VW <= channels; c += VW) call;                                                  \
        n = channels - c;                                                                          \
        if (n) call;                                                                               \
    } while (0)

INLINE void moments_column(float *sum, float *squares, const float *x, size_t ld,
                           const float *pivot, size_t pixels, size_t n)
{
    vf s0 = {0}, q0 = {0}, s1 = {0}, q1 = {0}, base = get(pivot, n);
    size_t p = 0;
    for (; p + 2 <= pixels; p += 2) {
        vf a = get(x + p * ld, n) - base, b = get(x + (p + 1) * ld, n) - base;
        s0 += a;
        q0 += a * a;
        s1 += b;
        q1 += b * b;
    }
    if (p < pixels) {
        vf a = get(x + p * ld, n) - base;
        s0 += a;
        q0 += a * a;
    }
    put(sum, get(sum, n) + s0 + s1, n);
    put(squares, get(squares, n) + q0 + q1, n);
}

static void moments(float *sum, float *squares, const float *x, size_t ld, const float *pivot,
                    size_t pixels, size_t channels)
{
    COLUMNS(moments_column(sum + c, squares + c, x + c, ld, pivot + c, pixels, n));
}

INLINE void affine_column(float *out, size_t ldo, const float *x, size_t ld, const float *gain,
                          const float *shift, const int act, size_t pixels, size_t n)
{
    vf a = get(gain, n), b = get(shift, n);
    for (size_t p = 0; p < pixels; p++)
        put(out + p * ldo, vact(get(x + p * ld, n) * a + b, act), n);
}

static void affine(float *out, size_t ldo, const float *x, size_t ld, const float *gain,
                   const float *shift, int act, size_t pixels, size_t channels)
{
#define AFFINE(act)                                                                                \
    COLUMNS(affine_column(out + c, ldo, x + c, ld, gain + c, shift + c, act, pixels, n))
    if (act == ACT_SILU)
        AFFINE(ACT_SILU);
    else if (act == ACT_RELU)
        AFFINE(ACT_RELU);
    else
        AFFINE(ACT_NONE);
#undef AFFINE
}

/* Backward meets lines that were written long ago: asked for so many pixels ahead. */
#define AHEAD ((size_t)32)

INLINE void affine_backward_column(float *dy, size_t ldy, float *sum, float *cross,
                                   const float *dout, size_t ldo, const float *x, size_t ld,
                                   const float *gain, const float *shift, const float *mean,
                                   const int act, size_t pixels, size_t n)
{
    vf a = get(gain, n), b = get(shift, n), m = get(mean, n), s = {0}, q = {0};
    for (size_t p = 0; p < pixels; p++) {
        __builtin_prefetch(x + (p + AHEAD) * ld);
        __builtin_prefetch(dout + (p + AHEAD) * ldo);
        vf value = get(x + p * ld, n);
        vf d = get(dout + p * ldo, n) * vslope(value * a + b, act);
        put(dy + p * ldy, d, n);
        s += d;
        q += d * (value - m);
    }
    put(sum, get(sum, n) + s, n);
    put(cross, get(cross, n) + q, n);
}

static void affine_backward(float *dy, float *sum, float *cross, const float *dout, size_t ldo,
                            const float *x, size_t ld, const float *gain, const float *shift,
                            const float *mean, int act, size_t pixels, size_t channels)
{
#define BACKWARD(act)                                                                              \
    COLUMNS(affine_backward_column(dy + c, channels, sum + c, cross + c, dout + c, ldo, x + c, ld, \
                                   gain + c, shift + c, mean + c, act, pixels, n))
    if (act == ACT_SILU)
        BACKWARD(ACT_SILU);
    else if (act == ACT_RELU)
        BACKWARD(ACT_RELU);
    else
        BACKWARD(ACT_NONE);
#undef BACKWARD
}

INLINE void combine_column(float *dx, size_t ldd, const float *dy, size_t ldy, const float *x,
                           size_t ld, const float *p, const float *q, const float *r, bool add,
                           size_t pixels, size_t n)
{
    vf vp = get(p, n), vq = get(q, n), vr = get(r, n);
    for (size_t i = 0; i < pixels; i++) {
        __builtin_prefetch(dx + (i + AHEAD) * ldd, 1);
        vf d = vp * get(dy + i * ldy, n) + vq * get(x + i * ld, n) + vr;
        float *to = dx + i * ldd;
        put(to, add ? get(to, n) + d : d, n);
    }
}

static void combine(float *dx, size_t ldd, const float *dy, const float *x, size_t ld,
                    const float *p, const float *q, const float *r, bool add, size_t pixels,
                    size_t channels)
{
    COLUMNS(combine_column(dx + c, ldd, dy + c, channels, x + c, ld, p + c, q + c, r + c, add,
                           pixels, n));
}

static void act_line(float *out, const float *x, int act, size_t count)
{
    for (size_t i = 0; i < count; i += VW) {
        vf v = get(x + i, count - i);
        put(out + i, act == ACT_SILU ? vact(v, ACT_SILU) : vact(v, ACT_RELU), count - i);
    }
}

static void act_backward(float *dx, const float *dout, const float *x, int act, bool add,
                         size_t count)
{
    for (size_t i = 0; i < count; i += VW) {
        size_t n = count - i;
        vf v = get(x + i, n), slope = act == ACT_SILU ? vslope(v, ACT_SILU) : vslope(v, ACT_RELU);
        vf d = get(dout + i, n) * slope;
        put(dx + i, add ? get(dx + i, n) + d : d, n);
    }
}

INLINE float largest(const float *s, size_t n)
{
    float top = s[0];
    size_t i = 0;
    if (n >= VW) {
        vf most = load(s);
        for (i = VW; i + VW <= n; i += VW) most = vmax(load(s + i), most);
        for (size_t j = 0; j < VW; j++) top = most[j] > top ? most[j] : top;
    }
    for (; i < n; i++) top = s[i] > top ? s[i] : top;
    return top;
}

static void softmax(float *s, size_t ld, float scale, size_t rows, size_t n)
{
    for (size_t r = 0; r < rows; r++, s += ld) {
        float top = largest(s, n), total = 0;
        vf sum = {0};
        size_t i = 0;
        for (; i + VW <= n; i += VW) {
            vf e = vexp((load(s + i) - top) * scale);
            store(s + i, e);
            sum += e;
        }
        if (i < n) {
            float part[VW];
            store(part, vexp((load_part(s + i, n - i) - top) * scale));
            for (size_t j = 0; i + j < n; j++) total += s[i + j] = part[j];
        }
        float inverse = 1 / (total + vsum(sum));
        for (i = 0; i < n; i++) s[i] *= inverse;
    }
}

static void softmax_backward(float *ds, const float *p, float scale, size_t rows, size_t n)
{
    for (size_t r = 0; r < rows; r++, ds += n, p += n) {
        vf sum = {0};
        for (size_t i = 0; i < n; i += VW) sum += get(ds + i, n - i) * get(p + i, n - i);
        float dot = vsum(sum);
        for (size_t i = 0; i < n; i++) ds[i] = scale * p[i] * (ds[i] - dot);
    }
}

INLINE void spread_column(float *above, float *below, size_t ld, const float *from, size_t ld_from,
                          float weight, const bool add, size_t pixels, size_t n)
{
    for (size_t p = 0; p < pixels; p++, from += ld_from, above += 2 * ld, below += 2 * ld) {
        vf v = get(from, n) * weight;
        put(above, add ? get(above, n) + v : v, n);
        put(above + ld, add ? get(above + ld, n) + v : v, n);
        put(below, add ? get(below, n) + v : v, n);
        put(below + ld, add ? get(below + ld, n) + v : v, n);
    }
}

static void spread(float *above, float *below, size_t ld, const float *from, size_t ld_from,
                   float weight, bool add, size_t pixels, size_t channels)
{
    if (add)
        COLUMNS(
            spread_column(above + c, below + c, ld, from + c, ld_from, weight, true, pixels, n));
    else
        COLUMNS(
            spread_column(above + c, below + c, ld, from + c, ld_from, weight, false, pixels, n));
}

INLINE void gather_column(float *to, size_t ld_to, const float *above, const float *below,
                          size_t ld, float weight, const bool add, size_t pixels, size_t n)
{
    for (size_t p = 0; p < pixels; p++, to += ld_to, above += 2 * ld, below += 2 * ld) {
        vf v = (get(above, n) + get(above + ld, n)) + (get(below, n) + get(below + ld, n));
        put(to, add ? get(to, n) + v * weight : v * weight, n);
    }
}

static void gather(float *to, size_t ld_to, const float *above, const float *below, size_t ld,
                   float weight, bool add, size_t pixels, size_t channels)
{
    if (add)
        COLUMNS(gather_column(to + c, ld_to, above + c, below + c, ld, weight, true, pixels, n));
    else
        COLUMNS(gather_column(to + c, ld_to, above + c, below + c, ld, weight, false, pixels, n));
}

static void add(float *out, const float *a, const float *b, size_t count)
{
    for (size_t i = 0; i < count; i++) out[i] = a[i] + b[i];
}

/* ---- the optimizer ---- */
#define SQUARES_RUN ((size_t)64 * VW)

static double squares(const float *x, size_t count)
{
    double total = 0;
    for (size_t first = 0; first < count; first += SQUARES_RUN) {
        size_t end = count - first < SQUARES_RUN ? count : first + SQUARES_RUN;
        vf sum = {0};
        for (size_t i = first; i < end; i += VW) {
            vf a = get(x + i, end - i);
            sum += a * a;
        }
        total += (double)vsum(sum);
    }
    return total;
}

INLINE void adamw_vector(const dscm_adamw_run *run, size_t i, size_t n)
{
    vf g = get(run->grad + i, n) * run->scale, w = get(run->w + i, n), e = get(run->ema + i, n);
    vf m = get(run->m + i, n) * run->beta1 + g * (1 - run->beta1);
    vf v = get(run->v + i, n) * run->beta2 + g * g * (1 - run->beta2);
    w = w * run->decay - run->rate * (m * run->bias1) / (vsqrt(v * run->bias2) + run->eps);
    put(run->m + i, m, n);
    put(run->v + i, v, n);
    put(run->w + i, w, n);
    put(run->ema + i, e + run->follow * (w - e), n);
}

static void adamw(const dscm_adamw_run *run)
{
    size_t i = 0;
    for (; i + VW <= run->count; i += VW) adamw_vector(run, i, VW);
    if (i < run->count) adamw_vector(run, i, run->count - i);
}

const dscm_nn_kernels ISA(dscm_nn_kernels) = {
    .moments = moments,
    .affine = affine,
    .affine_backward = affine_backward,
    .combine = combine,
    .act = act_line,
    .act_backward = act_backward,
    .softmax = softmax,
    .softmax_backward = softmax_backward,
    .spread = spread,
    .gather = gather,
    .squares = squares,
    .adamw = adamw,
    .add = add,
};
