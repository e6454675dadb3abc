/* Calibration and measurement of `diffscm new`: which scale the model needs, and what it then does
 * by judges that took no part in making it. */
#include <math.h>
#include <string.h>

#include "cli/new.h"
#include "cli/new_measuring.h"
#include "core/base/memory.h"
#include "core/data/idx.h"
#include "core/diffscm.h"
#include "core/eval/judges.h"

#define LEAST       12 /* images to measure by, where there are so many */
#define ENOUGH      .9 /* of them that must be accepted as their target for a scale to do */
#define VALID_SLACK .05
#define NULL_MOST   .5 /* of 255, where do(own value) should change nothing */
#define REAL_SHARE  .6 /* of the precision of real images */
#define ERROR_MOST  .1 /* of a number's range */

static const double scales[NEW_SCALES] = {1, 1.5, 2, 3, 4.5};

static void close_all(measuring *m)
{
    dscm_session_free(m->session);
    dscm_bundle_free(m->bundle);
    dscm_dataset_free(&m->data);
    dscm_free(m->places);
    dscm_free(m->pixels);
    dscm_free(m->labels);
    dscm_free(m->targets);
    dscm_free(m->images);
    dscm_free(m->out);
    dscm_free(m->bytes);
    dscm_free(m->seen);
    dscm_free(m->given);
    dscm_free(m->known);
    dscm_free(m->acts);
    dscm_free(m->queries);
    dscm_free(m->found);
}

static dscm_code take_memory(measuring *m, dscm_error *err)
{
    size_t n = m->count, variables = dscm_bundle_describe(m->bundle)->variables_count;
    m->pixels = dscm_alloc(n, m->size, "measurement", err);
    m->labels = dscm_alloc(n, 1, "measurement", err);
    m->targets = dscm_alloc(n, sizeof *m->targets, "measurement", err);
    m->images = dscm_alloc(n * m->size, sizeof *m->images, "measurement", err);
    m->out = dscm_alloc(n * m->size, sizeof *m->out, "measurement", err);
    m->bytes = dscm_alloc(n, m->size, "measurement", err);
    size_t width = m->plan->classes > 2 ? m->plan->classes : 2; /* of a number: mean, variance */
    m->seen = dscm_alloc(n * width, sizeof *m->seen, "measurement", err);
    m->given = dscm_alloc(n * variables, sizeof *m->given, "measurement", err);
    m->acts = dscm_alloc(n, sizeof *m->acts, "measurement", err);
    m->queries = dscm_alloc(n, sizeof *m->queries, "measurement", err);
    m->found = dscm_alloc(n, sizeof *m->found, "measurement", err);
    return m->pixels && m->labels && m->targets && m->images && m->out && m->bytes && m->seen &&
                   m->given && m->acts && m->queries && m->found
               ? DSCM_OK
               : DSCM_E_MEMORY;
}

/* Where no variable has labels all images are alike. */
static size_t classes_of(const measuring *m)
{
    return m->plan->classes ? m->plan->classes : 1;
}

/* Which images of S take part: in rounds of one of each class, as long as all classes have some left,
 * so that figures count every class alike. Every fifth round chooses, and choosers come first. A rare
 * class that has hardly any ends before the others. Returns how many; *choosers of them choose. */
static size_t pick_images(const measuring *m, size_t *places, size_t *choosers)
{
    size_t classes = classes_of(m), counts[256] = {0}, least = SIZE_MAX, count = 0;
    for (size_t i = 0; i < m->data.count; i++) counts[m->data.labels[i]]++;
    for (size_t k = 0; k < classes; k++) least = counts[k] < least ? counts[k] : least;
    size_t wanted = (m->plan->measured * 5 / 4 + classes - 1) / classes;
    size_t some = (LEAST + classes - 1) / classes;
    size_t rounds = wanted < least ? wanted : least > some ? least : some;
    for (int choosing = 1; choosing >= 0; choosing--) {
        size_t seen[256] = {0};
        for (size_t i = 0; i < m->data.count; i++) {
            uint8_t k = m->data.labels[i];
            size_t round = seen[k]++;
            bool chooses = rounds == 1 ? k % 2 == 0 : round % 5 == 0;
            if (round < rounds && chooses == (choosing == 1)) places[count++] = i;
        }
        if (choosing) *choosers = count;
    }
    return count;
}

