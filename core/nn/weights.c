/* Weights in the forms that kernels want: see graph.h. */
#include <assert.h>
#include <string.h>

#include "core/kernels/simd/pack_simd.h"
#include "core/nn/graph_internal.h"

#define STORED_MIN ((size_t)16384) /* elements */

static bool is_conv_weight(const dscm_graph *g, size_t p)
{
    for (size_t i = 0; i < g->ops_count; i++)
        if (g->ops[i].kind == OP_CONV && g->ops[i].w == (int)p) return true;
    return false;
}

static size_t align_floats(size_t floats)
{
    return dscm_arena_round(floats * sizeof(float)) / sizeof(float);
}

static size_t passes_of(dscm_exec_mode mode)
{
    return mode == DSCM_EXEC_INFER ? 1 : 2;
}

/* A convolution of a condition has no input gradient unless parameters are trained. */
static bool packs(const dscm_weights *w, size_t op, size_t pass)
{
    const node_op *o = &w->graph->ops[op];
    if (o->kind != OP_CONV) return false;
    return pass == DSCM_CONV_FORWARD || w->mode == DSCM_EXEC_PARAM_GRAD ||
           !w->graph->tensors[o->in[0]].per_condition;
}

static void plan_convs(dscm_weights *w)
{
    const dscm_graph *g = w->graph;
    for (size_t i = 0; i < g->ops_count; i++) {
        const node_op *op = &g->ops[i];
        if (op->kind != OP_CONV) continue;
        dscm_conv_shape shape = dscm_graph_conv_shape(g, op);
        w->plans[i] = dscm_conv_plan(shape, w->isa, DSCM_CONV_AUTO);
    }
}

/* Is the weight of a convolution left in its view? Small ones are not worth the call. */
static bool stays_stored(const dscm_weights *w, size_t op)
{
    const node_op *o = &w->graph->ops[op];
    return w->form == DSCM_WEIGHTS_STORED && o->kind == OP_CONV &&
           w->graph->params->items[o->w].count >= STORED_MIN;
}

/* Walks all storage; `memory` NULL only counts. */
static size_t lay_out(dscm_weights *w, float *memory)
{
    const dscm_graph *g = w->graph;
    size_t used = 0;
    for (size_t p = 0; p < g->params->count; p++) {
        if (is_conv_weight(g, p)) continue;
        if (memory) w->values[p] = memory + used;
        used += align_floats(g->params->items[p].count);
    }
    for (size_t pass = 0; pass < passes_of(w->mode); pass++)
        for (size_t i = 0; i < g->ops_count; i++) {
            if (!packs(w, i, pass) || stays_stored(w, i)) continue;
            if (memory) w->packed[pass][i] = memory + used;
            used += align_floats(dscm_conv_packed_floats(&w->plans[i], (dscm_conv_pass)pass));
        }
    return used;
}

dscm_code dscm_weights_plan(dscm_weights **out, const dscm_graph *g, dscm_isa isa,
                            dscm_exec_mode mode, dscm_weights_form form, dscm_error *err)
{
    *out = NULL;
    dscm_weights *w = dscm_alloc(1, sizeof *w, "weights", err);
    if (!w) return DSCM_E_MEMORY;
    *w = (dscm_weights){.graph = g, .isa = isa, .mode = mode, .form = form};
    w->values = dscm_alloc(g->params->count, sizeof *w->values, "weights", err);
    w->plans = dscm_alloc(g->ops_count, sizeof *w->plans, "weights", err);
    w->stored = dscm_alloc(g->ops_count, sizeof *w->stored, "weights", err);
    for (int pass = 0; pass < 2; pass++)
        w->packed[pass] = dscm_alloc(g->ops_count, sizeof *w->packed[0], "weights", err);
    if (!w->values || !w->plans || !w->stored || !w->packed[0] || !w->packed[1]) {
        dscm_weights_free(w);
        return DSCM_E_MEMORY;
    }
    plan_convs(w);
    /* Executors are measured before the weights are there: only whether data is NULL counts. */
    for (size_t i = 0; i < g->ops_count; i++)
        if (stays_stored(w, i)) w->stored[i].data = g;
    w->floats = lay_out(w, NULL);
    *out = w;
    return DSCM_OK;
}

