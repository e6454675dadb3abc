/* Planner and dispatch of convolution; the algorithms are in conv_plain.c, conv_direct.c and
 * conv_winograd.c, that of strided input gradients in conv_strided.c. */
#include "core/kernels/conv.h"

#include <assert.h>
#include <string.h>

#include "core/base/memory.h"
#include "core/kernels/conv_internal.h"

const dscm_conv_kernels *dscm_conv_kernels_of(dscm_isa isa)
{
#if defined(__x86_64__)
    if (isa == DSCM_ISA_AVX512) return &dscm_conv_kernels_avx512;
    if (isa == DSCM_ISA_AVX2) return &dscm_conv_kernels_avx2;
#endif
    (void)isa;
    return &dscm_conv_kernels_base;
}

size_t dscm_conv_out_h(const dscm_conv_shape *shape)
{
    return (shape->h - 1) / (size_t)shape->stride + 1;
}

size_t dscm_conv_out_w(const dscm_conv_shape *shape)
{
    return (shape->w - 1) / (size_t)shape->stride + 1;
}

double dscm_conv_flops(const dscm_conv_shape *shape)
{
    return 2.0 * (double)(dscm_conv_out_h(shape) * dscm_conv_out_w(shape)) * (double)shape->ci *
           (double)shape->co * shape->kernel * shape->kernel;
}

conv_view dscm_conv_view(const dscm_conv_shape *shape, dscm_conv_pass pass)
{
    size_t ho = dscm_conv_out_h(shape), wo = dscm_conv_out_w(shape);
    if (pass == DSCM_CONV_INPUT_GRAD)
        return (conv_view){.in_h = ho,
                           .in_w = wo,
                           .out_h = shape->h,
                           .out_w = shape->w,
                           .in_c = shape->co,
                           .out_c = shape->ci,
                           .dilate = (size_t)shape->stride,
                           .stride = 1,
                           .kernel = shape->kernel,
                           .doubled = shape->doubled};
    return (conv_view){.in_h = shape->h,
                       .in_w = shape->w,
                       .out_h = ho,
                       .out_w = wo,
                       .in_c = shape->ci,
                       .out_c = shape->co,
                       .dilate = 1,
                       .stride = (size_t)shape->stride,
                       .kernel = shape->kernel,
                       .doubled = shape->doubled};
}

conv_weights dscm_conv_weights(const dscm_conv_shape *shape, dscm_conv_pass pass, const float *w)
{
    size_t taps = (size_t)(shape->kernel * shape->kernel);
    if (pass == DSCM_CONV_FORWARD)
        return (conv_weights){.w = w, .out_step = shape->ci * taps, .in_step = taps};
    return (conv_weights){.w = w, .out_step = taps, .in_step = shape->ci * taps, .reversed = true};
}

/* ---- planning ---- */
static bool supports(const dscm_conv_shape *s, dscm_isa isa, dscm_conv_pass pass,
                     dscm_conv_algo algo)
{
    size_t vector = dscm_conv_kernels_of(isa)->vector;
    switch (algo) {
    case DSCM_CONV_PLAIN:
        return true;
    case DSCM_CONV_DIRECT:
        return s->kernel == 3 || s->stride == 2;
    case DSCM_CONV_POINTWISE:
        return s->kernel == 1 && s->stride == 1;
    case DSCM_CONV_WINOGRAD:
        return s->kernel == 3 && s->stride == 1 && s->ci % vector == 0 && s->co % vector == 0;
    default:
        (void)pass;
        return false;
    }
}

/* Measured on an AVX-512 core: on images of a few pixels (a 3x3 one fills 9 of a tile's 16 outputs)
 * Winograd loses to the direct form at batch 1, where reading its four times larger weights is most
 * of the work, and gains nothing at batch 16. The batch itself must not choose: a picture would
 * then come out differently, in its last bits, in other company. */
#define WINOGRAD_MIN_PIXELS (DSCM_CONV_FEW_PIXELS + 1)
/* Weights beyond the caches are read from memory and transformed for few tiles only: measured at 192
 * to 2048 channels, four tiles (8x8 pixels) still take half the time of the direct form. */
#define WINOGRAD_CACHED_WEIGHTS  ((size_t)120000)
#define WINOGRAD_WIDE_MIN_PIXELS ((size_t)64)
/* The weight gradient sums over a whole batch before it needs its 36 accumulators per weight. */
#define WINOGRAD_GRAD_MIN_PIXELS      ((size_t)9)
#define WINOGRAD_WIDE_GRAD_MIN_PIXELS ((size_t)400)