static void deal_images(measuring *m)
{
    size_t variables = dscm_bundle_describe(m->bundle)->variables_count, classes = classes_of(m);
    for (size_t i = 0; i < m->count; i++) {
        size_t from = m->places[i];
        memcpy(m->pixels + i * m->size, m->data.pixels + from * m->size, m->size);
        m->labels[i] = m->data.labels[from];
        m->targets[i] =
            classes > 1 ? (int)((m->labels[i] + 1 + i % (classes - 1)) % classes) : m->labels[i];
        m->acts[i] = (dscm_intervention){
            .variable = m->judged, .action = DSCM_DO, .value = m->targets[i], .scale = (double)NAN};
        for (size_t v = 0; v < variables; v++)
            m->given[i * variables + v] = m->known ? m->known[from * variables + v] : (double)NAN;
        if (m->judged >= 0) m->given[i * variables + (size_t)m->judged] = m->labels[i];
        m->queries[i] =
            (dscm_query){.items = &m->acts[i], .count = 1, .factual = m->given + i * variables};
    }
    dscm_pixels_to_float(m->images, m->pixels, m->count * m->size);
}

static dscm_code open_all(measuring *m, const char *bundle, const char *data, dscm_error *err)
{
    dscm_code code = dscm_dataset_open(&m->data, data, "S", err);
    if (code == DSCM_OK) code = dscm_bundle_open(&m->bundle, bundle, err);
    if (code != DSCM_OK) return code;
    m->places = dscm_alloc(m->data.count, sizeof *m->places, "measurement", err);
    if (!m->places) return DSCM_E_MEMORY;
    m->count = pick_images(m, m->places, &m->chosen_by);
    m->size = m->plan->size * m->plan->size * m->plan->channels;
    m->judged = -1;
    if (m->plan->classes) code = dscm_variable_find(m->bundle, m->plan->variable, &m->judged, err);
    if (code == DSCM_OK && m->plan->fit) code = new_read_known(m, data, err);
    if (code != DSCM_OK) return code;
    m->options = dscm_options_defaults();
    m->options.scale = 1;
    if (!m->chosen_by || m->chosen_by == m->count)
        return dscm_fail(err, DSCM_E_INVALID, "S: %zu images are too few to measure by", m->count);
    code = take_memory(m, err);
    if (code != DSCM_OK) return code;
    deal_images(m);
    code = dscm_options_resolve(m->bundle, &m->options, err);
    return code == DSCM_OK
               ? dscm_session_open(&m->session, m->bundle, 16, (int)m->plan->threads, err)
               : code;
}

dscm_code new_abduct(measuring *m, dscm_latent **latent, size_t first, size_t count,
                     dscm_error *err)
{
    size_t variables = dscm_bundle_describe(m->bundle)->variables_count;
    return dscm_abduct_given(m->session, latent, m->images + first * m->size,
                             m->given + first * variables, count, &m->options, NULL, err);
}

static double mean_l1(const measuring *m, size_t first, size_t count)
{
    double sum = 0;
    const float *a = m->out + first * m->size, *b = m->images + first * m->size;
    for (size_t i = 0; i < count * m->size; i++) sum += fabs((double)a[i] - (double)b[i]) * 127.5;
    return sum / (double)(count * m->size);
}

static size_t likeliest(const float *p, size_t n)
{
    size_t best = 0;
    for (size_t k = 1; k < n; k++)
        if (p[k] > p[best]) best = k;
    return best;
}

/* Mean share over the acceptance nets of results 0 .. chosen_by - 1 that they call the target. */
static dscm_code accepted(measuring *m, double *share, dscm_error *err)
{
    size_t nets = dscm_bundle_describe(m->bundle)->acceptance_count, right = 0;
    dscm_code code = DSCM_OK;
    for (size_t n = 0; code == DSCM_OK && n < nets; n++) {
        code = dscm_observe_acceptance(m->session, m->acts[0].variable, n, m->seen, m->out,
                                       m->chosen_by, err);
        for (size_t i = 0; code == DSCM_OK && i < m->chosen_by; i++)
            right +=
                (int)likeliest(m->seen + i * m->plan->classes, m->plan->classes) == m->targets[i];
    }
    *share = nets ? (double)right / (double)(nets * m->chosen_by) : 0;
    return code;
}

