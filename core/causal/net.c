#include "core/causal/net.h"

#include <math.h>
#include <string.h>

#include "core/base/memory.h"

#define WIDTH_MIN 0.01 /* of a bin, as a share of the whole */
#define SLOPE_MIN 0.01

size_t causal_net_count(const causal_net *n)
{
    return n->outputs * (1 + n->features + n->hidden) + n->hidden * (n->features + 1);
}

dscm_code causal_net_open(causal_net *n, size_t features, size_t hidden, size_t outputs,
                          dscm_error *err)
{
    *n = (causal_net){.features = features, .hidden = hidden, .outputs = outputs};
    n->p = dscm_alloc(causal_net_count(n), sizeof *n->p, "mechanism", err);
    return n->p ? DSCM_OK : DSCM_E_MEMORY;
}

void causal_net_forward(double *out, double *h, const causal_net *n, const double *f)
{
    size_t nf = n->features, nh = n->hidden, no = n->outputs;
    const double *bias = n->p, *weights = bias + no, *inner = weights + no * nf;
    const double *inner_bias = inner + nh * nf, *output = inner_bias + nh;
    for (size_t j = 0; j < nh; j++) {
        double sum = inner_bias[j];
        for (size_t i = 0; i < nf; i++) sum += inner[j * nf + i] * f[i];
        h[j] = tanh(sum);
    }
    for (size_t o = 0; o < no; o++) {
        out[o] = bias[o];
        for (size_t i = 0; i < nf; i++) out[o] += weights[o * nf + i] * f[i];
        for (size_t j = 0; j < nh; j++) out[o] += output[o * nh + j] * h[j];
    }
}

void causal_net_backward(double *dp, const double *dout, const double *h, const causal_net *n,
                         const double *f)
{
    size_t nf = n->features, nh = n->hidden, no = n->outputs;
    double *dbias = dp, *dweights = dbias + no, *dinner = dweights + no * nf;
    double *dinner_bias = dinner + nh * nf, *doutput = dinner_bias + nh;
    const double *output = n->p + (doutput - dp);
    for (size_t o = 0; o < no; o++) {
        dbias[o] += dout[o];
        for (size_t i = 0; i < nf; i++) dweights[o * nf + i] += dout[o] * f[i];
        for (size_t j = 0; j < nh; j++) doutput[o * nh + j] += dout[o] * h[j];
    }
    for (size_t j = 0; j < nh; j++) {
        double dh = 0;
        for (size_t o = 0; o < no; o++) dh += dout[o] * output[o * nh + j];
        dh *= 1 - h[j] * h[j]; /* h = tanh(sum) */
        dinner_bias[j] += dh;
        for (size_t i = 0; i < nf; i++) dinner[j * nf + i] += dh * f[i];
    }
}

/* ---- spline ---- */

size_t causal_spline_count(const causal_spline *s)
{
    return s->bins ? 3 * s->bins - 1 : 0;
}

static void softmax(double *out, const double *in, size_t n)
{
    double most = in[0], sum = 0;
    for (size_t i = 1; i < n; i++) most = in[i] > most ? in[i] : most;
    for (size_t i = 0; i < n; i++) sum += out[i] = exp(in[i] - most);
    for (size_t i = 0; i < n; i++) out[i] /= sum;
}

/* Softplus with value 1 - SLOPE_MIN at 0. */
static double softplus(double v)
{
    double at = v + log(expm1(1 - SLOPE_MIN));
    return at > 30 ? at : log1p(exp(at));
}

static void place(double *knots, const double *logits, size_t bins)
{
    double share[CAUSAL_BINS_MAX];
    softmax(share, logits, bins);
    knots[0] = -CAUSAL_BOUND;
    for (size_t k = 0; k < bins; k++)
        knots[k + 1] =
            knots[k] + 2 * CAUSAL_BOUND * (WIDTH_MIN + (1 - WIDTH_MIN * (double)bins) * share[k]);
    knots[bins] = CAUSAL_BOUND;
}

void causal_spline_knots(causal_knots *out, const causal_spline *s)
{
    out->bins = s->bins;
    if (!s->bins) return;
    place(out->x, s->p, s->bins);
    place(out->y, s->p + s->bins, s->bins);
    out->slope[0] = out->slope[s->bins] = 1;
    for (size_t k = 1; k < s->bins; k++)
        out->slope[k] = SLOPE_MIN + softplus(s->p[2 * s->bins + k - 1]);
}

static size_t bin_of(const double *knots, size_t bins, double at)
{
    size_t low = 0, high = bins;
    while (high - low > 1) {
        size_t middle = (low + high) / 2;
        if (at < knots[middle])
            high = middle;
        else
            low = middle;
    }
    return low;
}

/* A number with its derivatives by the point and the six numbers of its bin. */
enum { BY_S, BY_X0, BY_X1, BY_Y0, BY_Y1, BY_D0, BY_D1, BY_COUNT };
typedef struct dual {
    double v, d[BY_COUNT];
} dual;

static dual variable(double v, int by)
{
    dual r = {.v = v};
    r.d[by] = 1;
    return r;
}
/* a scale + b other */
static dual mix(dual a, double scale, dual b, double other)
{
    dual r = {.v = a.v * scale + b.v * other};
    for (int i = 0; i < BY_COUNT; i++) r.d[i] = a.d[i] * scale + b.d[i] * other;
    return r;
}
static dual times(dual a, dual b)
{
    dual r = {.v = a.v * b.v};
    for (int i = 0; i < BY_COUNT; i++) r.d[i] = a.d[i] * b.v + a.v * b.d[i];
    return r;
}
static dual over(dual a, dual b)
{
    dual r = {.v = a.v / b.v};
    for (int i = 0; i < BY_COUNT; i++) r.d[i] = (a.d[i] - r.v * b.d[i]) / b.v;
    return r;
}