static dscm_conv_algo choose(const dscm_conv_shape *s, dscm_isa isa, dscm_conv_pass pass)
{
    if (supports(s, isa, pass, DSCM_CONV_POINTWISE)) return DSCM_CONV_POINTWISE;
    bool grad = pass == DSCM_CONV_WEIGHT_GRAD, wide = s->ci * s->co > WINOGRAD_CACHED_WEIGHTS;
    size_t least = grad ? WINOGRAD_GRAD_MIN_PIXELS : WINOGRAD_MIN_PIXELS;
    if (wide) least = grad ? WINOGRAD_WIDE_GRAD_MIN_PIXELS : WINOGRAD_WIDE_MIN_PIXELS;
    if (s->h * s->w >= least && supports(s, isa, pass, DSCM_CONV_WINOGRAD))
        return DSCM_CONV_WINOGRAD;
    return DSCM_CONV_DIRECT;
}

dscm_conv dscm_conv_plan(dscm_conv_shape shape, dscm_isa isa, dscm_conv_algo algo)
{
    assert(shape.kernel == 1 || shape.kernel == 3);
    assert(shape.stride == 1 || shape.stride == 2);
    assert(shape.h && shape.w && shape.ci && shape.co);
    assert(!shape.doubled || (shape.h % 2 == 0 && shape.w % 2 == 0 && shape.stride == 1));
    dscm_conv plan = {.shape = shape, .isa = isa};
    for (int p = 0; p < DSCM_CONV_PASSES; p++) {
        dscm_conv_pass pass = (dscm_conv_pass)p;
        bool forced = algo != DSCM_CONV_AUTO && supports(&shape, isa, pass, algo);
        plan.algo[p] = forced ? algo : choose(&shape, isa, pass);
    }
    return plan;
}

/* ---- packed weights and scratch ---- */
size_t dscm_conv_packed_floats(const dscm_conv *plan, dscm_conv_pass pass)
{
    const dscm_conv_shape *s = &plan->shape;
    const dscm_conv_kernels *k = dscm_conv_kernels_of(plan->isa);
    conv_view v = dscm_conv_view(s, pass);
    if (pass == DSCM_CONV_WEIGHT_GRAD) return 0;
    switch (plan->algo[pass]) {
    case DSCM_CONV_PLAIN:
        return s->ci * s->co * (size_t)(s->kernel * s->kernel);
    case DSCM_CONV_WINOGRAD:
        return dscm_conv_winograd_floats(k, &v);
    default:
        return dscm_conv_direct_floats(k, &v);
    }
}

size_t dscm_conv_scratch_bytes(const dscm_conv *plan, dscm_conv_pass pass, size_t batch,
                               int threads)
{
    const dscm_conv_kernels *k = dscm_conv_kernels_of(plan->isa);
    conv_view v = dscm_conv_view(&plan->shape, pass);
    dscm_conv_algo algo = plan->algo[pass];
    if (algo == DSCM_CONV_PLAIN) return 0;
    if (pass == DSCM_CONV_WEIGHT_GRAD)
        return algo == DSCM_CONV_WINOGRAD ? dscm_conv_winograd_grad_scratch(&plan->shape) : 0;
    if (algo == DSCM_CONV_POINTWISE) return 0;
    if (algo == DSCM_CONV_WINOGRAD) return dscm_conv_winograd_scratch(k, &v, batch, threads);
    if (v.dilate > 1) return dscm_conv_strided_scratch(&v, threads);
    return dscm_conv_direct_scratch(&v, threads);
}

/* ---- weights as they are stored: packed part by part where the algorithm can, else all before ----
 */
static bool packs_on_the_way(const dscm_conv *plan, dscm_conv_pass pass)
{
    conv_view v = dscm_conv_view(&plan->shape, pass);
    dscm_conv_algo algo = plan->algo[pass];
    if (algo == DSCM_CONV_WINOGRAD) return true;
    return (algo == DSCM_CONV_DIRECT || algo == DSCM_CONV_POINTWISE) && dscm_conv_direct_passes(&v);
}

static size_t packed_bytes(const dscm_conv *plan, dscm_conv_pass pass)
{
    return dscm_arena_round(dscm_conv_packed_floats(plan, pass) * sizeof(float));
}

