/* Every pass, algorithm and instruction set against a naive double reference. */
#include "core/base/memory.h"
#include "core/base/rng.h"
#include "core/kernels/conv.h"
#include "core/kernels/gemm.h"
#include "tests/harness.h"
#include <dlfcn.h>

#define GUARD 64 /* floats before and after every buffer */

typedef struct buffer {
    float *base, *data;
    size_t count;
} buffer;

static buffer buffer_open(size_t count, float fill)
{
    buffer b = {.count = count};
    dscm_error err = {0};
    b.base = dscm_alloc(count + 2 * GUARD, sizeof(float), "buffer", &err);
    if (!b.base) abort();
    b.data = b.base + GUARD;
    for (size_t i = 0; i < count + 2 * GUARD; i++)
        b.base[i] = i < GUARD || i >= GUARD + count ? 12345.0f : fill;
    return b;
}

static void buffer_close(buffer *b, const char *what)
{
    for (size_t i = 0; i < GUARD; i++)
        if (b->base[i] != 12345.0f || b->data[b->count + i] != 12345.0f) {
            TEST_FAIL_("%s: written outside", what);
            break;
        }
    dscm_free(b->base);
}

static void fill_random(buffer *b, uint64_t stream)
{
    dscm_rng rng = dscm_rng_make(test_seed, stream);
    dscm_rng_normal(&rng, b->data, b->count);
}

typedef struct problem {
    dscm_conv_shape s;
    size_t batch, ldi, ldo, ho, wo;
    buffer in, w, bias, dout;
    double *out_terms, *in_terms, *w_terms; /* what each pass must sum up, without bias */
} problem;

/* Calls f for every product term of the convolution. */
typedef void term_fn(double *to, const problem *p, size_t in, size_t w, size_t out);

static void each_term(const problem *p, double *to, term_fn *f)
{
    const dscm_conv_shape *s = &p->s;
    size_t k = (size_t)s->kernel;
    for (size_t q = 0; q < p->batch * p->ho * p->wo; q++)
        for (size_t t = 0; t < k * k; t++) {
            size_t b = q / (p->ho * p->wo), y = q / p->wo % p->ho, x = q % p->wo;
            ptrdiff_t iy = (ptrdiff_t)(y * (size_t)s->stride + t / k) - s->kernel / 2;
            ptrdiff_t ix = (ptrdiff_t)(x * (size_t)s->stride + t % k) - s->kernel / 2;
            if (iy < 0 || ix < 0 || iy >= (ptrdiff_t)s->h || ix >= (ptrdiff_t)s->w) continue;
            for (size_t o = 0; o < s->co; o++)
                for (size_t i = 0; i < s->ci; i++)
                    f(to, p, ((b * s->h + (size_t)iy) * s->w + (size_t)ix) * p->ldi + i,
                      (o * s->ci + i) * k * k + t, q * p->ldo + o);
        }
}

static void term_forward(double *to, const problem *p, size_t in, size_t w, size_t out)
{
    to[out] += (double)p->in.data[in] * p->w.data[w];
}

static void term_input(double *to, const problem *p, size_t in, size_t w, size_t out)
{
    to[in] += (double)p->dout.data[out] * p->w.data[w];
}

static void term_weight(double *to, const problem *p, size_t in, size_t w, size_t out)
{
    to[w] += (double)p->dout.data[out] * p->in.data[in];
}

static double *terms(const problem *p, size_t count, term_fn *f)
{
    double *sums = calloc(count, sizeof *sums);
    if (!sums) abort();
    each_term(p, sums, f);
    return sums;
}

/* The first of the two by two pixels that float i of the input belongs to. */
static size_t first_of_four(const problem *p, size_t i)
{
    size_t line = p->s.w * p->ldi, x = i / p->ldi % p->s.w, y = i / line % p->s.h;
    return i - y % 2 * line - x % 2 * p->ldi;
}

static problem problem_open(dscm_conv_shape s, size_t batch, size_t extra)
{
    problem p = {.s = s, .batch = batch, .ldi = s.ci + extra, .ldo = s.co + 2 * extra};
    p.ho = dscm_conv_out_h(&s);
    p.wo = dscm_conv_out_w(&s);
    p.in = buffer_open(batch * s.h * s.w * p.ldi, 0);
    p.w = buffer_open(s.co * s.ci * (size_t)(s.kernel * s.kernel), 0);
    p.bias = buffer_open(s.co, 0);
    p.dout = buffer_open(batch * p.ho * p.wo * p.ldo, 0);
    fill_random(&p.in, 1);
    for (size_t i = 0; s.doubled && i < p.in.count; i++)
        p.in.data[i] = p.in.data[first_of_four(&p, i)];
    fill_random(&p.w, 2);
    fill_random(&p.bias, 3);
    fill_random(&p.dout, 4);
    p.out_terms = terms(&p, p.dout.count, term_forward);
    p.in_terms = terms(&p, p.in.count, term_input);
    p.w_terms = terms(&p, p.w.count, term_weight);
    return p;
}

