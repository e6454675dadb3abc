/* The executor: decides what is computed, places every buffer in one arena, runs the list. */
#include <assert.h>
#include <string.h>

#include "core/nn/graph_internal.h"

static const op_class *const classes[OP_KINDS] = {
    [OP_CONV] = &dscm_op_conv_class,
    [OP_NORM] = &dscm_op_norm_class,
    [OP_ACT] = &dscm_op_act_class,
    [OP_ADD] = &dscm_op_add_class,
    [OP_CONCAT] = &dscm_op_concat_class,
    [OP_UPSAMPLE] = &dscm_op_upsample_class,
    [OP_AVGPOOL] = &dscm_op_avgpool_class,
    [OP_MAXPOOL] = &dscm_op_maxpool_class,
    [OP_MEAN] = &dscm_op_mean_class,
    [OP_RESHAPE] = &dscm_op_reshape_class,
    [OP_DROPOUT] = &dscm_op_dropout_class,
    [OP_ATTENTION] = &dscm_op_attention_class,
    [OP_POOL_TOKENS] = &dscm_op_pool_tokens_class,
    [OP_FIRST_TOKEN] = &dscm_op_first_token_class,
    [OP_TIME] = &dscm_op_time_class,
    [OP_LABEL] = &dscm_op_label_class,
    [OP_REPARAM] = &dscm_op_reparam_class,
};

/* ---- buffers and their lifetimes ----
 *
 * Time: operation i runs forward at i and backward at 2n-1-i. A buffer occupies its bytes from its
 * first writer to its last reader, both included; buffers whose times overlap get different
 * places. */
typedef struct span {
    size_t bytes, from, to, offset;
    bool used;
} span;

typedef struct plan {
    dscm_exec *x;
    size_t n;                /* operations */
    bool *needs_grad;        /* (tensors) */
    span *data, *grad, *aux; /* (tensors), (tensors), (ops) */
    span **order;            /* every used span, for placing */
    size_t order_count;
    size_t placed;     /* bytes of all spans together */
    size_t sums;       /* floats of all weight-gradient sums */
    bool only_measure; /* take no memory */
} plan;

static int root_of(const dscm_graph *g, int t)
{
    while (g->tensors[t].view_of >= 0) t = g->tensors[t].view_of;
    return t;
}

static void extend(span *s, size_t time)
{
    if (!s->used || time < s->from) s->from = time;
    if (!s->used || time > s->to) s->to = time;
    s->used = true;
}

static bool wanted(const dscm_exec_options *options, const node_tensor *t)
{
    if (!t->is_output) return false;
    if (!options->outputs) return true;
    for (const char *const *name = options->outputs; *name; name++)
        if (strcmp(*name, t->name) == 0) return true;
    return false;
}

/* Marks the operations that a wanted output depends on. */
static void mark_live(plan *p, const dscm_exec_options *options)
{
    const dscm_graph *g = p->x->graph;
    for (size_t i = p->n; i-- > 0;) {
        const node_op *op = &g->ops[i];
        bool live = wanted(options, &g->tensors[op->out]);
        p->x->wanted[op->out] = live;
        for (size_t j = i + 1; j < p->n && !live; j++)
            for (int k = 0; k < OP_INPUTS; k++) live |= p->x->live[j] && g->ops[j].in[k] == op->out;
        p->x->live[i] = live;
    }
}

static void mark_grads(plan *p)
{
    const dscm_exec *x = p->x;
    const dscm_graph *g = x->graph;
    if (x->mode == DSCM_EXEC_INFER) return;
    for (size_t t = 0; t < g->tensors_count; t++)
        p->needs_grad[t] = g->tensors[t].is_input && !g->tensors[t].per_condition;
    for (size_t i = 0; i < p->n; i++) {
        const node_op *op = &g->ops[i];
        if (!x->live[i]) continue;
        bool needs = x->mode == DSCM_EXEC_PARAM_GRAD && op->w >= 0;
        for (int k = 0; k < OP_INPUTS; k++) needs |= op->in[k] >= 0 && p->needs_grad[op->in[k]];
        p->needs_grad[op->out] = needs;
    }
}

static size_t tensor_bytes(const dscm_exec *x, int t)
{
    const node_tensor *n = &x->graph->tensors[t];
    return dscm_arena_round(x->batch_max * n->h * n->w * n->c * sizeof(float));
}