/* z and dz/ds within a bin. */
static void curve(dual *z, dual *slope, const causal_knots *k, size_t b, double at)
{
    dual s = variable(at, BY_S), x0 = variable(k->x[b], BY_X0), x1 = variable(k->x[b + 1], BY_X1);
    dual y0 = variable(k->y[b], BY_Y0), y1 = variable(k->y[b + 1], BY_Y1);
    dual d0 = variable(k->slope[b], BY_D0), d1 = variable(k->slope[b + 1], BY_D1);
    dual one = {.v = 1}, height = mix(y1, 1, y0, -1), width = mix(x1, 1, x0, -1);
    dual theta = over(mix(s, 1, x0, -1), width), delta = over(height, width);
    dual rest = mix(one, 1, theta, -1), both = times(theta, rest);
    /* z = y0 + h (delta theta^2 + d0 theta (1-theta)) / den */
    dual den = mix(delta, 1, times(mix(mix(d0, 1, d1, 1), 1, delta, -2), both), 1);
    dual num = times(height, mix(times(delta, times(theta, theta)), 1, times(d0, both), 1));
    *z = mix(y0, 1, over(num, den), 1);
    /* dz/ds = delta^2 (d1 theta^2 + 2 delta theta (1-theta) + d0 (1-theta)^2) / den^2 */
    dual sum = mix(times(d1, times(theta, theta)), 1, times(delta, both), 2);
    sum = mix(sum, 1, times(d0, times(rest, rest)), 1);
    *slope = over(times(times(delta, delta), sum), times(den, den));
}

double causal_spline_forward(const causal_knots *k, double s, double *log_slope)
{
    *log_slope = 0;
    if (!k->bins || !(fabs(s) < CAUSAL_BOUND)) return s;
    dual z, slope;
    curve(&z, &slope, k, bin_of(k->x, k->bins, s), s);
    *log_slope = log(slope.v);
    return z.v;
}

double causal_spline_inverse(const causal_knots *k, double z)
{
    if (!k->bins || !(fabs(z) < CAUSAL_BOUND)) return z;
    size_t b = bin_of(k->y, k->bins, z);
    double width = k->x[b + 1] - k->x[b], height = k->y[b + 1] - k->y[b], delta = height / width;
    double up = z - k->y[b], bend = k->slope[b + 1] + k->slope[b] - 2 * delta;
    double qa = height * (delta - k->slope[b]) + up * bend, qb = height * k->slope[b] - up * bend;
    double qc = -delta * up, root = qb * qb - 4 * qa * qc;
    double theta = 2 * qc / (-qb - sqrt(root > 0 ? root : 0));
    return k->x[b] + theta * width;
}

double causal_spline_backward(causal_knots *dk, const causal_knots *k, double s)
{
    if (!k->bins || !(fabs(s) < CAUSAL_BOUND)) return s; /* z = s */
    size_t b = bin_of(k->x, k->bins, s);
    dual z, slope;
    double d[BY_COUNT];
    curve(&z, &slope, k, b, s);
    for (int i = 0; i < BY_COUNT; i++) d[i] = z.v * z.d[i] - slope.d[i] / slope.v;
    dk->x[b] += d[BY_X0];
    dk->x[b + 1] += d[BY_X1];
    dk->y[b] += d[BY_Y0];
    dk->y[b + 1] += d[BY_Y1];
    dk->slope[b] += d[BY_D0];
    dk->slope[b + 1] += d[BY_D1];
    return d[BY_S];
}

/* Gradients of the logits from those by the inner knots, x[k] = -B + the sum of widths before. */
static void chain_knots(double *dlogits, const double *dknots, const double *logits, size_t bins)
{
    double share[CAUSAL_BINS_MAX], dshare[CAUSAL_BINS_MAX] = {0}, sum = 0, behind = 0;
    softmax(share, logits, bins);
    for (size_t k = bins; k-- > 0;) {
        dshare[k] = behind * 2 * CAUSAL_BOUND * (1 - WIDTH_MIN * (double)bins);
        behind += dknots[k]; /* knot k moves with widths 0..k-1; the last knot stays */
    }
    for (size_t k = 0; k < bins; k++) sum += dshare[k] * share[k];
    for (size_t k = 0; k < bins; k++) dlogits[k] += share[k] * (dshare[k] - sum);
}

void causal_spline_chain(double *dp, const causal_knots *dk, const causal_spline *s)
{
    if (!s->bins) return;
    chain_knots(dp, dk->x, s->p, s->bins);
    chain_knots(dp + s->bins, dk->y, s->p + s->bins, s->bins);
    for (size_t k = 1; k < s->bins; k++) {
        size_t i = 2 * s->bins + k - 1;
        dp[i] += dk->slope[k] / (1 + exp(-s->p[i] - log(expm1(1 - SLOPE_MIN))));
    }
}

void causal_adam(double *p, double *m, double *v, const double *grad, size_t count, size_t step,
                 double rate)
{
    double a = 1 - pow(0.9, (double)step), b = 1 - pow(0.999, (double)step);
    for (size_t i = 0; i < count; i++) {
        m[i] = 0.9 * m[i] + 0.1 * grad[i];
        v[i] = 0.999 * v[i] + 0.001 * grad[i] * grad[i];
        p[i] -= rate * (m[i] / a) / (sqrt(v[i] / b) + 1e-8);
    }
}