static void problem_close(problem *p)
{
    buffer_close(&p->in, "in");
    buffer_close(&p->w, "w");
    buffer_close(&p->bias, "bias");
    buffer_close(&p->dout, "dout");
    free(p->out_terms);
    free(p->in_terms);
    free(p->w_terms);
}

/* Largest difference over the largest magnitude, over the entries that are channels (not gaps). */
static double compare(const float *got, const double *want, size_t count, size_t ld,
                      size_t channels)
{
    double gap = 0, size = 0;
    for (size_t i = 0; i < count; i++) {
        if (i % ld >= channels) continue;
        double d = fabs((double)got[i] - want[i]);
        if (!(d <= gap)) gap = d;
        if (fabs(want[i]) > size) size = fabs(want[i]);
    }
    return gap / (size > 0 ? size : 1);
}

static const char *const algo_names[] = {"auto", "plain", "direct", "winograd", "gemm"};

static void report(const problem *p, const dscm_conv *plan, dscm_conv_pass pass, double error)
{
    double tolerance = plan->algo[pass] == DSCM_CONV_WINOGRAD ? 1e-4 : 1e-5;
    if (error <= tolerance) return;
    TEST_FAIL_("%zux%zu ci %zu co %zu k %d stride %d batch %zu %s %s pass %d: error %.3g > %.1g",
               p->s.h, p->s.w, p->s.ci, p->s.co, p->s.kernel, p->s.stride, p->batch,
               dscm_isa_name(plan->isa), algo_names[plan->algo[pass]], pass, error, tolerance);
}

typedef struct setting {
    dscm_isa isa;
    dscm_conv_algo algo;
    dscm_team *team;
} setting;

static buffer scratch_for(const dscm_conv *plan, dscm_conv_pass pass, size_t batch, dscm_team *team)
{
    size_t bytes = dscm_conv_scratch_bytes(plan, pass, batch, dscm_team_size(team));
    return buffer_open(bytes / sizeof(float), NAN);
}

static dscm_conv_args args_of(const problem *p, dscm_conv_pass pass, const buffer *out,
                              const buffer *packed, const buffer *scratch, dscm_team *team)
{
    bool forward = pass == DSCM_CONV_FORWARD;
    return (dscm_conv_args){.out = out->data,
                            .ldo = forward ? p->ldo : p->ldi,
                            .in = forward ? p->in.data : p->dout.data,
                            .ldi = forward ? p->ldi : p->ldo,
                            .packed = packed ? packed->data : NULL,
                            .stored = p->w.data,
                            .type = DSCM_STORE_F32,
                            .batch = p->batch,
                            .scratch = scratch->data,
                            .team = team};
}

/* Weights that are packed on the way give the same bits as weights that were packed before. */
static void check_stored(const problem *p, const dscm_conv *plan, dscm_conv_pass pass,
                         const buffer *want, dscm_team *team)
{
    buffer got = buffer_open(want->count, NAN);
    size_t bytes = dscm_conv_stored_bytes(plan, pass, p->batch, dscm_team_size(team));
    buffer scratch = buffer_open(bytes / sizeof(float), NAN);
    dscm_conv_args a = args_of(p, pass, &got, NULL, &scratch, team);
    if (pass == DSCM_CONV_FORWARD) a.bias = p->bias.data;
    dscm_conv_run(plan, pass, &a);
    CHECK_INT(memcmp(got.data, want->data, got.count * sizeof(float)), 0);
    buffer_close(&scratch, "scratch");
    buffer_close(&got, "stored");
}