static void find_lifetimes(plan *p)
{
    dscm_exec *x = p->x;
    const dscm_graph *g = x->graph;
    size_t n = p->n, end = 2 * n;
    for (size_t t = 0; t < g->tensors_count; t++) {
        int root = root_of(g, (int)t);
        p->data[t].bytes = p->grad[t].bytes = tensor_bytes(x, (int)t);
        if (g->tensors[t].is_input) {
            extend(&p->data[root], 0);
            extend(&p->data[root], end);
            if (p->needs_grad[t]) extend(&p->grad[root], end);
        }
    }
    for (size_t i = 0; i < n; i++) {
        const node_op *op = &g->ops[i];
        const op_class *c = classes[op->kind];
        if (!x->live[i]) continue;
        size_t back = 2 * n - 1 - i;
        bool grads = p->needs_grad[op->out];
        unsigned reads = !grads ? 0 : c->reads;
        if (grads && x->mode == DSCM_EXEC_PARAM_GRAD) reads |= c->reads_param;
        extend(&p->data[root_of(g, op->out)], i);
        if (g->tensors[op->out].is_output) extend(&p->data[root_of(g, op->out)], end);
        if (reads & READS_OUT) extend(&p->data[root_of(g, op->out)], back);
        for (int k = 0; k < OP_INPUTS; k++) {
            if (op->in[k] < 0) continue;
            span *data = &p->data[root_of(g, op->in[k])];
            extend(data, i);
            if (reads & (1u << k)) extend(data, back);
            if (grads && p->needs_grad[op->in[k]]) extend(&p->grad[root_of(g, op->in[k])], back);
        }
        if (grads) extend(&p->grad[root_of(g, op->out)], back);
        if (grads && x->wanted[op->out]) extend(&p->grad[root_of(g, op->out)], n - 1);
        if (c->aux_bytes) {
            p->aux[i].bytes = dscm_arena_round(c->aux_bytes(x, op));
            extend(&p->aux[i], i);
            if (grads) extend(&p->aux[i], back);
        }
    }
}

/* First fit, largest buffers first: each goes to the lowest place that is free for its whole time.
 */
static void place(plan *p, span *s)
{
    size_t offset = 0;
    for (bool moved = true; moved;) {
        moved = false;
        for (size_t i = 0; i < p->order_count; i++) {
            const span *o = p->order[i];
            bool apart = o->to < s->from || s->to < o->from || o->offset + o->bytes <= offset ||
                         offset + s->bytes <= o->offset;
            if (apart) continue;
            offset = o->offset + o->bytes;
            moved = true;
        }
    }
    s->offset = offset;
    p->order[p->order_count++] = s;
    if (offset + s->bytes > p->placed) p->placed = offset + s->bytes;
}

static void place_all(plan *p)
{
    size_t tensors = p->x->graph->tensors_count, total = 2 * tensors + p->n;
    for (;;) {
        span *next = NULL;
        for (size_t i = 0; i < total; i++) {
            span *s = i < tensors       ? &p->data[i]
                      : i < 2 * tensors ? &p->grad[i - tensors]
                                        : &p->aux[i - 2 * tensors];
            bool done = false;
            for (size_t k = 0; k < p->order_count && !done; k++) done = p->order[k] == s;
            if (s->used && !done && (!next || s->bytes > next->bytes)) next = s;
        }
        if (!next) return;
        place(p, next);
    }
}

static size_t largest_scratch(const dscm_exec *x)
{
    size_t most = DSCM_ALIGN;
    for (size_t i = 0; i < x->graph->ops_count; i++) {
        const op_class *c = classes[x->graph->ops[i].kind];
        size_t bytes = x->live[i] && c->scratch_bytes ? c->scratch_bytes(x, &x->graph->ops[i]) : 0;
        if (bytes > most) most = bytes;
    }
    return dscm_arena_round(most);
}

static size_t sums_floats(const dscm_exec *x, size_t op)
{
    const node_op *o = &x->graph->ops[op];
    if (x->mode != DSCM_EXEC_PARAM_GRAD || o->kind != OP_CONV || !x->live[op]) return 0;
    size_t bytes = dscm_conv_sums_floats(&x->weights->plans[op]) * sizeof(float);
    return dscm_arena_round(bytes) / sizeof(float);
}

static void assign_pointers(plan *p, unsigned char *base)
{
    dscm_exec *x = p->x;
    const dscm_graph *g = x->graph;
    for (size_t t = 0; t < g->tensors_count; t++) {
        int root = root_of(g, (int)t);
        size_t at = g->tensors[t].view_of >= 0 ? g->tensors[t].view_at : 0;
        if (p->data[root].used) x->data[t] = (float *)(base + p->data[root].offset) + at;
        if (p->grad[root].used && p->needs_grad[t])
            x->grad[t] = (float *)(base + p->grad[root].offset) + at;
    }
    for (size_t i = 0; i < g->ops_count; i++)
        if (p->aux[i].used) x->aux[i] = (float *)(base + p->aux[i].offset);
}