size_t dscm_conv_stored_bytes(const dscm_conv *plan, dscm_conv_pass pass, size_t batch, int threads)
{
    size_t bytes = dscm_conv_scratch_bytes(plan, pass, batch, threads);
    if (pass == DSCM_CONV_WEIGHT_GRAD) return bytes;
    if (!packs_on_the_way(plan, pass)) return bytes + packed_bytes(plan, pass);
    if (plan->algo[pass] == DSCM_CONV_WINOGRAD) return bytes; /* into the transform's registers */
    conv_view v = dscm_conv_view(&plan->shape, pass);
    return bytes + dscm_conv_direct_part(dscm_conv_kernels_of(plan->isa), &v) * (size_t)threads *
                       sizeof(float);
}

/* ---- running ---- */
static void run_with(const dscm_conv *plan, dscm_conv_pass pass, const dscm_conv_args *a,
                     const conv_packer *packer)
{
    const dscm_conv_kernels *k = dscm_conv_kernels_of(plan->isa);
    conv_view v = dscm_conv_view(&plan->shape, pass);
    switch (plan->algo[pass]) {
    case DSCM_CONV_PLAIN:
        dscm_conv_plain_run(&plan->shape, pass, a);
        break;
    case DSCM_CONV_WINOGRAD:
        dscm_conv_winograd_run(k, &v, a, packer);
        break;
    case DSCM_CONV_POINTWISE:
        dscm_conv_pointwise_run(k, &v, a, packer);
        break;
    default:
        if (v.dilate > 1)
            dscm_conv_strided_run(k, &v, a);
        else
            dscm_conv_direct_run(k, &v, a, packer);
        break;
    }
}

void dscm_conv_run(const dscm_conv *plan, dscm_conv_pass pass, const dscm_conv_args *args)
{
    assert(pass != DSCM_CONV_WEIGHT_GRAD);
    if (args->packed) {
        run_with(plan, pass, args, NULL);
    } else if (packs_on_the_way(plan, pass)) {
        conv_packer packer = dscm_conv_packer(plan, pass, args->stored, args->type);
        run_with(plan, pass, args, &packer);
    } else {
        dscm_conv_args packed = *args;
        dscm_conv_pack_from(plan, pass, args->scratch, args->stored, args->type, args->team);
        packed.packed = args->scratch;
        packed.scratch = (unsigned char *)args->scratch + packed_bytes(plan, pass);
        run_with(plan, pass, &packed, NULL);
    }
}

size_t dscm_conv_sums_floats(const dscm_conv *plan)
{
    const dscm_conv_shape *s = &plan->shape;
    bool winograd = plan->algo[DSCM_CONV_WEIGHT_GRAD] == DSCM_CONV_WINOGRAD;
    size_t taps = winograd ? DSCM_WINOGRAD_POINTS : (size_t)(s->kernel * s->kernel);
    return s->ci * s->co * taps;
}

void dscm_conv_weight_grad(const dscm_conv *plan, float *sums, float *db, const float *dout,
                           size_t ldo, const float *in, size_t ldi, size_t batch, void *scratch,
                           dscm_team *team)
{
    const dscm_conv_shape *s = &plan->shape;
    switch (plan->algo[DSCM_CONV_WEIGHT_GRAD]) {
    case DSCM_CONV_PLAIN:
        dscm_conv_plain_weight_grad(s, sums, dout, ldo, in, ldi, batch);
        break;
    case DSCM_CONV_WINOGRAD:
        dscm_conv_winograd_weight_grad(plan, sums, db, dout, ldo, in, ldi, batch, scratch, team);
        return;
    default:
        dscm_conv_direct_weight_grad(plan, sums, dout, ldo, in, ldi, batch, team);
        break;
    }
    if (db) /* db += Σ dout over all pixels */
        dscm_conv_kernels_of(plan->isa)->column_sums(
            db, dout, ldo, batch * dscm_conv_out_h(s) * dscm_conv_out_w(s), s->co);
}

void dscm_conv_weight_grad_finish(const dscm_conv *plan, float *dw, float *sums)
{
    size_t floats = dscm_conv_sums_floats(plan);
    switch (plan->algo[DSCM_CONV_WEIGHT_GRAD]) {
    case DSCM_CONV_PLAIN:
        for (size_t i = 0; i < floats; i++) dw[i] += sums[i];
        break;
    case DSCM_CONV_WINOGRAD:
        dscm_conv_winograd_grad_finish(plan, dw, sums);
        break;
    default:
        dscm_conv_direct_grad_finish(&plan->shape, dw, sums);
        break;
    }
    memset(sums, 0, floats * sizeof *sums);
}