static void check_forward(const problem *p, const dscm_conv *plan, dscm_team *team)
{
    size_t n = p->dout.count;
    const double *want = p->out_terms;
    for (int variant = 0; variant < 3; variant++) { /* bias; nothing; bias and residual in place */
        buffer packed = buffer_open(dscm_conv_packed_floats(plan, DSCM_CONV_FORWARD), NAN);
        buffer scratch = scratch_for(plan, DSCM_CONV_FORWARD, p->batch, team);
        buffer out = buffer_open(n, NAN);
        double *target = malloc(n * sizeof *target);
        if (variant == 2) fill_random(&out, 9);
        for (size_t i = 0; i < n; i++) {
            size_t c = i % p->ldo;
            target[i] = want[i] + (variant != 1 && c < p->s.co ? p->bias.data[c] : 0) +
                        (variant == 2 ? out.data[i] : 0);
        }
        dscm_conv_pack(plan, DSCM_CONV_FORWARD, packed.data, p->w.data);
        dscm_conv_args a = args_of(p, DSCM_CONV_FORWARD, &out, &packed, &scratch, team);
        a.bias = variant == 1 ? NULL : p->bias.data;
        a.residual = variant == 2 ? out.data : NULL;
        a.ldr = p->ldo;
        dscm_conv_run(plan, DSCM_CONV_FORWARD, &a);
        report(p, plan, DSCM_CONV_FORWARD, compare(out.data, target, n, p->ldo, p->s.co));
        if (variant == 0) check_stored(p, plan, DSCM_CONV_FORWARD, &out, team);
        free(target);
        buffer_close(&out, "out");
        buffer_close(&scratch, "scratch");
        buffer_close(&packed, "packed");
    }
}

/* Compares an input gradient; of a doubled image the sums of four pixels count. */
static double compare_input_grad(const problem *p, const float *got, const double *want)
{
    size_t n = p->in.count;
    if (!p->s.doubled) return compare(got, want, n, p->ldi, p->s.ci);
    float *got_sums = calloc(n, sizeof *got_sums);
    double *want_sums = calloc(n, sizeof *want_sums);
    if (!got_sums || !want_sums) abort();
    for (size_t i = 0; i < n; i++) {
        if (i % p->ldi >= p->s.ci) continue;
        got_sums[first_of_four(p, i)] += got[i];
        want_sums[first_of_four(p, i)] += want[i];
    }
    double gap = compare(got_sums, want_sums, n, p->ldi, p->s.ci);
    free(got_sums);
    free(want_sums);
    return gap;
}

static void check_input_grad(const problem *p, const dscm_conv *plan, dscm_team *team)
{
    size_t n = p->in.count;
    double *want = malloc(n * sizeof *want);
    if (!want) abort();
    memcpy(want, p->in_terms, n * sizeof *want);
    buffer packed = buffer_open(dscm_conv_packed_floats(plan, DSCM_CONV_INPUT_GRAD), NAN);
    buffer scratch = scratch_for(plan, DSCM_CONV_INPUT_GRAD, p->batch, team);
    buffer din = buffer_open(n, NAN);
    dscm_conv_pack(plan, DSCM_CONV_INPUT_GRAD, packed.data, p->w.data);
    for (int times = 1; times <= 2; times++) {
        dscm_conv_args a = args_of(p, DSCM_CONV_INPUT_GRAD, &din, &packed, &scratch, team);
        a.add = times == 2;
        dscm_conv_run(plan, DSCM_CONV_INPUT_GRAD, &a);
        report(p, plan, DSCM_CONV_INPUT_GRAD, compare_input_grad(p, din.data, want));
        if (times == 1) check_stored(p, plan, DSCM_CONV_INPUT_GRAD, &din, team);
        for (size_t i = 0; i < n; i++) want[i] *= 2;
    }
    free(want);
    buffer_close(&din, "din");
    buffer_close(&scratch, "scratch");
    buffer_close(&packed, "packed");
}

static void check_weight_grad(const problem *p, const dscm_conv *plan, dscm_team *team)
{
    size_t n = p->w.count;
    buffer scratch = scratch_for(plan, DSCM_CONV_WEIGHT_GRAD, p->batch, team);
    buffer dw = buffer_open(n, 0), once = buffer_open(n, 0), db = buffer_open(p->s.co, 0);
    buffer sums = buffer_open(dscm_conv_sums_floats(plan), 0), zero = buffer_open(sums.count, 0);
    for (int times = 1; times <= 2; times++) {
        dscm_conv_weight_grad(plan, sums.data, times == 1 ? db.data : NULL, p->dout.data, p->ldo,
                              p->in.data, p->ldi, p->batch, scratch.data, team);
        dscm_conv_weight_grad_finish(plan, dw.data, sums.data);
        CHECK(memcmp(sums.data, zero.data, sums.count * sizeof(float)) == 0);
        if (times == 1) memcpy(once.data, dw.data, n * sizeof(float));
    }
    report(p, plan, DSCM_CONV_WEIGHT_GRAD, compare(once.data, p->w_terms, n, 1, 1));
    for (size_t i = 0; i < n; i++)
        if (dw.data[i] != 2 * once.data[i]) {
            TEST_FAIL_("a second call does not give exactly twice the weight gradient");
            break;
        }
    double *sum = calloc(p->s.co, sizeof *sum);
    for (size_t i = 0; i < p->dout.count; i++)
        if (i % p->ldo < p->s.co) sum[i % p->ldo] += p->dout.data[i];
    CHECK(compare(db.data, sum, p->s.co, 1, 1) < 1e-4);
    free(sum);
    buffer_close(&sums, "sums");
    buffer_close(&zero, "zero");
    buffer_close(&dw, "dw");
    buffer_close(&once, "once");
    buffer_close(&db, "db");
    buffer_close(&scratch, "scratch");
}