static dscm_code plan_memory(plan *p, const dscm_exec_options *options, dscm_error *err)
{
    dscm_exec *x = p->x;
    mark_live(p, options);
    mark_grads(p);
    find_lifetimes(p);
    place_all(p);
    x->scratch_bytes = largest_scratch(x);
    size_t grads =
        x->mode == DSCM_EXEC_PARAM_GRAD ? (x->graph->params->floats + 1) * sizeof(float) : 0;
    grads = dscm_arena_round(grads);
    for (size_t i = 0; i < p->n; i++) p->sums += sums_floats(x, i);
    x->bytes = p->placed + x->scratch_bytes + grads + p->sums * sizeof(float);
    if (p->only_measure) return DSCM_OK;
    unsigned char *base = options->memory;
    if (!base) {
        dscm_code code = dscm_arena_open(&x->arena, x->bytes, err);
        if (code != DSCM_OK) return code;
        base = dscm_arena_take(&x->arena, x->bytes);
    }
    x->scratch = base + p->placed;
    if (grads) x->param_grads = (float *)(base + p->placed + x->scratch_bytes);
    float *sums = (float *)(base + p->placed + x->scratch_bytes + grads);
    if (p->sums) memset(sums, 0, p->sums * sizeof *sums);
    for (size_t i = 0; i < p->n; i++)
        if (sums_floats(x, i)) {
            x->sums[i] = sums;
            sums += sums_floats(x, i);
        }
    assign_pointers(p, base);
    return DSCM_OK;
}

/* ---- opening ---- */
static dscm_code open_exec(dscm_exec **out, const dscm_graph *g, const dscm_weights *w,
                           const dscm_exec_options *options, bool only_measure, dscm_error *err)
{
    assert(options->batch >= 1 && options->mode <= w->mode);
    *out = NULL;
    size_t tensors = g->tensors_count, ops = g->ops_count;
    dscm_exec *x = dscm_alloc(1, sizeof *x, "executor", err);
    if (!x) return DSCM_E_MEMORY;
    x->graph = g;
    x->weights = w;
    x->kernels = dscm_nn_kernels_of(w->isa);
    x->mode = options->mode;
    x->team = options->team;
    x->batch_max = options->batch;
    x->data = dscm_alloc(tensors, sizeof *x->data, "executor", err);
    x->grad = dscm_alloc(tensors, sizeof *x->grad, "executor", err);
    x->aux = dscm_alloc(ops, sizeof *x->aux, "executor", err);
    x->live = dscm_alloc(ops, sizeof *x->live, "executor", err);
    x->sums = dscm_alloc(ops, sizeof *x->sums, "executor", err);
    x->written = dscm_alloc(tensors, sizeof *x->written, "executor", err);
    x->wanted = dscm_alloc(tensors, sizeof *x->wanted, "executor", err);
    plan p = {.x = x,
              .n = ops,
              .only_measure = only_measure,
              .needs_grad = dscm_alloc(tensors, sizeof(bool), "executor", err),
              .data = dscm_alloc(tensors, sizeof(span), "executor", err),
              .grad = dscm_alloc(tensors, sizeof(span), "executor", err),
              .aux = dscm_alloc(ops, sizeof(span), "executor", err),
              .order = dscm_alloc(2 * tensors + ops, sizeof(span *), "executor", err)};
    dscm_code code = DSCM_E_MEMORY;
    if (x->data && x->grad && x->aux && x->live && x->sums && x->written && x->wanted &&
        p.needs_grad && p.data && p.grad && p.aux && p.order)
        code = plan_memory(&p, options, err);
    dscm_free(p.needs_grad);
    dscm_free(p.data);
    dscm_free(p.grad);
    dscm_free(p.aux);
    dscm_free(p.order);
    if (code != DSCM_OK) {
        dscm_exec_free(x);
        return code;
    }
    *out = x;
    return DSCM_OK;
}

dscm_code dscm_exec_open(dscm_exec **out, const dscm_graph *g, const dscm_weights *w,
                         const dscm_exec_options *options, dscm_error *err)
{
    assert(w->arena.base);
    return open_exec(out, g, w, options, false, err);
}

dscm_code dscm_exec_measure(size_t *bytes, const dscm_graph *g, const dscm_weights *w,
                            const dscm_exec_options *options, dscm_error *err)
{
    dscm_exec *x;
    dscm_code code = open_exec(&x, g, w, options, true, err);
    *bytes = code == DSCM_OK ? x->bytes : 0;
    dscm_exec_free(x);
    return code;
}

