/* Training under a plan of `diffscm new`.
 *
 * A plan for a time holds numbers of samples that the machine's speed allowed when it was made. Where
 * training falls behind, because others came to use the machine, what is left is shortened: before
 * each network, and at each quarter of one that takes minutes. Where time is left when the score network
 * begins, that becomes longer. A changed plan is stored before anything is trained under it, with the
 * point from which on it counts, so the stored plan always says all that a network's weights depend on.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/new_job.h"
#include "core/io/tensors.h"

#define LATE       1.1 /* of the time: so much is left alone */
#define EARLY      .9  /* of the time: so much too */
#define QUARTERED  30  /* seconds: networks that take longer are looked at on their way */
#define PACE_KNOWN 2   /* seconds of estimated work after which the pace of this run counts */

size_t new_score_samples(new_job *j)
{
    return new_plan_score(&j->plan)->samples;
}

/* Weights of the score network carry their number of samples; the judges' names are those that
 * `bundle --judges` looks for. */
static void name_stage(new_job *j, const new_stage *s, char name[64])
{
    if (s == new_plan_score(&j->plan))
        snprintf(name, 64, "score-%zu", s->samples);
    else
        snprintf(name, 64, "%s", s->name);
}

/* ---- time ---- */
static double pace(const new_job *j)
{
    return j->estimated > PACE_KNOWN ? j->took / j->estimated : 1;
}

static void note_pace(new_job *j, double estimated, double took)
{
    j->estimated = j->estimated / 2 + estimated;
    j->took = j->took / 2 + took;
}

dscm_code new_store_plan(new_job *j, dscm_error *err)
{
    char path[NEW_PATH];
    dscm_code code = new_file_in(j, path, err, "plan.json");
    j->plan.used = j->used_before + cli_seconds() - j->began;
    return code == DSCM_OK ? new_plan_write(&j->plan, path, err) : code;
}

/* Gives `seconds` that are left over to the score network before it begins. */
static dscm_code use_time(new_job *j, size_t first, size_t done, double seconds, dscm_error *err)
{
    new_plan *p = &j->plan;
    size_t before = new_score_samples(j);
    if (first + 1 < p->stages_count || done) return DSCM_OK;
    new_plan_lengthen(p, seconds / pace(j));
    if (new_score_samples(j) == before) return DSCM_OK;
    fprintf(stderr, "early: %.0f s are left over; the score network gets %zu samples\n", seconds,
            new_score_samples(j));
    return new_store_plan(j, err);
}

/* What is left of the plan's time for training, from stage `first` on, of which `done` samples are
 * there, is compared with what training needs at this run's pace. */
static dscm_code keep_time(new_job *j, size_t first, size_t done, dscm_error *err)
{
    new_plan *p = &j->plan;
    if (!(p->seconds > 0)) return DSCM_OK;
    dscm_code code = new_store_plan(j, err); /* the time used so far */
    double left = p->seconds - p->used - new_plan_rest(p) * fmax(1, fmin(pace(j), 2));
    double needed = pace(j) * new_plan_needed(p, first, done);
    if (code != DSCM_OK || !(needed > 0)) return code;
    if (needed < EARLY * left) return use_time(j, first, done, left - needed, err);
    if (needed <= LATE * left) return DSCM_OK;
    new_plan_shorten(p, first, done, fmax(left, 0) / needed);
    fprintf(
        stderr,
        "late: %.0f of %.0f s are used, and training would take %.0f more; it is shortened, the "
        "score network to %zu samples\n",
        p->used, p->seconds, needed, new_score_samples(j));
    return new_store_plan(j, err);
}

/* Which stage begins, and how far all is: by the estimates, and the pace of this run so far. */
static void tell_stage(const new_job *j, size_t number)
{
    const new_plan *p = &j->plan;
    const new_stage *s = &p->stages[number];
    double rest = new_plan_rest(p), all = new_plan_needed(p, 0, 0) + rest;
    double left = new_plan_needed(p, number, 0) + rest;
    fprintf(stderr, "[%zu/%zu] %s, about %.1f min; %.0f %% done, about %.0f min left\n", number + 1,
            new_stages_in_all(p), s->name, pace(j) * s->seconds / 60, 100 * (1 - left / all),
            pace(j) * left / 60 + .5);
}

/* ---- one network ---- */
/* Of a checkpoint; 0: there is none. */
static size_t samples_done(const new_job *j, const new_stage *s)
{
    char path[NEW_PATH];
    dscm_error ignored = {0};
    dscm_tensors *set = NULL;
    const char *text = NULL;
    if (new_file_in(j, path, &ignored, "%s.ck", s->name) != DSCM_OK || access(path, F_OK) != 0 ||
        dscm_tensors_open(&set, path, &ignored) != DSCM_OK)
        return 0;
    text = dscm_tensors_metadata(set, "samples_done");
    size_t done = text ? strtoul(text, NULL, 10) : 0;
    dscm_tensors_free(set);
    return done;
}

