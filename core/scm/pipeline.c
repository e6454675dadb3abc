#include "core/scm/pipeline.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/scm/pipeline_internal.h"

/* Cost of a guided step in unguided ones: score network, predictor, and its gradient. */
#define GUIDED_COST 3.5
/* Reverse processes that the search for a strength usually takes. */
#define SEARCH_COST 1.5

double run_now_ms(void)
{
    return dscm_clock_s() * 1e3;
}

void *run_alloc(run *r, size_t count, size_t size)
{
    void *block = calloc(count ? count : 1, size);
    if (!block) (void)dscm_fail(r->err, DSCM_E_MEMORY, "no memory to run a request");
    return block;
}

/* ---- progress ---- */

static const char *phase_name(run_phase phase)
{
    static const char *const names[PHASE_COUNT] = {"abduct", "reconstruct", "predict",
                                                   "score",  "reverse",     "vary"};
    return names[phase];
}

/* Keeps DSCM_FRAMES_MAX previews of the prediction, evenly spread over the walk of each part of the images,
 * the last one included. */
static void keep_frame(run *r, const dscm_progress_event *event)
{
    if (!r->frames || r->phase != PHASE_PREDICT || !event->preview) return;
    size_t steps = event->walk_steps, frames = steps < DSCM_FRAMES_MAX ? steps : DSCM_FRAMES_MAX;
    size_t passed = event->walk_step * frames / steps;
    if (passed == (event->walk_step - 1) * frames / steps) return;
    uint8_t *frame = r->frames + ((passed - 1) * r->total + event->first) * r->pixels;
    for (size_t i = 0; i < event->batch * r->pixels; i++)
        frame[i] = (uint8_t)fminf(fmaxf(roundf((event->preview[i] + 1) * 127.5f), 0), 255);
    r->frames_count = frames;
}

/* How much of the phase is done: never less than before, though each of its walks counts its steps
 * from the start. Walks share a phase evenly; each one of a search takes half of what is left. */
static double phase_share(run *r, const dscm_progress_event *event)
{
    double share = event->steps ? fmin((double)event->step / (double)event->steps, 1) : 1;
    if (event->step <= r->last_step) r->walked++;
    r->last_step = event->step;
    if (r->walks) return fmin(((double)r->walked + share) / (double)r->walks, 1);
    return 1 - ldexp(1 - share / 2, -(int)r->walked);
}

static bool on_engine_step(void *arg, const dscm_progress_event *event)
{
    run *r = arg;
    keep_frame(r, event);
    double share = phase_share(r, event);
    if (!r->progress || !r->progress->on_step) return true;
    double done = 0, total = 0;
    dscm_run_event out = {.phase = phase_name(r->phase)};
    for (int p = 0; p < PHASE_COUNT; p++) {
        if (r->weights[p] <= 0) continue;
        total += r->weights[p];
        out.steps += r->steps[p];
        if (p < (int)r->phase) {
            done += r->weights[p];
            out.step += r->steps[p];
        }
    }
    out.step += (size_t)(share * (double)r->steps[r->phase]);
    out.fraction = total > 0 ? fmin((done + share * r->weights[r->phase]) / total, 1) : 1;
    out.elapsed_ms = run_now_ms() - r->started_ms;
    out.eta_ms = out.fraction > 0 ? out.elapsed_ms * (1 - out.fraction) / out.fraction : NAN;
    const size_t *offsets = r->phase == PHASE_PREDICT ? r->offsets : r->identity;
    if (event->batch == offsets[r->count] && r->phase != PHASE_VARY) out.preview = event->preview;
    out.offsets = offsets;
    return r->progress->on_step(r->progress->arg, &out);
}

static bool keep_going(void *arg)
{
    const run *r = arg;
    return !r->progress || !r->progress->keep_going || r->progress->keep_going(r->progress->arg);
}

void run_begin(run *r, run_phase phase, size_t walks, dscm_progress *progress)
{
    r->phase = phase;
    r->walks = walks;
    r->walked = r->last_step = 0;
    r->phase_ms = run_now_ms();
    *progress = (dscm_progress){.on_step = on_engine_step, .arg = r, .keep_going = keep_going};
}

void run_end(run *r, double *ms)
{
    *ms += run_now_ms() - r->phase_ms;
}

