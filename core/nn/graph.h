/* A network as a list of operations on image tensors, and the machine that runs it.
 *
 * A model is built once (dscm_graph_*), then immutable and shared. An executor (dscm_exec) runs it
 * forward and backward in one arena that is planned when it opens: for inference buffers are reused
 * as soon as their last reader is done; for gradients exactly what backward reads is kept. A step
 * allocates nothing. Backward walks the list in reverse; each operation has a forward and a
 * backward function in core/nn/ops_*.c.
 *
 * Tensors are (rows,H,W,C) float, channels last. `rows` is the batch for image tensors and the
 * number of conditions for what depends only on (t, label): one condition serves the whole batch
 * when all images share it, so the embedding of a step is computed once, not per image.
 *
 * Builder functions take and return tensor handles. The first error (memory, impossible shape) is
 * kept inside the graph and reported by dscm_graph_finish; after it handles are meaningless but
 * harmless, so builders need no check per line.
 */
#ifndef DSCM_CORE_NN_GRAPH_H
#define DSCM_CORE_NN_GRAPH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/cpu.h"
#include "core/base/error.h"
#include "core/base/half.h"
#include "core/base/memory.h"
#include "core/base/team.h"
#include "core/kernels/conv.h"
#include "core/nn/params.h"

typedef struct dscm_graph dscm_graph;
typedef int dscm_tensor; /* -1: none */

dscm_code dscm_graph_open(dscm_graph **out, dscm_params *params, dscm_error *err) DSCM_MUST_CHECK;
void dscm_graph_free(dscm_graph *g); /* takes NULL */
/* Ends building: plans convolutions and tells the first error of the builder calls. */
dscm_code dscm_graph_finish(dscm_graph *g, dscm_error *err) DSCM_MUST_CHECK;

/* ---- inputs and outputs; names are unique ---- */
dscm_tensor dscm_graph_image(dscm_graph *g, const char *name, size_t h, size_t w, size_t c);
dscm_tensor dscm_graph_condition(dscm_graph *g, const char *name,
                                 size_t c); /* (conditions,1,1,c) */
void dscm_graph_output(dscm_graph *g, const char *name, dscm_tensor x);
/* Multiplications and additions of one forward pass on one image in direct form: convolutions,
 * linear layers, attention. */
double dscm_graph_flops(const dscm_graph *g);
/* Shape of the convolution number `index`, counted over those of images (linear layers are
 * convolutions of one pixel), or false when there are no more. */
bool dscm_graph_conv(const dscm_graph *g, size_t index, dscm_conv_shape *shape);
/* Handle of a named input or output, or -1. */
dscm_tensor dscm_graph_find(const dscm_graph *g, const char *name);
void dscm_graph_dims(const dscm_graph *g, dscm_tensor x, size_t *h, size_t *w, size_t *c);

/* ---- operations; `name` is the parameter prefix ("out.2" makes out.2.weight, out.2.bias) ---- */
typedef enum dscm_act { DSCM_ACT_NONE, DSCM_ACT_SILU, DSCM_ACT_RELU } dscm_act;

/* Zero-padded convolution, kernel 1 or 3, stride 1 or 2; weight dims (Co,Ci,K,K), or (Co,Ci,1) when
 * `conv1d` (attention projections). */
dscm_tensor dscm_op_conv(dscm_graph *g, dscm_tensor x, const char *name, size_t co, int kernel,
                         int stride, bool zero_init, bool conv1d);
/* out = act(GN(x) * (1 + scale) + shift); `emb` (conditions,1,1,2C) holds scale first, then shift;
 * -1: none. */
dscm_tensor dscm_op_groupnorm(dscm_graph *g, dscm_tensor x, const char *name, size_t groups,
                              dscm_tensor emb, dscm_act act);
/* Over the C of (rows,1,1,C) tensors: weight (Co,Ci). */
dscm_tensor dscm_op_linear(dscm_graph *g, dscm_tensor x, const char *name, size_t co,
                           bool zero_init);
dscm_tensor dscm_op_act(dscm_graph *g, dscm_tensor x, dscm_act act);
dscm_tensor dscm_op_add(dscm_graph *g, dscm_tensor a,
                        dscm_tensor b); /* b may be per condition (1,1,C) */
