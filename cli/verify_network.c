/* Reference cases of kinds unet and encoder: outputs, input gradient, parameter gradients. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cli/verify.h"
#include "core/base/memory.h"
#include "core/models/config.h"

typedef struct network_run {
    verify_case *c;
    dscm_net *net;
    dscm_weights *weights;
    dscm_exec *exec;
    dscm_exec_mode mode;
    float *values, *x, *swap; /* x in our layout; swap: one tensor of input or output size */
    size_t batch, pixels, channels;
    double *label; /* (batch) or NULL */
} network_run;

static dscm_code load_network(network_run *r, dscm_error *err)
{
    char path[4096];
    dscm_net_config config;
    dscm_tensors *file = NULL;
    size_t unused = 0;
    dscm_code code = dscm_net_config_parse(&config, r->c->config, "config.json", err);
    if (code != DSCM_OK) return code;
    config.dropout = 0;
    code = dscm_net_open(&r->net, &config, err);
    if (code != DSCM_OK) return code;
    const char *name = json_string_value(json_object_get(r->c->config, "weights"));
    snprintf(path, sizeof path, "%s/%s", r->c->dir, name ? name : "weights.pt");
    code = dscm_tensors_open(&file, path, err);
    if (code != DSCM_OK) return code;
    r->values = dscm_alloc(r->net->params.floats, sizeof(float), "weights", err);
    code = r->values ? dscm_params_load(&r->net->params, r->values, file, &unused, err)
                     : DSCM_E_MEMORY;
    if (code == DSCM_OK && unused)
        fprintf(stderr, "note: %s: %zu tensors that no forward pass uses are skipped\n", path,
                unused);
    dscm_tensors_free(file);
    return code;
}

/* What the expected tensors ask for: gradients keep all activations, which at 512x512 pixels take
 * more memory than most machines have. */
static dscm_exec_mode needed_mode(const network_run *r)
{
    char name[DSCM_PARAM_NAME_MAX + 16];
    const dscm_params *table = &r->net->params;
    for (size_t i = 0; i < table->count; i++) {
        snprintf(name, sizeof name, "param_grad.%s", table->items[i].name);
        if (dscm_tensors_find(r->c->expected, name)) return DSCM_EXEC_PARAM_GRAD;
    }
    bool unet = r->net->config.arch == DSCM_ARCH_UNET;
    return dscm_tensors_find(r->c->expected, unet ? "out_grad" : "y") ? DSCM_EXEC_INPUT_GRAD
                                                                      : DSCM_EXEC_INFER;
}

static dscm_code open_exec(network_run *r, dscm_error *err)
{
    r->mode = needed_mode(r);
    dscm_code code =
        dscm_weights_open(&r->weights, r->net->graph, r->values, dscm_cpu_best_isa(), r->mode, err);
    if (code != DSCM_OK) return code;
    dscm_exec_options options = {.mode = r->mode, .batch = r->batch};
    return dscm_exec_open(&r->exec, r->net->graph, r->weights, &options, err);
}

