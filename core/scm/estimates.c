#include "core/scm/estimates.h"

#include <math.h>
#include <string.h>

/* Tells the score network condition `m` of one row. */
static void set_condition(const dscm_session *s, size_t m, size_t row, double value)
{
    const dscm_net *net = s->image->score.net;
    if (net->label >= 0)
        dscm_exec_data(s->score, net->label)[row] = isnan(value) ? 0 : (float)value;
    else
        dscm_net_set_parent(net, s->score, m, row, value);
}

size_t scm_late_level(const dscm_session *s, const dscm_path *path)
{
    size_t k = path->steps;
    while (k > 1 && path->t[k] >= (double)s->image->schedule.steps / 2) k--;
    return k;
}

static bool is_late(const dscm_session *s, const walk_call *call, double t)
{
    return t <= call->path->t[scm_late_level(s, call->path)];
}

/* Guidance of item `item` by condition `m` at time t; its scale is 0 where nothing is to change or to strengthen. */
static guidance condition_guidance(const dscm_session *s, const walk_call *call, size_t item,
                                   size_t m, double t)
{
    const dscm_bundle *b = s->bundle;
    guidance g = call->guided[item * b->edges_count + (size_t)b->condition_edges[m]];
    bool strengthened = g.held && g.scale > 1;
    if (g.aim != 0 && is_late(s, call, t)) g.target += g.aim;
    if (g.target == call->told[item * dscm_bundle_conditions(b) + m] && !strengthened) g.scale = 0;
    return g;
}

/* Which conditions of a row are at their targets: none, all that change, or all of those but the one
 * whose index stands there. */
#define FACTUAL (-1)
#define JOINT   (-2)

static bool at_target(int change, size_t m)
{
    return change == JOINT || (change >= 0 && change != (int)m);
}

/* Runs the score network for the session's first `count` rows. False when the watch stopped it. */
static bool run_rows(dscm_session *s, const walk_call *call, const float *x, double t, size_t count)
{
    const dscm_net *net = s->image->score.net;
    size_t conditions = dscm_bundle_conditions(s->bundle), told_apart = conditions ? count : 1;
    for (size_t r = 0; r < count; r++)
        memcpy(dscm_exec_data(s->score, net->x) + r * s->size, x + s->rows[r].item * s->size,
               s->size * sizeof *x);
    for (size_t r = 0; conditions && r < count; r++)
        for (size_t m = 0; m < conditions; m++) {
            const score_row *row = &s->rows[r];
            double told = call->told ? call->told[row->item * conditions + m] : (double)NAN;
            guidance g = {0};
            if (at_target(row->change, m)) g = condition_guidance(s, call, row->item, m, t);
            if (row->change == (int)m && condition_guidance(s, call, row->item, m, t).held)
                told = (double)NAN;
            set_condition(s, m, r, g.scale != 0 ? g.target : told);
        }
    for (size_t r = 0; r < told_apart; r++) dscm_exec_data(s->score, net->t)[r] = (float)t;
    return dscm_exec_forward(s->score, count, told_apart);
}

/* eps of element i of an image from the network's answer for row `row`: a learned variance is left
 * out, v is turned into eps. */
typedef struct answer {
    const float *out;
    size_t channels, stride;
    float signal, noise; /* eps = signal * out + noise * x */
} answer;

static answer answer_of(const dscm_session *s, double t, size_t row)
{
    const dscm_net *net = s->image->score.net;
    size_t ci = net->config.in_channels, co = net->config.out_channels;
    double a = s->image->schedule.alphas_cumprod[(size_t)t];
    bool v = net->config.prediction == DSCM_PREDICT_V;
    return (answer){.out = dscm_exec_data(s->score, net->out) + row * (s->size / ci) * co,
                    .channels = ci,
                    .stride = co,
                    .signal = v ? (float)sqrt(a) : 1,
                    .noise = v ? (float)sqrt(1 - a) : 0};
}

static float eps_at(const answer *a, size_t i, float x)
{
    float out = a->out[i / a->channels * a->stride + i % a->channels];
    return a->noise != 0 ? a->signal * out + a->noise * x : out;
}

static void take_eps(const dscm_session *s, float *eps, const float *x, double t, size_t row)
{
    answer a = answer_of(s, t, row);
    for (size_t i = 0; i < s->size; i++) eps[i] = eps_at(&a, i, x[i]);
}

bool scm_estimate(dscm_session *s, const walk_call *call, float *eps, const float *x, double t,
                  size_t batch)
{
    for (size_t b = 0; b < batch; b++) s->rows[b] = (score_row){.item = b, .change = FACTUAL};
    if (!run_rows(s, call, x, t, batch)) return false;
    for (size_t b = 0; b < batch; b++) take_eps(s, eps + b * s->size, x + b * s->size, t, b);
    return true;
}