dscm_tensor dscm_op_concat(dscm_graph *g, dscm_tensor a, dscm_tensor b); /* channels, a first */
dscm_tensor dscm_op_upsample(dscm_graph *g, dscm_tensor x);              /* nearest, x2 */
dscm_tensor dscm_op_avgpool(dscm_graph *g, dscm_tensor x);               /* 2x2, floors odd sizes */
dscm_tensor dscm_op_maxpool(dscm_graph *g, dscm_tensor x);               /* 2x2, floors odd sizes */
dscm_tensor dscm_op_mean(dscm_graph *g, dscm_tensor x); /* over pixels: (rows,1,1,C) */
dscm_tensor dscm_op_reshape(dscm_graph *g, dscm_tensor x, size_t h, size_t w,
                            size_t c); /* same h*w*c */
dscm_tensor dscm_op_dropout(dscm_graph *g, dscm_tensor x,
                            float rate); /* identity outside training */
/* qkv (rows,H,W,3C) -> (rows,H,W,C); new_order false: heads split first (see method notes). */
dscm_tensor dscm_op_attention(dscm_graph *g, dscm_tensor qkv, size_t heads, bool new_order);
/* Mean token first, then the pixels: (rows,H,W,C) -> (rows,1,HW+1,C), plus position (C,HW+1). */
dscm_tensor dscm_op_pool_tokens(dscm_graph *g, dscm_tensor x, const char *name);
dscm_tensor dscm_op_first_token(dscm_graph *g, dscm_tensor x); /* (rows,1,N,C) -> (rows,1,1,C) */
/* Sinusoidal embedding of t (conditions,1,1,1), cos first. */
dscm_tensor dscm_op_time_embedding(dscm_graph *g, dscm_tensor t, size_t c);
/* Row label of a table (classes,C); label (conditions,1,1,1) holds integers as floats, negative ones
 * are no label: zeros. */
dscm_tensor dscm_op_label_embedding(dscm_graph *g, dscm_tensor label, const char *name,
                                    size_t classes, size_t c);
/* mu + exp(logvar/2) * noise, all of one shape: the reparametrised draw of a VAE. */
dscm_tensor dscm_op_reparam(dscm_graph *g, dscm_tensor mu, dscm_tensor logvar, dscm_tensor noise);

/* ---- weights ---- */
/* Parameter values in the forms the kernels want (packed, Winograd-transformed). Immutable between
 * calls of dscm_weights_update, shared by every executor of the graph. */
typedef struct dscm_weights dscm_weights;

typedef enum dscm_exec_mode {
    DSCM_EXEC_INFER,      /* forward only */
    DSCM_EXEC_INPUT_GRAD, /* forward and gradient of image inputs */
    DSCM_EXEC_PARAM_GRAD  /* and of all parameters; dropout is active */
} dscm_exec_mode;

/* Where a parameter's elements lie, in C order, at any alignment: in memory or in a mapped file. */
typedef struct dscm_param_view {
    const void *data;
    dscm_store type;
} dscm_param_view;

typedef enum dscm_weights_form {
    DSCM_WEIGHTS_PACKED, /* all weights in memory, as float32 in the form their kernels want */
    DSCM_WEIGHTS_STORED  /* large convolution weights stay where the views show them and are packed
                         whenever a layer is used: far less memory, a little more time */
} dscm_weights_form;

/* Weights in two steps, for who must know sizes before memory is taken: planned weights may only be
 * filled, measured (dscm_weights_bytes, dscm_exec_measure) and freed. */
dscm_code dscm_weights_plan(dscm_weights **out, const dscm_graph *g, dscm_isa isa,
                            dscm_exec_mode mode, dscm_weights_form form,
                            dscm_error *err) DSCM_MUST_CHECK;
/* views: (params->count). With DSCM_WEIGHTS_STORED what they show must stay as long as the weights.
 * done (or NULL) hears of every view that has been packed and is not needed any more. */
