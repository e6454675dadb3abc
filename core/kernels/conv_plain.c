/* Convolution in plain loops: the reference that the fast forms are compared with. */
#include "core/kernels/conv_internal.h"

static float plain_pixel(const dscm_conv_shape *s, dscm_conv_pass pass, const conv_view *v,
                         const dscm_conv_args *a, const float *image, size_t y, size_t x, size_t o)
{
    conv_weights from = dscm_conv_weights(s, pass, a->packed);
    int pad = v->kernel / 2, taps = v->kernel * v->kernel;
    float sum = 0;
    for (int ky = 0; ky < v->kernel; ky++)
        for (int kx = 0; kx < v->kernel; kx++) {
            ptrdiff_t iy = (ptrdiff_t)(y * v->stride) + ky - pad;
            ptrdiff_t ix = (ptrdiff_t)(x * v->stride) + kx - pad;
            ptrdiff_t d = (ptrdiff_t)v->dilate;
            if (iy < 0 || ix < 0 || iy % d || ix % d) continue;
            if (iy / d >= (ptrdiff_t)v->in_h || ix / d >= (ptrdiff_t)v->in_w) continue;
            const float *in = image + ((size_t)(iy / d) * v->in_w + (size_t)(ix / d)) * a->ldi;
            int tap = from.reversed ? taps - 1 - (ky * v->kernel + kx) : ky * v->kernel + kx;
            const float *w = from.w + o * from.out_step + tap;
            for (size_t i = 0; i < v->in_c; i++) sum += in[i] * w[i * from.in_step];
        }
    return sum;
}

void dscm_conv_plain_run(const dscm_conv_shape *s, dscm_conv_pass pass, const dscm_conv_args *a)
{
    conv_view v = dscm_conv_view(s, pass);
    for (size_t p = 0; p < a->batch * v.out_h * v.out_w; p++) {
        size_t b = p / (v.out_h * v.out_w), y = p / v.out_w % v.out_h, x = p % v.out_w;
        const float *image = a->in + b * v.in_h * v.in_w * a->ldi;
        for (size_t o = 0; o < v.out_c; o++) {
            float sum = plain_pixel(s, pass, &v, a, image, y, x, o);
            if (a->bias) sum += a->bias[o];
            if (a->residual) sum += a->residual[p * a->ldr + o];
            float *out = a->out + p * a->ldo + o;
            *out = a->add ? *out + sum : sum;
        }
    }
}

void dscm_conv_plain_weight_grad(const dscm_conv_shape *s, float *dw, const float *dout, size_t ldo,
                                 const float *in, size_t ldi, size_t batch)
{
    size_t ho = dscm_conv_out_h(s), wo = dscm_conv_out_w(s), k = (size_t)s->kernel;
    for (size_t e = 0; e < s->co * s->ci * k * k; e++) {
        size_t o = e / (s->ci * k * k), i = e / (k * k) % s->ci, ky = e / k % k, kx = e % k;
        float sum = 0;
        for (size_t p = 0; p < batch * ho * wo; p++) {
            size_t b = p / (ho * wo), y = p / wo % ho, x = p % wo;
            size_t iy = y * (size_t)s->stride + ky - k / 2, ix = x * (size_t)s->stride + kx - k / 2;
            if (iy >= s->h || ix >= s->w) continue; /* also what wrapped below zero */
            sum += dout[p * ldo + o] * in[((b * s->h + iy) * s->w + ix) * ldi + i];
        }
        dw[e] += sum;
    }
}