/* Trains a network planned for `samples` up to `until` of them. */
static dscm_code train_until(new_job *j, const new_stage *s, size_t samples, size_t until,
                             const char *results, dscm_error *err)
{
    char name[64];
    name_stage(j, s, name);
    new_arguments *a = new_begin("train");
    for (size_t i = 0; i < json_array_size(s->words); i++)
        new_add(a, "%s", json_string_value(json_array_get(s->words, i)));
    new_add(a, "--data=%s", j->work);
    new_add(a, "--eval-split=S");
    new_add(a, "--eval-limit=%zu", new_plan_held_out(&j->plan));
    new_add(a, "--quiet");
    new_add(a, "--out=%s/%s.st", j->work, name);
    new_add(a, "--checkpoint=%s/%s.ck", j->work, s->name);
    new_add(a, "--checkpoint-every=20");
    new_add(a, "--log=%s/%s.csv", j->work, s->name);
    new_add(a, "--samples=%zu", samples);
    if (until < samples) new_add(a, "--until=%zu", until);
    new_add(a, "--threads=%zu", j->plan.threads);
    return new_run_command(a, results, err);
}

/* Where training stands after the plans of before it was shortened, if there were any. */
static dscm_code train_cuts(new_job *j, const new_stage *s, const char *results, dscm_error *err)
{
    dscm_code code = DSCM_OK;
    for (size_t k = 0; code == DSCM_OK && k < s->cuts_count; k++)
        if (samples_done(j, s) < s->cuts[k].at)
            code = train_until(j, s, s->cuts[k].samples, s->cuts[k].at, results, err);
    return code;
}

/* The next place where the time is looked at: a quarter of the way from the last cut; else the end. */
static size_t next_look(const new_job *j, const new_stage *s, size_t done)
{
    size_t from = s->cuts_count ? s->cuts[s->cuts_count - 1].at : 0;
    size_t quarter = (s->samples - from) / 4 / s->batch * s->batch;
    double seconds = pace(j) * s->seconds * (double)(s->samples - from) / (double)s->samples;
    if (!(j->plan.seconds > 0) || !quarter || seconds < QUARTERED || s->cuts_count == NEW_CUTS_MAX)
        return s->samples;
    for (size_t k = 1; k < 4; k++)
        if (from + k * quarter > done) return from + k * quarter;
    return s->samples;
}

static dscm_code train_stage(new_job *j, size_t number, dscm_error *err)
{
    char name[64], done_path[NEW_PATH], part[NEW_PATH];
    new_stage *s = &j->plan.stages[number];
    dscm_code code = new_file_in(j, part, err, "%s.part", s->name);
    if (code == DSCM_OK) code = train_cuts(j, s, part, err);
    for (size_t until = 0; code == DSCM_OK && until < s->samples;) {
        size_t done = samples_done(j, s);
        double start = cli_seconds();
        until = next_look(j, s, done);
        code = train_until(j, s, s->samples, until, part, err);
        if (code == DSCM_OK && until > done)
            note_pace(j, s->seconds * (double)(until - done) / (double)s->samples,
                      cli_seconds() - start);
        if (code == DSCM_OK && until < s->samples) code = keep_time(j, number, until, err);
    }
    name_stage(j, s, name);
    if (code == DSCM_OK) code = new_file_in(j, done_path, err, "%s.txt", name);
    if (code == DSCM_OK && rename(part, done_path) != 0)
        code = dscm_fail(err, DSCM_E_IO, "%s: cannot be written: %s", done_path, strerror(errno));
    return code;
}

dscm_code new_raise_samples(new_job *j, size_t samples, dscm_error *err)
{
    new_stage *s = new_plan_score(&j->plan);
    size_t done = samples_done(j, s), before = s->samples;
    double rate = (double)s->samples / (s->seconds - s->fixed);
    if (samples <= before) return DSCM_OK;
    if (done && s->cuts_count == NEW_CUTS_MAX)
        return dscm_fail(err, DSCM_E_LIMIT, "--samples %zu: this plan was changed %d times already",
                         samples, NEW_CUTS_MAX);
    if (done && (!s->cuts_count || s->cuts[s->cuts_count - 1].at < done))
        s->cuts[s->cuts_count++] = (new_cut){done, before};
    s->samples = samples;
    s->seconds = s->fixed + (double)samples / rate;
    return DSCM_OK;
}

dscm_code new_raise_time(new_job *j, double seconds, dscm_error *err)
{
    const new_stage *s = new_plan_score(&j->plan);
    double rate = (double)s->samples / (s->seconds - s->fixed);
    double more = fmin(seconds * rate, 1e12) / (double)s->batch;
    return new_raise_samples(j, s->samples + (size_t)more * s->batch, err);
}

/* ---- all ---- */
dscm_code new_train_all(new_job *j, dscm_error *err)
{
    dscm_code code = DSCM_OK;
    for (size_t i = 0; code == DSCM_OK && i < j->plan.stages_count; i++) {
        char name[64], done[NEW_PATH];
        name_stage(j, &j->plan.stages[i], name);
        code = new_file_in(j, done, err, "%s.txt", name);
        if (code != DSCM_OK || access(done, F_OK) == 0) continue;
        if (!samples_done(j, &j->plan.stages[i])) code = keep_time(j, i, 0, err);
        if (code == DSCM_OK) tell_stage(j, i);
        if (code == DSCM_OK) code = train_stage(j, i, err);
    }
    return code;
}

dscm_code new_shorten_measurement(new_job *j, dscm_error *err)
{
    new_plan *p = &j->plan;
    if (!(p->seconds > 0)) return DSCM_OK;
    double left = p->seconds - j->used_before - (cli_seconds() - j->began);
    new_plan_fit_measurement(p, left / pace(j));
    return new_store_plan(j, err);
}