/* Inputs into the executor, one condition per image. */
static dscm_code set_inputs(network_run *r, dscm_error *err)
{
    size_t count = 0, h, w;
    dscm_graph_dims(r->net->graph, r->net->x, &h, &w, &r->channels);
    r->pixels = h * w;
    float *x = verify_tensor(r->c, "x", &count, err), *t = NULL;
    if (!x) return err->code;
    size_t image = r->pixels * r->channels;
    dscm_code code = DSCM_OK;
    r->batch = count / image;
    if (!r->batch || count % image)
        code =
            dscm_fail(err, DSCM_E_MISMATCH, "%s: \"x\" has %zu elements; images of %zu are needed",
                      r->c->dir, count, image);
    if (code == DSCM_OK) code = open_exec(r, err);
    if (code == DSCM_OK) {
        verify_to_last(dscm_exec_data(r->exec, r->net->x), x, r->batch, r->channels, r->pixels);
        t = verify_tensor(r->c, "t", &count, err);
        if (!t || count != r->batch)
            code =
                dscm_fail(err, DSCM_E_MISMATCH, "%s: \"t\" needs one value per image", r->c->dir);
    }
    if (code == DSCM_OK) memcpy(dscm_exec_data(r->exec, r->net->t), t, r->batch * sizeof *t);
    if (code == DSCM_OK && dscm_tensors_find(r->c->expected, "y")) {
        r->label = verify_expected(r->c, "y", &count, err);
        if (!r->label || count != r->batch)
            code =
                dscm_fail(err, DSCM_E_MISMATCH, "%s: \"y\" needs one label per image", r->c->dir);
    }
    for (size_t b = 0; code == DSCM_OK && r->label && b < r->batch; b++) {
        size_t classes =
            r->net->label >= 0 ? r->net->config.num_classes : r->net->config.out_channels;
        if (!(r->label[b] >= 0 && r->label[b] < (double)classes))
            code = dscm_fail(err, DSCM_E_MISMATCH, "%s: \"y\": %g is not a class of 0..%zu",
                             r->c->dir, r->label[b], classes - 1);
        else if (r->net->label >= 0)
            dscm_exec_data(r->exec, r->net->label)[b] = (float)r->label[b];
    }
    dscm_free(x);
    dscm_free(t);
    return code;
}

static dscm_code compare_input_grad(network_run *r, const char *name, dscm_error *err)
{
    size_t count = r->batch * r->pixels * r->channels;
    float *grad = dscm_alloc(count, sizeof *grad, name, err);
    if (!grad) return DSCM_E_MEMORY;
    verify_to_first(grad, dscm_exec_grad(r->exec, r->net->x), r->batch, r->channels, r->pixels);
    dscm_code code = verify_compare_f32(r->c, name, grad, count, TOLERANCE_GRAD, 0, err);
    dscm_free(grad);
    return code;
}

/* The divisor of a parameter gradient is at least 1e-3 of the largest one of the case. */
static dscm_code compare_param_grads(network_run *r, dscm_error *err)
{
    if (r->mode != DSCM_EXEC_PARAM_GRAD) return DSCM_OK;
    const dscm_params *table = &r->net->params;
    const float *grads = dscm_exec_param_grads(r->exec);
    double most = 0;
    char name[DSCM_PARAM_NAME_MAX + 16];
    for (size_t i = 0; i < table->floats; i++) most = fmax(most, fabs((double)grads[i]));
    for (size_t i = 0; i < table->count; i++) {
        snprintf(name, sizeof name, "param_grad.%s", table->items[i].name);
        if (!dscm_tensors_find(r->c->expected, name)) continue;
        dscm_code code =
            verify_compare_f32(r->c, name, grads + table->items[i].offset, table->items[i].count,
                               TOLERANCE_GRAD, 1e-3 * most, err);
        if (code != DSCM_OK) return code;
    }
    return DSCM_OK;
}

static dscm_code check_unet(network_run *r, dscm_error *err)
{
    size_t co = r->net->config.out_channels, count = 0;
    float *out = dscm_alloc(r->batch * r->pixels * co, sizeof *out, "output", err);
    if (!out) return DSCM_E_MEMORY;
    verify_to_first(out, dscm_exec_data(r->exec, r->net->out), r->batch, co, r->pixels);
    dscm_code code =
        verify_compare_f32(r->c, "out", out, r->batch * r->pixels * co, TOLERANCE_OUT, 0, err);
    dscm_free(out);
    if (code != DSCM_OK || !dscm_tensors_find(r->c->expected, "out_grad")) return code;
    float *dout = verify_tensor(r->c, "out_grad", &count, err);
    if (!dout || count != r->batch * r->pixels * co) {
        dscm_free(dout);
        return dscm_fail(err, DSCM_E_MISMATCH, "%s: \"out_grad\" is not like the output",
                         r->c->dir);
    }
    verify_to_last(dscm_exec_grad(r->exec, r->net->out), dout, r->batch, co, r->pixels);
    dscm_free(dout);
    if (r->mode == DSCM_EXEC_PARAM_GRAD) dscm_exec_zero_grads(r->exec);
    dscm_exec_backward(r->exec);
    if (dscm_tensors_find(r->c->expected, "x_grad")) code = compare_input_grad(r, "x_grad", err);
    return code == DSCM_OK ? compare_param_grads(r, err) : code;
}