/* What an item's conditions add up to: eps = eps_F + sum of share_of(c) (eps_c - eps_F). */
typedef struct change_sum {
    size_t changed;
    double extra;   /* sum of (w - 1) over those that change */
    bool unchanged; /* w is 1 for all of these */
} change_sum;

static change_sum sum_changes(const dscm_session *s, const walk_call *call, size_t item, double t)
{
    change_sum out = {.unchanged = true};
    for (size_t m = 0; m < dscm_bundle_conditions(s->bundle); m++) {
        guidance g = condition_guidance(s, call, item, m, t);
        if (g.scale == 0) continue;
        out.changed++;
        out.extra += g.scale - 1;
        out.unchanged &= g.scale == 1;
    }
    return out;
}

/* How strongly the difference between a row's eps and the factual one counts for an item. One condition
 * that changes counts w times. Of several, all together count once, and each (w - 1) times more by what
 * its return to the factual value takes away, of a label that is held what not to be told it takes away:
 * eps_J - eps_F + sum (w_m - 1) (eps_J - eps_J\m). */
static double share_of(const dscm_session *s, const walk_call *call, size_t item, int change,
                       double t)
{
    change_sum sum = sum_changes(s, call, item, t);
    if (change == JOINT) return sum.changed ? 1 + sum.extra : 0;
    double scale = condition_guidance(s, call, item, (size_t)change, t).scale;
    return sum.changed > 1 && scale != 0 ? 1 - scale : 0;
}

/* Whether the shares of an item sum to 1, so that the factual estimate cancels, at a level where nobody
 * needs it: above, what guidance has moved is counted by its distance from that estimate, and says how
 * much of the abducted path is left. */
static bool cancels_factual(const dscm_session *s, const walk_call *call, size_t item, double t)
{
    change_sum sum = sum_changes(s, call, item, t);
    bool one = sum.changed > 1 || (sum.changed == 1 && sum.unchanged);
    return one && is_late(s, call, t);
}

/* Takes what the network says of a row: into the item's eps, or into the walk's gradient, of which the
 * sampler takes -sqrt(1 - alpha_bar). */
static void take_row(const dscm_session *s, const walk_call *call, float *eps, const float *x,
                     double t, size_t r)
{
    const score_row *row = &s->rows[r];
    const float *own = x + row->item * s->size;
    float *base = eps + row->item * s->size, *grad = s->walk.grad + row->item * s->size;
    if (row->change == FACTUAL) {
        take_eps(s, base, own, t, r);
        return;
    }
    double share = share_of(s, call, row->item, row->change, t);
    answer a = answer_of(s, t, r);
    if (cancels_factual(s, call, row->item, t)) {
        for (size_t i = 0; i < s->size; i++) base[i] += (float)share * eps_at(&a, i, own[i]);
        return;
    }
    double bar = s->image->schedule.alphas_cumprod[(size_t)t];
    float factor = (float)(-share / sqrt(1 - bar));
    for (size_t i = 0; i < s->size; i++) grad[i] += factor * (eps_at(&a, i, own[i]) - base[i]);
}

static bool needs_row(const dscm_session *s, const walk_call *call, size_t item, int change,
                      double t)
{
    if (change == FACTUAL) return !cancels_factual(s, call, item, t);
    return share_of(s, call, item, change, t) != 0;
}

bool scm_estimate_changes(dscm_session *s, const walk_call *call, float *eps, const float *x,
                          double t, size_t batch)
{
    int changes[2 + DSCM_PARENTS_MAX] = {FACTUAL, JOINT};
    size_t count = 2, n = 0;
    for (size_t m = 0; m < dscm_bundle_conditions(s->bundle); m++) changes[count++] = (int)m;
    memset(s->walk.grad, 0, batch * s->size * sizeof *s->walk.grad);
    memset(eps, 0, batch * s->size * sizeof *eps);
    /* Factual rows first: the others are compared with them. */
    for (size_t k = 0; k < count * batch; k++) {
        score_row row = {.item = k % batch, .change = changes[k / batch]};
        if (needs_row(s, call, row.item, row.change, t)) s->rows[n++] = row;
        if (n < s->rows_max && (k + 1 < count * batch || n == 0)) continue;
        if (!run_rows(s, call, x, t, n)) return false;
        for (size_t r = 0; r < n; r++) take_row(s, call, eps, x, t, r);
        n = 0;
    }
    return true;
}