/* The smallest scale that is enough, else the one that convinces most. */
static dscm_code choose_scale(measuring *m, new_figures *f, dscm_error *err)
{
    dscm_latent *latent = NULL;
    if (m->judged < 0) return DSCM_OK; /* the strength of numbers is not searched */
    dscm_code code = new_abduct(m, &latent, 0, m->chosen_by, err);
    f->accepted = -1;
    for (size_t i = 0; code == DSCM_OK && i < m->plan->scales; i++) {
        double share = 0;
        m->options.scale = scales[i];
        code = dscm_predict(m->session, m->out, latent, m->queries, &m->options, NULL, err);
        if (code != DSCM_OK) break;
        dscm_images_round(m->out, m->chosen_by * m->size);
        code = accepted(m, &share, err);
        fprintf(stderr,
                "calibrate: scale %g: %.0f %% are accepted as their target, L1 %.1f of 255\n",
                scales[i], 100 * share, mean_l1(m, 0, m->chosen_by));
        if (share > f->accepted) {
            f->accepted = share;
            f->scale = scales[i];
        }
        if (share >= ENOUGH) break;
    }
    m->options.scale = f->scale;
    dscm_latent_free(latent);
    return code;
}

static double mean_of(const dscm_calls *c)
{
    double sum = 0;
    for (size_t i = 0; i < c->classifiers; i++) sum += c->sharp[i];
    return c->classifiers ? sum / (double)c->classifiers : (double)NAN;
}

/* The panel on the measured images and on real ones in their place. */
static dscm_code ask_panel(measuring *m, new_figures *f, dscm_error *err)
{
    dscm_judges *judges = NULL;
    dscm_real_figures real;
    dscm_judged results, others;
    size_t first = m->chosen_by, count = m->count - first;
    size_t as_many = m->chosen_by < count ? m->chosen_by : count;
    int *own = dscm_alloc(as_many, sizeof *own, "measurement", err);
    if (!own) return DSCM_E_MEMORY;
    for (size_t i = 0; i < as_many; i++) own[i] = m->labels[i];
    dscm_code code = dscm_judges_open(&judges, m->bundle, false, 16, err);
    if (code == DSCM_OK)
        code = dscm_judges_set_real(judges, m->pixels + first * m->size, m->labels + first, count,
                                    &real, err);
    if (code == DSCM_OK)
        code = dscm_judges_run(judges, &results, m->bytes + first * m->size, m->targets + first,
                               count, 1, 1, err);
    if (code == DSCM_OK)
        code = dscm_judges_run(judges, &others, m->pixels, own, as_many, 1, 1, err);
    if (code == DSCM_OK) {
        f->accuracy = mean_of(&real.calls);
        f->valid = mean_of(&results.calls);
        f->precision = results.precision;
        f->real_precision = others.precision;
        f->cld = results.cld.mean;
        f->im1 = results.im1.mean;
    }
    dscm_judges_free(judges);
    dscm_free(own);
    return code;
}

/* Counterfactuals as the model gives them by default: a scale searched per image. */
static dscm_code search_results(measuring *m, const dscm_latent *latent, new_figures *f,
                                dscm_error *err)
{
    size_t first = m->chosen_by, count = m->count - first;
    float *out = m->out + first * m->size;
    dscm_scale_search search = dscm_scale_search_defaults(m->bundle, &m->options);
    dscm_code code = dscm_predict_search(m->session, out, m->found, latent, m->queries + first,
                                         &m->options, &search, NULL, err);
    if (code != DSCM_OK) return code;
    dscm_images_round(out, count * m->size);
    for (size_t i = 0; i < count * m->size; i++)
        m->bytes[first * m->size + i] =
            (uint8_t)lround(fmin(fmax(((double)out[i] + 1) * 127.5, 0), 255));
    f->l1 = mean_l1(m, first, count);
    return DSCM_OK;
}

