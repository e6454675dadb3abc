/* What builder, planner, executor and operations share. Internal to core/nn. */
#ifndef DSCM_CORE_NN_GRAPH_INTERNAL_H
#define DSCM_CORE_NN_GRAPH_INTERNAL_H

#include "core/base/memory.h"
#include "core/kernels/conv.h"
#include "core/kernels/simd/nn_simd.h"
#include "core/nn/graph.h"

#define NAME_MAX_BYTES 64
#define OP_INPUTS      3
#define NORM_EPS       1e-5f
#define NORM_CHUNK                                                                                 \
    ((size_t)1024) /* pixels whose moments are summed in float before double takes over */

typedef enum op_kind {
    OP_CONV,
    OP_NORM,
    OP_ACT,
    OP_ADD,
    OP_CONCAT,
    OP_UPSAMPLE,
    OP_AVGPOOL,
    OP_MAXPOOL,
    OP_MEAN,
    OP_RESHAPE,
    OP_DROPOUT,
    OP_ATTENTION,
    OP_POOL_TOKENS,
    OP_FIRST_TOKEN,
    OP_TIME,
    OP_LABEL,
    OP_REPARAM,
    OP_KINDS
} op_kind;

typedef struct node_tensor {
    size_t h, w, c;
    bool per_condition;
    bool is_input, is_output;
    char name[NAME_MAX_BYTES];
    int view_of;    /* concat output whose storage this tensor lives in, or -1 */
    size_t view_at; /* first channel there */
    int producer;   /* operation, -1 for inputs */
} node_tensor;

typedef struct node_op {
    op_kind kind;
    int in[OP_INPUTS]; /* -1: unused. conv: x, residual; norm: x, emb; … */
    int out;
    int w, b; /* parameter indices or -1 */
    int kernel, stride;
    size_t heads, groups;
    dscm_act act;
    bool new_order;
    float rate;
} node_op;

struct dscm_graph {
    dscm_params *params;
    node_tensor *tensors;
    node_op *ops;
    size_t tensors_count, tensors_capacity, ops_count, ops_capacity;
    dscm_error error; /* first error of a builder call */
};

struct dscm_weights {
    const dscm_graph *graph;
    dscm_isa isa;
    dscm_exec_mode mode;
    dscm_weights_form form;
    dscm_arena arena; /* all of the following; empty while only planned */
    size_t floats;
    float **values; /* (params) parameter values; NULL for convolution weights, which are packed */
    dscm_param_view *stored; /* (ops) weights of convolutions that are packed when used */
    dscm_conv *plans;        /* (ops) valid for OP_CONV */
    float **packed[2]; /* (ops) forward and input-gradient weights; NULL where unused or stored */
};

struct dscm_exec {
    const dscm_graph *graph;
    const dscm_weights *weights;
    const dscm_nn_kernels *kernels;
    dscm_exec_mode mode;
    dscm_team *team;
    size_t batch_max;
    size_t batch, conditions; /* of the last forward */
    dscm_exec_work work;
    dscm_arena arena; /* empty when the memory is borrowed */
    size_t bytes;
    float **data;  /* (tensors) first channel of the tensor, or NULL when not computed */
    float **grad;  /* (tensors) alike, or NULL */
    float **aux;   /* (ops) what forward keeps for backward */
    bool *live;    /* (ops) needed for a wanted output */
    bool *wanted;  /* (tensors) output whose gradient the caller brings */
    bool *written; /* (tensors) gradient holds something in this backward */
    void *scratch; /* one operation's temporary memory */
    size_t scratch_bytes;
    float *param_grads;
    float **sums;      /* (ops) weight-gradient sums of convolutions; NULL where there are none */
    bool sums_pending; /* they hold what param_grads lacks */
    uint64_t dropout_seed, dropout_sample;
    bool (*go)(void *arg); /* or NULL; see dscm_exec_watch */
    void *go_arg;
};

/* One pair of functions per kind; the table is in exec.c. */
typedef struct op_class {
    void (*forward)(dscm_exec *x, const node_op *op);
    void (*backward)(dscm_exec *x, const node_op *op);
    /* Which inputs backward reads (bit i: input i) for input gradients, and in addition for
     * parameter gradients; bit 7: its own output. */
    unsigned reads, reads_param;
    size_t (*aux_bytes)(const dscm_exec *x, const node_op *op);     /* NULL: none; per batch_max */
    size_t (*scratch_bytes)(const dscm_exec *x, const node_op *op); /* NULL: none */
} op_class;

#define READS_OUT 128u

extern const op_class dscm_op_conv_class, dscm_op_norm_class, dscm_op_act_class, dscm_op_add_class,
    dscm_op_concat_class, dscm_op_upsample_class, dscm_op_avgpool_class, dscm_op_maxpool_class,
    dscm_op_mean_class, dscm_op_reshape_class, dscm_op_dropout_class, dscm_op_attention_class,
    dscm_op_pool_tokens_class, dscm_op_first_token_class, dscm_op_time_class, dscm_op_label_class,
    dscm_op_reparam_class;

/* ---- helpers for operations ---- */
dscm_conv_shape dscm_graph_conv_shape(const dscm_graph *g, const node_op *op);

static inline const node_tensor *tensor_of(const dscm_exec *x, int t)
{
    return &x->graph->tensors[t];
}

static inline size_t rows_of(const dscm_exec *x, int t)
{
    return tensor_of(x, t)->per_condition ? x->conditions : x->batch;
}

static inline size_t pixels_of(const dscm_exec *x, int t)
{
    return tensor_of(x, t)->h * tensor_of(x, t)->w;
}

/* Pixel stride: a view has the width of the buffer it lives in. */
static inline size_t ld_of(const dscm_exec *x, int t)
{
    const node_tensor *n = tensor_of(x, t);
    return n->view_of >= 0 ? x->graph->tensors[n->view_of].c : n->c;
}

static inline size_t op_index(const dscm_exec *x, const node_op *op)
{
    return (size_t)(op - x->graph->ops);
}

static inline const float *param_of(const dscm_exec *x, int p)
{
    return p < 0 ? NULL : x->weights->values[p];
}

/* Where the gradient of a parameter is summed; NULL when it is not wanted. */
static inline float *param_grad_of(const dscm_exec *x, int p)
{
    if (p < 0 || !x->param_grads) return NULL;
    return x->param_grads + x->graph->params->items[p].offset;
}

/* Gradient storage of a tensor to write into, or NULL when nobody wants it. *add tells whether it
 * already holds a contribution; it does from now on. */
static inline float *grad_to(dscm_exec *x, int t, bool *add)
{
    *add = false;
    if (t < 0 || !x->grad[t]) return NULL;
    *add = x->written[t];
    x->written[t] = true;
    return x->grad[t];
}

/* to (pixels of t, ld) = or += from; both rows x pixels x c with their own strides. */
void dscm_lines_accumulate(const dscm_exec *x, float *to, size_t ld_to, const float *from,
                           size_t ld_from, size_t pixels, size_t c, bool add);

#endif