double verify_log_prob(const float *logits, float *dlogits, size_t classes, size_t target,
                       double weight)
{
    double top = (double)logits[0], sum = 0;
    for (size_t k = 1; k < classes; k++) top = fmax(top, (double)logits[k]);
    for (size_t k = 0; k < classes; k++) sum += exp((double)logits[k] - top);
    for (size_t k = 0; k < classes; k++)
        dlogits[k] = (float)(weight * ((k == target) - exp((double)logits[k] - top) / sum));
    return (double)logits[target] - top - log(sum > 1 ? sum : 1); /* the largest term is 1 */
}

static void log_prob_gradient(network_run *r, const float *logits, double *log_prob, double weight)
{
    size_t classes = r->net->config.out_channels;
    float *dlogits = dscm_exec_grad(r->exec, r->net->out);
    for (size_t b = 0; b < r->batch; b++)
        log_prob[b] = verify_log_prob(logits + b * classes, dlogits + b * classes, classes,
                                      (size_t)r->label[b], weight);
}

static dscm_code check_encoder(network_run *r, dscm_error *err)
{
    size_t classes = r->net->config.out_channels;
    const float *logits = dscm_exec_data(r->exec, r->net->out);
    dscm_code code =
        verify_compare_f32(r->c, "logits", logits, r->batch * classes, TOLERANCE_OUT, 0, err);
    if (code != DSCM_OK || !r->label) return code;
    double *log_prob = dscm_alloc(r->batch, sizeof *log_prob, "log_prob", err), loss = 0;
    if (!log_prob) return DSCM_E_MEMORY;
    log_prob_gradient(r, logits, log_prob, 1);
    if (dscm_tensors_find(r->c->expected, "log_prob"))
        code = verify_compare(r->c, "log_prob", log_prob, r->batch, TOLERANCE_OUT, 0, err);
    if (r->mode == DSCM_EXEC_PARAM_GRAD) dscm_exec_zero_grads(r->exec);
    dscm_exec_backward(r->exec);
    if (code == DSCM_OK && dscm_tensors_find(r->c->expected, "log_prob_x_grad"))
        code = compare_input_grad(r, "log_prob_x_grad", err);
    for (size_t b = 0; b < r->batch; b++) loss -= log_prob[b] / (double)r->batch;
    if (code == DSCM_OK && dscm_tensors_find(r->c->expected, "ce_loss"))
        code = verify_compare(r->c, "ce_loss", &loss, 1, TOLERANCE_OUT, 0, err);
    if (code == DSCM_OK && r->mode == DSCM_EXEC_PARAM_GRAD) {
        dscm_exec_forward(r->exec, r->batch, r->batch);
        log_prob_gradient(r, dscm_exec_data(r->exec, r->net->out), log_prob,
                          -1.0 / (double)r->batch);
        dscm_exec_zero_grads(r->exec);
        dscm_exec_backward(r->exec);
        code = compare_param_grads(r, err);
    }
    dscm_free(log_prob);
    return code;
}

dscm_code verify_network(verify_case *c, dscm_error *err)
{
    network_run r = {.c = c};
    dscm_code code = load_network(&r, err);
    if (code == DSCM_OK) code = set_inputs(&r, err);
    if (code == DSCM_OK) {
        dscm_exec_forward(r.exec, r.batch, r.batch);
        code = r.net->config.arch == DSCM_ARCH_UNET ? check_unet(&r, err) : check_encoder(&r, err);
    }
    dscm_exec_free(r.exec);
    dscm_weights_free(r.weights);
    dscm_net_free(r.net);
    dscm_free(r.values);
    dscm_free(r.label);
    return code;
}