static void fill_op(dscm_weights *w, size_t i, const dscm_param_view *from, dscm_team *team)
{
    for (size_t pass = 0; pass < passes_of(w->mode); pass++)
        if (packs(w, i, pass))
            dscm_conv_pack_from(&w->plans[i], (dscm_conv_pass)pass, w->packed[pass][i], from->data,
                                from->type, team);
}

dscm_code dscm_weights_fill(dscm_weights *w, const dscm_param_view *views,
                            const dscm_view_done *done, dscm_team *team, dscm_error *err)
{
    const dscm_graph *g = w->graph;
    size_t bytes = dscm_arena_round((w->floats + 1) * sizeof(float));
    /* An arena: huge pages, since a pass reads megabytes of packed weights once each. */
    dscm_code code = dscm_arena_open(&w->arena, bytes, err);
    if (code != DSCM_OK) return code;
    lay_out(w, dscm_arena_take(&w->arena, bytes));
    const dscm_pack_kernels *kernels = dscm_pack_kernels_of(w->isa);
    for (size_t p = 0; p < g->params->count; p++)
        if (w->values[p])
            kernels->widen(w->values[p], views[p].data, g->params->items[p].count, views[p].type);
    for (size_t i = 0; i < g->ops_count; i++) {
        if (g->ops[i].kind != OP_CONV) continue;
        const dscm_param_view *view = &views[g->ops[i].w];
        if (stays_stored(w, i)) {
            w->stored[i] = *view;
            continue;
        }
        fill_op(w, i, view, team);
        if (done) done->call(done->arg, view, g->params->items[g->ops[i].w].count);
    }
    return DSCM_OK;
}

dscm_code dscm_weights_open(dscm_weights **out, const dscm_graph *g, const float *values,
                            dscm_isa isa, dscm_exec_mode mode, dscm_error *err)
{
    dscm_code code = dscm_weights_plan(out, g, isa, mode, DSCM_WEIGHTS_PACKED, err);
    if (code != DSCM_OK) return code;
    const dscm_params *params = g->params;
    dscm_param_view *views = dscm_alloc(params->count, sizeof *views, "weights", err);
    for (size_t p = 0; views && p < params->count; p++)
        views[p] = (dscm_param_view){.data = values + params->items[p].offset};
    code = views ? dscm_weights_fill(*out, views, NULL, NULL, err) : DSCM_E_MEMORY;
    dscm_free(views);
    if (code != DSCM_OK) {
        dscm_weights_free(*out);
        *out = NULL;
    }
    return code;
}

typedef struct update_job {
    dscm_weights *w;
    const float *values;
} update_job;

static void update_op(void *arg, size_t i, int worker)
{
    const update_job *job = arg;
    const dscm_graph *g = job->w->graph;
    (void)worker;
    if (g->ops[i].kind != OP_CONV) return;
    const float *from = job->values + g->params->items[g->ops[i].w].offset;
    for (size_t pass = 0; pass < passes_of(job->w->mode); pass++)
        if (packs(job->w, i, pass))
            dscm_conv_pack(&job->w->plans[i], (dscm_conv_pass)pass, job->w->packed[pass][i], from);
}

void dscm_weights_update(dscm_weights *w, const float *values, dscm_team *team)
{
    const dscm_params *params = w->graph->params;
    assert(w->form == DSCM_WEIGHTS_PACKED && w->arena.base);
    for (size_t p = 0; p < params->count; p++) {
        const dscm_param *item = &params->items[p];
        if (w->values[p]) memcpy(w->values[p], values + item->offset, item->count * sizeof(float));
    }
    update_job job = {.w = w, .values = values};
    dscm_team_run(team, w->graph->ops_count, update_op, &job);
}

void dscm_weights_free(dscm_weights *w)
{
    if (!w) return;
    dscm_arena_close(&w->arena);
    dscm_free(w->values);
    dscm_free(w->plans);
    dscm_free(w->stored);
    dscm_free(w->packed[0]);
    dscm_free(w->packed[1]);
    dscm_free(w);
}

size_t dscm_weights_bytes(const dscm_weights *w)
{
    return w->floats * sizeof(float);
}