typedef struct dscm_view_done {
    void (*call)(void *arg, const dscm_param_view *view, size_t count);
    void *arg;
} dscm_view_done;
dscm_code dscm_weights_fill(dscm_weights *w, const dscm_param_view *views,
                            const dscm_view_done *done, dscm_team *team,
                            dscm_error *err) DSCM_MUST_CHECK;
/* Copies `values` (params->floats) and packs them for `isa` and every mode up to `mode`. */
dscm_code dscm_weights_open(dscm_weights **out, const dscm_graph *g, const float *values,
                            dscm_isa isa, dscm_exec_mode mode, dscm_error *err) DSCM_MUST_CHECK;
/* New values of the same table; no executor may run meanwhile. */
void dscm_weights_update(dscm_weights *w, const float *values, dscm_team *team);
void dscm_weights_free(dscm_weights *w);
size_t dscm_weights_bytes(const dscm_weights *w); /* in memory; views are not counted */

/* ---- running ---- */
typedef struct dscm_exec dscm_exec;

typedef struct dscm_exec_options {
    dscm_exec_mode mode;
    size_t batch;               /* largest batch */
    dscm_team *team;            /* or NULL; borrowed */
    const char *const *outputs; /* names to compute, NULL-terminated; NULL: all. Operations that no
                                   wanted output needs are not run */
    void *memory; /* NULL: a block of its own. Else borrowed, of dscm_exec_measure bytes: executors
                     that never run at the same time may share it; inputs are then written again
                     before every pass, and outputs read before another executor's */
} dscm_exec_options;

/* Bytes that dscm_exec_open would take; `w` may be planned only. */
dscm_code dscm_exec_measure(size_t *bytes, const dscm_graph *g, const dscm_weights *w,
                            const dscm_exec_options *options, dscm_error *err) DSCM_MUST_CHECK;

dscm_code dscm_exec_open(dscm_exec **out, const dscm_graph *g, const dscm_weights *w,
                         const dscm_exec_options *options, dscm_error *err) DSCM_MUST_CHECK;
void dscm_exec_free(dscm_exec *x);
/* Lets the executor run with other weights: of a graph built from the same configuration, packed
 * for the same instruction set and at least its mode. */
void dscm_exec_use(dscm_exec *x, const dscm_weights *w);
/* Lets the executor run on another team, or NULL: of at most the size it was opened with. */
void dscm_exec_join(dscm_exec *x, dscm_team *team);
size_t dscm_exec_bytes(const dscm_exec *x); /* arena */

/* Dense (ld == C) storage of a named input (written by the caller before forward; forward does not
 * change it) or output (valid after forward until the next one). */
float *dscm_exec_data(dscm_exec *x, dscm_tensor t);
/* Gradient of an output (written by the caller before backward) or of an image input (read after).
 */
float *dscm_exec_grad(dscm_exec *x, dscm_tensor t);
/* Sum of parameter gradients since the last dscm_exec_zero_grads (params->floats); PARAM_GRAD only.
 * Convolutions add up in a form of their own, which this call turns into gradients: ask again after
 * a backward. */
float *dscm_exec_param_grads(dscm_exec *x);
void dscm_exec_zero_grads(dscm_exec *x);

/* Images that all calls so far have taken through the network. */
typedef struct dscm_exec_work {
    size_t forward, backward;
} dscm_exec_work;
dscm_exec_work dscm_exec_done(const dscm_exec *x);

/* `go(arg)` is asked before every operation of forward and backward, by the thread that called
 * them; once it returns false the rest is skipped. NULL: never asked. */
void dscm_exec_watch(dscm_exec *x, bool (*go)(void *arg), void *arg);

/* conditions: 1 (shared by the batch) or batch. False when the watch stopped it: then outputs are
 * meaningless. */
bool dscm_exec_forward(dscm_exec *x, size_t batch, size_t conditions);
/* After forward of the same sizes: from output gradients to input gradients (overwritten) and
 * parameter gradients (added). False when the watch stopped it. */
bool dscm_exec_backward(dscm_exec *x);
/* Dropout masks of the next forward: image b of the batch draws from stream first_sample + b. Seed
 * 0, the state after opening, turns dropout off. */
void dscm_exec_seed_dropout(dscm_exec *x, uint64_t seed, uint64_t first_sample);

#endif