static void check_problem(const problem *p, setting how)
{
    dscm_conv plan = dscm_conv_plan(p->s, how.isa, how.algo);
    check_forward(p, &plan, how.team);
    check_input_grad(p, &plan, how.team);
    check_weight_grad(p, &plan, how.team);
}

/* By every instruction set. */
static void check_shape(dscm_conv_shape s, size_t batch, size_t extra, dscm_team *team)
{
    problem p = problem_open(s, batch, extra);
    for (int isa = 0; isa <= (int)dscm_cpu_best_isa(); isa++)
        check_problem(&p, (setting){(dscm_isa)isa, DSCM_CONV_AUTO, team});
    problem_close(&p);
}

static const struct {
    size_t h, w, ci, co, batch, extra;
} shapes[] = {{1, 1, 1, 1, 1, 0},     {1, 1, 16, 32, 3, 0},  {2, 3, 3, 5, 2, 1},
              {3, 3, 64, 32, 2, 0},   {7, 7, 32, 64, 3, 0},  {5, 9, 16, 16, 1, 3},
              {14, 14, 32, 32, 2, 0}, {28, 28, 1, 32, 1, 0}, {9, 8, 32, 1, 2, 2},
              {6, 6, 3, 6, 1, 0},     {8, 5, 48, 80, 1, 16}, {13, 4, 10, 2, 1, 0},
              {17, 31, 8, 24, 1, 0},  {3, 3, 20, 53, 5, 1},  {3, 3, 5, 40, 1, 0}};

/* Alone and in a team, which does the same steps: sanitizers look at it alone. */
static void every_way(const problem *p, dscm_team *team)
{
    for (int isa = 0; isa <= (int)dscm_cpu_best_isa(); isa++)
        for (int algo = DSCM_CONV_AUTO; algo < DSCM_CONV_ALGOS; algo++) {
            if (!TEST_INSTRUMENTED)
                check_problem(p, (setting){(dscm_isa)isa, (dscm_conv_algo)algo, NULL});
            check_problem(p, (setting){(dscm_isa)isa, (dscm_conv_algo)algo, team});
        }
}

static void every_shape(void)
{
    dscm_team *team = NULL;
    dscm_error err = {0};
    REQUIRE(dscm_team_open(&team, 3, &err) == DSCM_OK);
    for (size_t i = 0; i < TEST_COUNT(shapes); i++)
        for (int kernel = 1; kernel <= 3; kernel += 2)
            for (int stride = 1; stride <= 2; stride++) {
                dscm_conv_shape s = {shapes[i].h, shapes[i].w, shapes[i].ci, shapes[i].co,
                                     kernel,      stride,      false};
                problem p = problem_open(s, shapes[i].batch, shapes[i].extra);
                every_way(&p, team);
                problem_close(&p);
            }
    dscm_team_free(team);
}

static void doubled_images(void)
{
    static const dscm_conv_shape doubled[] = {{14, 14, 32, 16, 3, 1, true},
                                              {8, 10, 16, 48, 3, 1, true},
                                              {2, 28, 48, 32, 3, 1, true},
                                              {6, 4, 5, 3, 3, 1, true}};
    dscm_team *team = NULL;
    REQUIRE(dscm_team_open(&team, 3, NULL) == DSCM_OK);
    for (size_t i = 0; i < TEST_COUNT(doubled); i++) {
        problem p = problem_open(doubled[i], 2, i);
        every_way(&p, team);
        problem_close(&p);
    }
    dscm_team_free(team);
}