static void plan(run *r)
{
    const dscm_case *first = &r->items[0].ask;
    double ratio = r->options.ratio > 0 ? r->options.ratio : 1;
    size_t steps = (size_t)ceil((double)r->options.steps * ratio);
    double images = (double)r->total * (double)steps, factual = (double)r->count * (double)steps;
    if (first->work == DSCM_WORK_SAMPLE) {
        r->weights[PHASE_PREDICT] = images;
        r->steps[PHASE_PREDICT] = steps;
        return;
    }
    if (!r->items[0].cached) {
        r->weights[PHASE_ABDUCT] = factual;
        r->steps[PHASE_ABDUCT] = steps;
        if (r->scored) {
            size_t walks = run_checks_noise(r) ? 2 : 1;
            r->weights[PHASE_RECONSTRUCT] = (double)walks * factual;
            r->steps[PHASE_RECONSTRUCT] = walks * steps;
        }
    }
    if (first->work == DSCM_WORK_ABDUCTION) return;
    double search = r->auto_scale ? SEARCH_COST : 1;
    r->weights[PHASE_PREDICT] = images * GUIDED_COST * search;
    r->steps[PHASE_PREDICT] = r->auto_scale ? 2 * steps : steps; /* the first walk takes half */
    if (first->wanted & DSCM_WANT_REVERSIBILITY) {
        r->weights[PHASE_REVERSE] = images * (1 + GUIDED_COST);
        r->steps[PHASE_REVERSE] = 2 * steps;
    }
    if (first->wanted & DSCM_WANT_UNCERTAINTY) {
        r->weights[PHASE_VARY] = images * GUIDED_COST * DSCM_STRENGTHS_VARIED;
        r->steps[PHASE_VARY] = steps * DSCM_STRENGTHS_VARIED;
    }
}

/* ---- results ---- */

void dscm_result_free(dscm_result *result)
{
    if (!result) return;
    for (size_t i = 0; result->counterfactuals && i < result->count; i++) {
        free(result->counterfactuals[i].image);
        free(result->counterfactuals[i].propagated);
        free(result->counterfactuals[i].uncertainty);
    }
    for (size_t i = 0; i < result->files_count; i++) free(result->files[i].png);
    free(result->counterfactuals);
    free(result->frames);
    free(result->files);
    free(result);
}

const dscm_image_file *dscm_result_file(const dscm_result *result, const char *name)
{
    for (size_t i = 0; i < result->files_count; i++)
        if (strcmp(result->files[i].name, name) == 0) return &result->files[i];
    return NULL;
}

void dscm_result_shrink(dscm_result *result)
{
    for (size_t i = 0; i < result->count; i++) {
        free(result->counterfactuals[i].image);
        result->counterfactuals[i].image = NULL;
        free(result->counterfactuals[i].uncertainty);
        result->counterfactuals[i].uncertainty = NULL;
    }
    free(result->frames);
    result->frames = NULL;
    result->frames_count = 0;
}

size_t dscm_result_bytes(const dscm_result *result)
{
    const dscm_variable *image = &result->info->variables[result->info->image];
    size_t pixels = image->h * image->w * image->c;
    size_t bytes = sizeof(*result) + result->files_count * sizeof(*result->files);
    bytes += result->count *
             (sizeof(*result->counterfactuals) + result->info->variables_count * sizeof(double));
    for (size_t i = 0; i < result->count; i++) {
        if (result->counterfactuals[i].image) bytes += pixels * sizeof(float);
        if (result->counterfactuals[i].uncertainty) bytes += pixels / image->c * sizeof(float);
    }
    if (result->frames) bytes += result->frames_count * result->count * pixels;
    for (size_t i = 0; i < result->files_count; i++) bytes += result->files[i].size;
    return bytes;
}

/* An empty result for an item, with its counterfactuals' places. */
static dscm_result *result_make(run *r, const dscm_case *ask, size_t count)
{
    dscm_result *result = run_alloc(r, 1, sizeof(*result));
    if (!result) return NULL;
    *result = (dscm_result){.work = ask->work,
                            .info = r->info,
                            .options = ask->options,
                            .auto_scale = ask->auto_scale,
                            .seed = ask->seed,
                            .wanted = ask->wanted,
                            .count = count,
                            .batch = r->total};
    result->counterfactuals = run_alloc(r, count, sizeof(*result->counterfactuals));
    for (size_t i = 0; result->counterfactuals && i < count; i++) {
        dscm_counterfactual *c = &result->counterfactuals[i];
        c->composition = c->reversibility = c->observed_value = c->uncertainty_mean = NAN;
        c->evidence = dscm_outcome_evidence_none();
        c->outcome = DSCM_OUTCOME_NOT_FOUND;
        c->predictions = 1;
        c->image = run_alloc(r, r->pixels, sizeof(float));
        c->propagated = run_alloc(r, r->info->variables_count, sizeof(double));
        if (ask->targets_count) c->target = ask->targets[i < ask->targets_count ? i : 0];
        bool varied = ask->wanted & DSCM_WANT_UNCERTAINTY;
        if (varied) c->uncertainty = run_alloc(r, r->pixels / r->image->c, sizeof(float));
        if (c->image && c->propagated && (c->uncertainty || !varied)) continue;
        dscm_result_free(result);
        return NULL;
    }
    if (result->counterfactuals) return result;
    dscm_result_free(result);
    return NULL;
}

static dscm_code make_results(run *r)
{
    for (size_t i = 0; i < r->count; i++) {
        dscm_run_item *item = &r->items[i];
        if (item->ask.work == DSCM_WORK_ABDUCTION) continue;
        item->result = result_make(r, &item->ask, r->offsets[i + 1] - r->offsets[i]);
        if (!item->result) return DSCM_E_MEMORY;
    }
    return DSCM_OK;
}