/* Results of other labels, and of the own value: without labels, of the image's first parent. */
static dscm_code measure_results(measuring *m, new_figures *f, dscm_error *err)
{
    const dscm_bundle_info *info = dscm_bundle_describe(m->bundle);
    size_t first = m->chosen_by, count = m->count - first;
    int own = m->judged >= 0 ? m->judged : info->variables[info->image].parents[0];
    float *out = m->out + first * m->size;
    dscm_latent *latent = NULL;
    dscm_code code = new_abduct(m, &latent, first, count, err);
    if (code == DSCM_OK && m->judged >= 0) code = search_results(m, latent, f, err);
    for (size_t i = first; i < m->count; i++) {
        m->acts[i].variable = own;
        m->acts[i].value = m->given[i * info->variables_count + (size_t)own];
    }
    if (code == DSCM_OK)
        code = dscm_predict(m->session, out, latent, m->queries + first, &m->options, NULL, err);
    if (code == DSCM_OK) {
        dscm_images_round(out, count * m->size);
        f->null_l1 = mean_l1(m, first, count);
    }
    dscm_latent_free(latent);
    return code;
}

/* ---- the verdict ---- */
static void add_text(char *text, size_t size, const char *what)
{
    size_t at = strlen(text);
    snprintf(text + at, size - at, "%s%s", at ? "; " : "", what);
}

static void judge_model(const new_plan *p, new_figures *f)
{
    double chance = 1 / (double)(p->classes ? p->classes : 1);
    if (f->accuracy < .5 + .5 * chance) {
        add_text(f->poor, sizeof f->poor,
                 "the classifiers that judge it are unsure of real images");
        add_text(f->help, sizeof f->help,
                 "more pictures per class, or classes that can be told "
                 "apart at this size");
    }
    if (f->valid < f->accuracy - VALID_SLACK) {
        add_text(f->poor, sizeof f->poor, "too few counterfactuals become their target");
        add_text(f->help, sizeof f->help, "longer training (--samples)");
    }
    if (isfinite(f->precision) && isfinite(f->real_precision) &&
        f->precision < REAL_SHARE * f->real_precision) {
        add_text(f->poor, sizeof f->poor, "results do not look like real images of their class");
        if (!strstr(f->help, "longer training"))
            add_text(f->help, sizeof f->help, "longer training (--samples)");
    }
    for (size_t i = 0; i < f->numbers_count; i++) {
        const new_number *n = &f->numbers[i];
        char text[160];
        if (n->error <= ERROR_MOST * n->range) continue;
        snprintf(text, sizeof text,
                 "%s misses what is asked for by %.0f %% of its range on average", n->name,
                 100 * n->error / n->range);
        add_text(f->poor, sizeof f->poor, text);
        if (!strstr(f->help, "longer training"))
            add_text(f->help, sizeof f->help, "longer training (--samples)");
    }
    if (f->null_l1 > NULL_MOST) {
        add_text(f->poor, sizeof f->poor, "do(own value) changes the image");
        add_text(f->help, sizeof f->help, "more steps (--steps of bundle)");
    }
}

new_figures new_no_figures(void)
{
    const double none = (double)NAN;
    return (new_figures){.sampler = "implicit",
                         .steps = NEW_STEPS,
                         .scale = 1,
                         .accepted = none,
                         .accuracy = none,
                         .valid = none,
                         .precision = none,
                         .real_precision = none,
                         .cld = none,
                         .im1 = none,
                         .l1 = none,
                         .null_l1 = none};
}

dscm_code new_measure(const new_plan *plan, const char *bundle, const char *data, new_figures *f,
                      dscm_error *err)
{
    measuring m = {.plan = plan};
    *f = new_no_figures();
    dscm_code code = open_all(&m, bundle, data, err);
    if (code == DSCM_OK) code = choose_scale(&m, f, err);
    if (code == DSCM_OK) code = measure_results(&m, f, err);
    if (code == DSCM_OK && dscm_bundle_describe(m.bundle)->has_panel) code = ask_panel(&m, f, err);
    if (code == DSCM_OK) code = new_measure_numbers(&m, f, err);
    if (code == DSCM_OK) {
        f->steps = m.options.steps;
        f->chosen_by = m.chosen_by;
        f->count = m.count - m.chosen_by;
        for (size_t i = 0; dscm_sampler_name(i); i++) /* the name outlives the bundle */
            if (strcmp(dscm_sampler_name(i), m.options.sampler) == 0)
                f->sampler = dscm_sampler_name(i);
        judge_model(plan, f);
    }
    close_all(&m);
    return code;
}