/* Weights beyond the caches take another path, and rarely a Winograd plan. */
static void wide_layers(void)
{
    dscm_team *team = NULL;
    REQUIRE(dscm_team_open(&team, 2, NULL) == DSCM_OK);
    for (int stride = 1; stride <= 2; stride++) {
        dscm_team *workers = stride == 2 ? team : NULL;
        check_shape((dscm_conv_shape){7, 12, 356, 360, 3, stride, false}, 2, 4, workers);
        check_shape((dscm_conv_shape){8, 11, 352, 368, 3, stride, false}, 1, 0, workers);
        check_shape((dscm_conv_shape){9, 14, 300, 257, 1, stride, false}, 2, 4, workers);
        check_shape((dscm_conv_shape){1, 1, 300, 257, 1, stride, false}, 1, 0, workers);
    }
    dscm_team_free(team);
    dscm_conv_shape s = {7, 9, 1024, 1024, 3, 1, false};
    dscm_isa isa = dscm_cpu_best_isa();
    CHECK_INT(dscm_conv_plan(s, isa, DSCM_CONV_AUTO).algo[DSCM_CONV_FORWARD], DSCM_CONV_DIRECT);
    s.h = 8;
    CHECK_INT(dscm_conv_plan(s, isa, DSCM_CONV_AUTO).algo[DSCM_CONV_FORWARD], DSCM_CONV_WINOGRAD);
}

/* Scratch is taken for the largest batch; blocks of a smaller or larger one differ in length. */
static void scratch_serves_every_batch(void)
{
    dscm_conv_shape s = {32, 32, 16, 16, 3, 1, false};
    dscm_conv plan = dscm_conv_plan(s, dscm_cpu_best_isa(), DSCM_CONV_WINOGRAD);
    buffer scratch = scratch_for(&plan, DSCM_CONV_FORWARD, 7, NULL);
    buffer packed = buffer_open(dscm_conv_packed_floats(&plan, DSCM_CONV_FORWARD), 0.5f);
    buffer in = buffer_open(7 * 1024 * 16, 1), out = buffer_open(7 * 1024 * 16, NAN);
    dscm_conv_args a = {.out = out.data,
                        .ldo = 16,
                        .in = in.data,
                        .ldi = 16,
                        .packed = packed.data,
                        .scratch = scratch.data};
    for (a.batch = 1; a.batch <= 7; a.batch++) dscm_conv_run(&plan, DSCM_CONV_FORWARD, &a);
    CHECK(isfinite(out.data[out.count - 1]));
    buffer_close(&scratch, "scratch");
    buffer_close(&packed, "packed");
    buffer_close(&in, "in");
    buffer_close(&out, "out");
}

/* The planner must not fall back silently: a forced algorithm is used where the shape allows it. */
static void forced_algorithms_are_used(void)
{
    dscm_conv_shape s = {14, 14, 32, 32, 3, 1, false};
    dscm_isa isa = dscm_cpu_best_isa();
    CHECK_INT(dscm_conv_plan(s, isa, DSCM_CONV_DIRECT).algo[DSCM_CONV_FORWARD], DSCM_CONV_DIRECT);
    CHECK_INT(dscm_conv_plan(s, isa, DSCM_CONV_AUTO).algo[DSCM_CONV_FORWARD], DSCM_CONV_WINOGRAD);
    s.stride = 2;
    CHECK_INT(dscm_conv_plan(s, isa, DSCM_CONV_WINOGRAD).algo[DSCM_CONV_FORWARD], DSCM_CONV_DIRECT);
}

static void matrix_products_are_checked(void)
{
    dscm_error err = {0};
    CHECK_INT(dscm_gemm_check(&err), DSCM_OK);
    CHECK_HAS(dscm_gemm_library(), "OpenBLAS");
    /* Workers times BLAS threads would be more threads than processors. */
    void *library = dlopen("libopenblas.so.0", RTLD_NOW | RTLD_NOLOAD);
    if (library) {
        int (*threads)(void) = NULL;
        *(void **)&threads = dlsym(library, "openblas_get_num_threads");
        REQUIRE(threads != NULL);
        CHECK_INT(threads(), 1);
    }
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        {"every_shape", every_shape},
        {"doubled_images", doubled_images},
        {"wide_layers", wide_layers},
        {"scratch_serves_every_batch", scratch_serves_every_batch},
        {"forced_algorithms_are_used", forced_algorithms_are_used},
        {"matrix_products_are_checked", matrix_products_are_checked},
    };
    return test_main(argc, argv, cases, TEST_COUNT(cases));
}
