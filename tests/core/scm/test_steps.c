/* A step allocates nothing: not a network pass, not a move of a walk, not a training step. This
 * program counts every call of the C library's allocator, whoever makes it. */
#include <malloc.h>
#include <stdatomic.h>

#include "core/kernels/gemm.h"
#include "core/scm/session.h"
#include "core/train/trainer.h"
#include "tests/core/scm/two_parents.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(__GLIBC__)
#define COUNTED 0 /* sanitizers bring an allocator of their own */
static atomic_size_t allocations;
#else
#define COUNTED 1
static atomic_size_t allocations;

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *block, size_t size);
void *__libc_memalign(size_t align, size_t size);

void *malloc(size_t size)
{
    allocations++;
    return __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    allocations++;
    return __libc_calloc(count, size);
}

void *realloc(void *block, size_t size)
{
    allocations++;
    return __libc_realloc(block, size);
}

void *aligned_alloc(size_t align, size_t size)
{
    allocations++;
    return __libc_memalign(align, size);
}

void *memalign(size_t align, size_t size)
{
    allocations++;
    return __libc_memalign(align, size);
}

int posix_memalign(void **out, size_t align, size_t size)
{
    allocations++;
    *out = __libc_memalign(align, size);
    return *out ? 0 : 12;
}
#endif

static void the_counter_counts(void)
{
    size_t before = allocations;
    void *volatile block = malloc(100);
    CHECK(block != NULL);
    free(block);
    if (!COUNTED) TEST_SKIP("instrumented allocator");
    CHECK_INT(allocations - before, 1);
}

/* ---- walks ---- */
typedef struct watch {
    size_t steps, at_first, at_last;
} watch;

static bool on_step(void *arg, const dscm_progress_event *event)
{
    watch *w = arg;
    (void)event;
    w->at_last = allocations;
    if (w->steps++ == 0) w->at_first = allocations;
    return true;
}

static char dir[64];

static void walk_with(const dscm_bundle *bundle, const char *sampler, int threads)
{
    static float images[2 * PIXELS], out[2 * PIXELS];
    const dscm_intervention thick = {THICKNESS, DSCM_SHIFT, 1, (double)NAN};
    const dscm_query queries[2] = {{.items = &thick, .count = 1}, {.items = &thick, .count = 1}};
    dscm_options o = dscm_options_defaults();
    dscm_session *session = NULL;
    dscm_latent *latent = NULL;
    dscm_error err = {0};
    watch up = {0}, down = {0};
    dscm_progress upward = {.on_step = on_step, .arg = &up};
    dscm_progress downward = {.on_step = on_step, .arg = &down};
    o.sampler = sampler;
    o.steps = strcmp(sampler, "published") == 0 ? 10 : 5;
    o.scale = 1;
    REQUIRE(dscm_options_resolve(bundle, &o, &err) == DSCM_OK);
    REQUIRE(dscm_session_open(&session, bundle, 2, threads, &err) == DSCM_OK);
    CHECK(dscm_abduct(session, &latent, images, 2, &o, &upward, &err) == DSCM_OK);
    CHECK(dscm_predict(session, out, latent, queries, &o, &downward, &err) == DSCM_OK);
    CHECK(up.steps > 2 && down.steps > 2);
    CHECK_INT(up.at_last - up.at_first, 0);
    CHECK_INT(down.at_last - down.at_first, 0);
    dscm_latent_free(latent);
    dscm_session_free(session);
}

static void no_move_of_a_walk_allocates(void)
{
    dscm_bundle *bundle = NULL;
    dscm_error err = {0};
    if (!COUNTED) TEST_SKIP("instrumented allocator");
    REQUIRE(dscm_bundle_open(&bundle, dir, &err) == DSCM_OK);
    for (size_t i = 0; dscm_sampler_name(i); i++)
        for (int threads = 1; threads <= 2; threads++)
            walk_with(bundle, dscm_sampler_name(i), threads);
    dscm_bundle_free(bundle);
}

/* ---- training ---- */
static void train_with(int threads)
{
    enum { IMAGES = 12 };
    static uint8_t pixels[IMAGES * SIDE * SIDE], labels[IMAGES];
    const dscm_dataset data = {.count = IMAGES,
                               .h = SIDE,
                               .w = SIDE,
                               .c = 1,
                               .pixels = pixels,
                               .labels = labels,
                               .sha256 = "black"};
    dscm_train_options o = dscm_train_defaults(DSCM_TASK_SCORE);
    dscm_trainer *trainer = NULL;
    dscm_step_report report;
    dscm_error err = {0};
    o.net.image_size = SIDE;
    o.net.levels = 1;
    o.net.dropout = 0.1;
    o.batch = 5; /* crosses the end of the data, where it is shuffled anew */
    o.threads = threads;
    REQUIRE(dscm_trainer_open(&trainer, &o, &data, &err) == DSCM_OK);
    CHECK(dscm_trainer_step(trainer, &report, &err) == DSCM_OK);
    size_t before = allocations;
    for (int step = 0; step < 6; step++)
        CHECK(dscm_trainer_step(trainer, &report, &err) == DSCM_OK);
    CHECK_INT(allocations - before, 0);
    dscm_trainer_free(trainer);
}

static void no_training_step_allocates(void)
{
    if (!COUNTED) TEST_SKIP("instrumented allocator");
    train_with(1);
    train_with(3);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        {"the_counter_counts", the_counter_counts},
        {"no_move_of_a_walk_allocates", no_move_of_a_walk_allocates},
        {"no_training_step_allocates", no_training_step_allocates},
    };
    if (!two_parents_write(dir) || dscm_gemm_check(NULL) != DSCM_OK) {
        printf("test_steps 0 passed, 1 failed, 0 skipped\n");
        return 1;
    }
    int status = test_main(argc, argv, cases, TEST_COUNT(cases));
    two_parents_remove(dir);
    return status;
}
