/* Calibration and measurement of `diffscm new`: which scale the model needs, and what it then does. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/new.h"
#include "core/base/memory.h"
#include "core/data/idx.h"
#include "core/diffscm.h"
#include "core/io/file.h"

#define ITEMS       48  /* images of S that decide, at most */
#define ENOUGH      .95 /* of them that must become their target for a scale to do */
#define VALID_LEAST .8  /* below: poor */
#define SCALES      7   /* 1, 2, 4 … 64 */

typedef struct measuring {
    const new_plan *plan;
    dscm_bundle *bundle;
    dscm_session *session;
    dscm_dataset data;
    size_t count, size; /* images; floats of one */
    float *images, *out, *probabilities;
    dscm_intervention *acts; /* (count) */
    dscm_query *queries;     /* (count) */
    bool judged;             /* by the oracle; else by the predictor itself */
    double scale, valid, l1, accuracy, null_l1;
} measuring;

static size_t likeliest(const float *p, size_t n)
{
    size_t best = 0;
    for (size_t k = 1; k < n; k++)
        if (p[k] > p[best]) best = k;
    return best;
}

/* Share of images that the judge calls `wanted`. */
static dscm_code judge(measuring *m, const float *images, bool targets, double *share,
                       dscm_error *err)
{
    size_t right = 0, classes = m->plan->classes;
    dscm_code code =
        m->judged ? dscm_observe_oracle(m->session, 0, m->probabilities, images, m->count, err)
                  : dscm_observe(m->session, 0, m->probabilities, images, m->count, err);
    for (size_t i = 0; code == DSCM_OK && i < m->count; i++) {
        size_t wanted = targets ? (size_t)m->acts[i].value : m->data.labels[i];
        right += likeliest(m->probabilities + i * classes, classes) == wanted;
    }
    *share = (double)right / (double)m->count;
    return code;
}

static double mean_l1(const measuring *m)
{
    double sum = 0;
    for (size_t i = 0; i < m->count * m->size; i++)
        sum += fabs((double)m->out[i] - (double)m->images[i]) * 127.5;
    return sum / (double)(m->count * m->size);
}

static dscm_code open_all(measuring *m, const char *bundle, const char *data, dscm_error *err)
{
    const new_plan *p = m->plan;
    dscm_code code = dscm_dataset_open(&m->data, data, "S", err);
    if (code == DSCM_OK) code = dscm_bundle_open(&m->bundle, bundle, err);
    if (code != DSCM_OK) return code;
    m->count = m->data.count < ITEMS ? m->data.count : ITEMS;
    m->size = p->size * p->size * p->channels;
    m->judged = dscm_bundle_describe(m->bundle)->has_oracle;
    m->images = dscm_alloc(m->count * m->size, sizeof *m->images, "calibration", err);
    m->out = dscm_alloc(m->count * m->size, sizeof *m->out, "calibration", err);
    m->probabilities =
        dscm_alloc(m->count * p->classes, sizeof *m->probabilities, "calibration", err);
    m->acts = dscm_alloc(m->count, sizeof *m->acts, "calibration", err);
    m->queries = dscm_alloc(m->count, sizeof *m->queries, "calibration", err);
    if (!m->images || !m->out || !m->probabilities || !m->acts || !m->queries) return DSCM_E_MEMORY;
    /* Spread over the split; its order may be by class. */
    for (size_t i = 0; i < m->count; i++) {
        size_t from = i * m->data.count / m->count, k = p->classes;
        uint8_t label = m->data.labels[from];
        dscm_pixels_to_float(m->images + i * m->size, m->data.pixels + from * m->size, m->size);
        m->data.labels[i] = label; /* from >= i: not read again */
        m->acts[i] = (dscm_intervention){.variable = 0,
                                         .action = DSCM_DO,
                                         .value = (double)((label + 1 + i % (k - 1)) % k),
                                         .scale = (double)NAN};
        m->queries[i] = (dscm_query){.items = &m->acts[i], .count = 1};
    }
    return dscm_session_open(&m->session, m->bundle, 16, (int)p->threads, err);
}

/* The smallest scale that is enough, else the one that convinces most. */
static dscm_code search(measuring *m, const dscm_latent *latent, dscm_options *o, dscm_error *err)
{
    dscm_code code = DSCM_OK;
    double scale = 1;
    m->valid = -1;
    for (int i = 0; code == DSCM_OK && i < SCALES && m->valid < ENOUGH; i++, scale *= 2) {
        double share = 0;
        o->scale = scale;
        code = dscm_predict(m->session, m->out, latent, m->queries, o, NULL, err);
        if (code != DSCM_OK) break;
        dscm_images_round(m->out, m->count * m->size);
        code = judge(m, m->out, true, &share, err);
        fprintf(stderr, "calibrate: scale %g: %.0f %% become their target, L1 %.1f of 255\n", scale,
                100 * share, mean_l1(m));
        if (share <= m->valid) continue;
        m->valid = share;
        m->scale = scale;
        m->l1 = mean_l1(m);
    }
    return code;
}

static dscm_code null_changes(measuring *m, const dscm_latent *latent, const dscm_options *o,
                              dscm_error *err)
{
    for (size_t i = 0; i < m->count; i++) m->queries[i].count = 0;
    dscm_code code = dscm_predict(m->session, m->out, latent, m->queries, o, NULL, err);
    if (code == DSCM_OK) dscm_images_round(m->out, m->count * m->size);
    m->null_l1 = mean_l1(m);
    return code;
}