/* ---- the run ---- */

static dscm_code setup(run *r)
{
    r->offsets = run_alloc(r, r->count + 1, sizeof(*r->offsets));
    r->identity = run_alloc(r, r->count + 1, sizeof(*r->identity));
    r->from = run_alloc(r, r->count, sizeof(*r->from));
    if (!r->offsets || !r->identity || !r->from) return DSCM_E_MEMORY;
    bool frames = false;
    for (size_t i = 0; i < r->count; i++) {
        const dscm_case *ask = &r->items[i].ask;
        size_t images = ask->work == DSCM_WORK_SAMPLE      ? ask->count
                        : ask->work == DSCM_WORK_ABDUCTION ? 0
                                                           : ask->targets_count;
        r->offsets[i + 1] = r->offsets[i] + images;
        r->identity[i + 1] = i + 1;
        r->from[i] = r->items[i].cached;
        frames |= ask->work == DSCM_WORK_COUNTERFACTUAL && (ask->wanted & DSCM_WANT_TRAJECTORY);
    }
    r->total = r->offsets[r->count];
    if (frames) {
        r->frames = run_alloc(r, DSCM_FRAMES_MAX * r->total, r->pixels);
        if (!r->frames) return DSCM_E_MEMORY;
    }
    plan(r);
    return make_results(r);
}

/* The frames of each item that wants them. */
static dscm_code share_frames(run *r)
{
    for (size_t i = 0; i < r->count && r->frames_count; i++) {
        dscm_result *result = r->items[i].result;
        if (!(result->wanted & DSCM_WANT_TRAJECTORY)) continue;
        size_t bytes = result->count * r->pixels;
        result->frames = run_alloc(r, r->frames_count, bytes);
        if (!result->frames) return DSCM_E_MEMORY;
        result->frames_count = r->frames_count;
        for (size_t f = 0; f < r->frames_count; f++)
            memcpy(result->frames + f * bytes,
                   r->frames + (f * r->total + r->offsets[i]) * r->pixels, bytes);
    }
    return DSCM_OK;
}

static dscm_code counterfactuals(run *r)
{
    float *images = run_alloc(r, r->total * r->pixels, sizeof(*images));
    dscm_scale_result *searches = run_alloc(r, r->total, sizeof(*searches));
    dscm_code code = images && searches ? DSCM_OK : DSCM_E_MEMORY;
    if (!code) code = run_predict(r, images, searches);
    if (!code && r->scored) code = run_score(r, images);
    if (!code && r->weights[PHASE_REVERSE] > 0) code = run_reverse(r, images);
    if (!code && r->weights[PHASE_VARY] > 0) code = run_vary(r, images, searches);
    if (!code) code = share_frames(r);
    free(images);
    free(searches);
    return code;
}

static void finish(run *r, bool good)
{
    for (size_t i = 0; i < r->count; i++) {
        dscm_run_item *item = &r->items[i];
        if (good && item->result) {
            item->result->times = r->times;
            if (r->from[i] && r->scored)
                item->result->verdict = dscm_verdict_name(r->from[i]->verdict);
        }
        if (good) continue;
        dscm_result_free(item->result);
        dscm_abduction_free(item->abduction);
        item->result = NULL;
        item->abduction = NULL;
    }
    dscm_latent_free(r->joint);
    free(r->frames);
    free(r->offsets);
    free(r->identity);
    free(r->from);
}

dscm_code dscm_run(dscm_session *session, const dscm_bundle *bundle, dscm_run_item *items,
                   size_t count, const dscm_run_progress *progress, dscm_error *err)
{
    const dscm_bundle_info *info = dscm_bundle_describe(bundle);
    dscm_error own = {0};
    run r = {.session = session,
             .info = info,
             .bundle = bundle,
             .image = &info->variables[info->image],
             .items = items,
             .count = count,
             .options = items[0].ask.options,
             .auto_scale = items[0].ask.auto_scale,
             .scored =
                 items[0].ask.wanted & DSCM_WANT_SCORES || items[0].ask.work == DSCM_WORK_ABDUCTION,
             .progress = progress,
             .started_ms = run_now_ms(),
             .err = err ? err : &own};
    r.pixels = r.image->h * r.image->w * r.image->c;
    for (size_t i = 0; i < count; i++) {
        items[i].abduction = NULL;
        items[i].result = NULL;
    }
    dscm_code code = setup(&r);
    dscm_work work = items[0].ask.work;
    if (!code && work != DSCM_WORK_SAMPLE && !items[0].cached) code = run_abduct(&r);
    if (!code && work == DSCM_WORK_COUNTERFACTUAL) code = counterfactuals(&r);
    if (!code && work == DSCM_WORK_SAMPLE) code = run_samples(&r);
    finish(&r, code == DSCM_OK);
    return code;
}