void dscm_exec_free(dscm_exec *x)
{
    if (!x) return;
    dscm_arena_close(&x->arena);
    dscm_free(x->data);
    dscm_free(x->grad);
    dscm_free(x->aux);
    dscm_free(x->live);
    dscm_free(x->sums);
    dscm_free(x->written);
    dscm_free(x->wanted);
    dscm_free(x);
}

void dscm_exec_use(dscm_exec *x, const dscm_weights *w)
{
    assert(w->graph->ops_count == x->graph->ops_count && w->isa == x->weights->isa &&
           w->mode >= x->mode && w->form == x->weights->form);
    x->weights = w;
}

void dscm_exec_join(dscm_exec *x, dscm_team *team)
{
    x->team = team;
}

size_t dscm_exec_bytes(const dscm_exec *x)
{
    return x->bytes;
}

float *dscm_exec_data(dscm_exec *x, dscm_tensor t)
{
    assert(x->data[t] && ld_of(x, t) == tensor_of(x, t)->c);
    return x->data[t];
}

float *dscm_exec_grad(dscm_exec *x, dscm_tensor t)
{
    assert(x->grad[t]);
    return x->grad[t];
}

float *dscm_exec_param_grads(dscm_exec *x)
{
    assert(x->param_grads);
    for (size_t i = 0; i < x->graph->ops_count && x->sums_pending; i++)
        if (x->sums[i])
            dscm_conv_weight_grad_finish(&x->weights->plans[i],
                                         param_grad_of(x, x->graph->ops[i].w), x->sums[i]);
    x->sums_pending = false;
    return x->param_grads;
}

void dscm_exec_zero_grads(dscm_exec *x)
{
    dscm_exec_param_grads(x); /* leaves the sums at zero */
    memset(x->param_grads, 0, x->graph->params->floats * sizeof *x->param_grads);
}

void dscm_exec_seed_dropout(dscm_exec *x, uint64_t seed, uint64_t first_sample)
{
    x->dropout_seed = seed;
    x->dropout_sample = first_sample;
}

/* ---- running ---- */
void dscm_exec_watch(dscm_exec *x, bool (*go)(void *arg), void *arg)
{
    x->go = go;
    x->go_arg = arg;
}

static bool may_go_on(const dscm_exec *x)
{
    return !x->go || x->go(x->go_arg);
}

bool dscm_exec_forward(dscm_exec *x, size_t batch, size_t conditions)
{
    assert(batch >= 1 && batch <= x->batch_max && (conditions == 1 || conditions == batch));
    x->batch = batch;
    x->conditions = conditions;
    x->work.forward += batch;
    for (size_t i = 0; i < x->graph->ops_count; i++) {
        if (!x->live[i]) continue;
        if (!may_go_on(x)) return false;
        classes[x->graph->ops[i].kind]->forward(x, &x->graph->ops[i]);
    }
    return true;
}

dscm_exec_work dscm_exec_done(const dscm_exec *x)
{
    return x->work;
}

bool dscm_exec_backward(dscm_exec *x)
{
    const dscm_graph *g = x->graph;
    assert(x->mode != DSCM_EXEC_INFER && x->batch);
    for (size_t t = 0; t < g->tensors_count; t++) x->written[t] = x->wanted[t];
    x->sums_pending = true;
    x->work.backward += x->batch;
    for (size_t i = g->ops_count; i-- > 0;) {
        const node_op *op = &g->ops[i];
        if (!x->live[i] || !x->grad[op->out] || !x->written[op->out]) continue;
        if (!may_go_on(x)) return false;
        classes[op->kind]->backward(x, op);
    }
    for (size_t t = 0; t < g->tensors_count; t++) /* inputs that no wanted output depends on */
        if (g->tensors[t].is_input && x->grad[t] && !x->written[t])
            memset(x->grad[t], 0,
                   x->batch * pixels_of(x, (int)t) * g->tensors[t].c * sizeof(float));
    return true;
}

void dscm_lines_accumulate(const dscm_exec *x, float *to, size_t ld_to, const float *from,
                           size_t ld_from, size_t pixels, size_t c, bool add)
{
    if (ld_to == c && ld_from == c) {
        c *= pixels;
        pixels = 1;
    }
    for (size_t p = 0; p < pixels; p++, to += ld_to, from += ld_from) {
        if (!add)
            memcpy(to, from, c * sizeof *to);
        else
            x->kernels->add(to, to, from, c);
    }
}