/* Why the model is poor, or NULL. */
static const char *poor(const measuring *m)
{
    if (m->valid < VALID_LEAST) return "too few counterfactuals become their target";
    if (m->judged && m->accuracy < .5 + .5 / (double)m->plan->classes)
        return "the classifier that judges is unsure itself";
    if (m->null_l1 > .5) return "do(own value) changes the image";
    return NULL;
}

static dscm_code write_text(const char *path, const char *text, dscm_error *err)
{
    const dscm_piece piece = {text, strlen(text)};
    return dscm_file_replace(path, &piece, 1, err);
}

static dscm_code write_measured(const measuring *m, const dscm_options *o, const char *path,
                                dscm_error *err)
{
    const char *why = poor(m);
    char data[256];
    snprintf(data, sizeof data, "%zu images of a selection split, one other class each", m->count);
    json_t *quality =
        json_pack("{s:s, s:s, s:I, s:f, s:f, s:f, s:f, s:f, s:f, s:b}", "data", data, "sampler",
                  o->sampler, "steps", (json_int_t)o->steps, "ratio", o->ratio, "scale", m->scale,
                  "oracle_valid", m->valid, "l1_255", m->l1, "null_l1_255", m->null_l1,
                  "oracle_accuracy", m->accuracy, "poor", why != NULL);
    if (why)
        json_object_set_new(quality, "poor_reason",
                            json_sprintf("%s; more images or a longer training (--effort hours) "
                                         "would help",
                                         why));
    json_t *root = json_pack("{s:[{s:s, s:I, s:f}], s:o}", "calibration", "sampler", o->sampler,
                             "steps", (json_int_t)o->steps, "scale", m->scale, "quality", quality);
    char *text = root ? json_dumps(root, JSON_INDENT(1) | JSON_REAL_PRECISION(6)) : NULL;
    dscm_code code =
        text ? write_text(path, text, err) : dscm_fail(err, DSCM_E_MEMORY, "out of memory");
    if (why) fprintf(stderr, "note: the model is marked poor: %s\n", why);
    free(text);
    json_decref(root);
    return code;
}

static dscm_code write_card(const measuring *m, const dscm_options *o, const char *bundle,
                            dscm_error *err)
{
    char path[4200], text[2048];
    const new_plan *p = m->plan;
    const char *why = poor(m);
    if (snprintf(path, sizeof path, "%s/card.md", bundle) >= (int)sizeof path)
        return dscm_fail(err, DSCM_E_LIMIT, "%s: path too long", bundle);
    snprintf(
        text, sizeof text,
        "# %s\n\nCounterfactual images of %zux%zux%zu with the variable `%s` (%zu classes), "
        "made by `diffscm new`.\n\n"
        "- Data: %zu images, SHA-256 of their pixels %s; 60 %% of each class trained the model, "
        "25 %% the classifier that judges it, 15 %% chose the scale and gave these figures.\n"
        "- Training: effort %s; %zu samples for the score network, %zu for the predictor.\n"
        "- Default: sampler %s, %zu steps, scale %g. %.0f %% of %zu counterfactuals become "
        "their target for the judge, which is right on %.0f %% of real images; mean change "
        "%.1f of 255, of do(own value) %.2f.\n"
        "- The figures chose the scale too: they flatter. `diffscm evaluate` measures on other "
        "images.\n"
        "- Licence: not stated.\n%s%s%s",
        p->name, p->size, p->size, p->channels, p->variable, p->classes, p->count, p->data_sha256,
        p->effort, p->stages[NEW_SCORE].samples, p->stages[NEW_PREDICTOR].samples, o->sampler,
        o->steps, m->scale, 100 * m->valid, m->count, 100 * m->accuracy, m->l1, m->null_l1,
        why ? "- **Poor**: " : "", why ? why : "", why ? ".\n" : "");
    return write_text(path, text, err);
}

dscm_code new_measure(const new_plan *plan, const char *bundle, const char *data,
                      const char *measured, dscm_error *err)
{
    measuring m = {.plan = plan};
    dscm_options o = dscm_options_defaults();
    dscm_latent *latent = NULL;
    o.scale = 1;
    dscm_code code = open_all(&m, bundle, data, err);
    if (code == DSCM_OK) code = dscm_options_resolve(m.bundle, &o, err);
    if (code == DSCM_OK) code = judge(&m, m.images, false, &m.accuracy, err);
    if (code == DSCM_OK) code = dscm_abduct(m.session, &latent, m.images, m.count, &o, NULL, err);
    if (code == DSCM_OK) code = search(&m, latent, &o, err);
    o.scale = m.scale;
    if (code == DSCM_OK) code = null_changes(&m, latent, &o, err);
    if (code == DSCM_OK) code = write_card(&m, &o, bundle, err);
    if (code == DSCM_OK) code = write_measured(&m, &o, measured, err);
    dscm_latent_free(latent);
    dscm_session_free(m.session);
    dscm_bundle_free(m.bundle);
    dscm_dataset_free(&m.data);
    dscm_free(m.images);
    dscm_free(m.out);
    dscm_free(m.probabilities);
    dscm_free(m.acts);
    dscm_free(m.queries);
    return code;
}
