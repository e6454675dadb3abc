/* The networks of a bundle: found and checked first, then kept as memory allows. */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "core/base/memory.h"
#include "core/bundle/bundle.h"
#include "core/bundle/manifest.h"
#include "core/io/finite.h"
#include "core/io/tensors.h"
#include "core/models/config.h"

/* Packed weights beyond this stay in their files unless memory is granted: packing them takes as
 * long as the packing of some twenty passes, layer by layer, and several times the memory. */
#define PACKED_FREELY ((size_t)256 << 20)

/* Opens the weight file and sees that every parameter is in it. */
static dscm_code open_file(bundle_net *n, const manifest *m, const char *file, dscm_error *err)
{
    char path[4096];
    dscm_code code = manifest_file(m, file, path, sizeof path, err);
    if (code == DSCM_OK) code = dscm_tensors_open(&n->file, path, err);
    if (code != DSCM_OK) return code;
    n->views = dscm_alloc(n->net->params.count, sizeof *n->views, "weights", err);
    if (!n->views) return DSCM_E_MEMORY;
    return dscm_params_view(&n->net->params, n->views, &n->viewable, n->file, err);
}

static bool interchangeable(dscm_arch a, dscm_arch b)
{
    return a == b || (dscm_arch_judges(a) && dscm_arch_judges(b)) ||
           (dscm_arch_encodes(a) && dscm_arch_encodes(b));
}

static dscm_code refuse_arch(const manifest *m, const char *where, dscm_arch arch, dscm_error *err)
{
    char names[128];
    size_t used = 0;
    for (int a = 0; a < DSCM_ARCH_COUNT; a++)
        if (interchangeable((dscm_arch)a, arch))
            used += (size_t)snprintf(names + used, sizeof names - used, "%s%s", used ? " or " : "",
                                     dscm_arch_name((dscm_arch)a));
    return dscm_fail(err, DSCM_E_MISMATCH, "%s: %s: arch must be %s", m->path, where, names);
}

dscm_code bundle_net_open(bundle_net *n, const manifest *m, const json_t *object, const char *where,
                          dscm_arch arch, dscm_exec_mode mode, dscm_error *err)
{
    dscm_net_config config;
    const char *file;
    dscm_code code = manifest_keys(m, object, where, "config weights", err);
    if (code == DSCM_OK) code = manifest_text(m, object, where, "weights", 255, &file, err);
    if (code == DSCM_OK)
        code = dscm_net_config_parse(&config, json_object_get(object, "config"), where, err);
    if (code != DSCM_OK) return code;
    if (!interchangeable(config.arch, arch)) return refuse_arch(m, where, arch, err);
    config.dropout = 0;
    n->mode = mode;
    code = dscm_net_open(&n->net, &config, err);
    if (code != DSCM_OK) return code;
    n->next = *m->nets;
    *m->nets = n;
    return m->describe ? DSCM_OK : open_file(n, m, file, err);
}

static void close_file(bundle_net *n)
{
    dscm_tensors_free(n->file);
    dscm_free(n->views);
    n->file = NULL;
    n->views = NULL;
}

void bundle_net_close(bundle_net *n)
{
    dscm_weights_free(n->weights);
    dscm_net_free(n->net);
    close_file(n);
    *n = (bundle_net){0};
}

/* ---- what stays in memory ---- */
static size_t file_bytes(const bundle_net *n)
{
    size_t bytes = 0;
    for (size_t p = 0; p < n->net->params.count; p++)
        bytes += n->net->params.items[p].count * (n->views[p].type == DSCM_STORE_F32 ? 4 : 2);
    return bytes;
}

static dscm_code plan(const dscm_bundle *b, bundle_net *n, dscm_weights_form form, dscm_error *err)
{
    dscm_weights_free(n->weights);
    return dscm_weights_plan(&n->weights, n->net->graph, b->options.isa, n->mode, form, err);
}

/* Networks whose packed weights are larger than `freely` stay in their files. */
static dscm_code plan_all(dscm_bundle *b, size_t freely, dscm_error *err)
{
    dscm_code code = DSCM_OK;
    for (bundle_net *n = b->nets; n && code == DSCM_OK; n = n->next) {
        code = plan(b, n, DSCM_WEIGHTS_PACKED, err);
        n->stored = code == DSCM_OK && n->viewable && dscm_weights_bytes(n->weights) > freely;
        if (n->stored) code = plan(b, n, DSCM_WEIGHTS_STORED, err);
    }
    return code;
}

/* Memory of the weights as planned, with what is mapped, and of the sessions. */
static dscm_code need(const dscm_bundle *b, size_t *bytes, dscm_error *err)
{
    const dscm_load_options *o = &b->options;
    size_t session = 0;
    dscm_code code = b->session_bytes(b, 1, o->threads, &session, err);
    *bytes = session * (size_t)o->sessions;
    for (const bundle_net *n = b->nets; n; n = n->next)
        *bytes += dscm_weights_bytes(n->weights) + (n->stored ? file_bytes(n) : 0);
    return code;
}

static dscm_code choose(dscm_bundle *b, dscm_error *err)
{
    const dscm_load_options *o = &b->options;
    size_t bytes = 0;
    dscm_code code = plan_all(b, o->memory ? SIZE_MAX : PACKED_FREELY, err);
    if (code != DSCM_OK || !o->memory) return code;
    code = need(b, &bytes, err);
    if (code != DSCM_OK || bytes <= o->memory) return code;
    code = plan_all(b, 0, err);
    if (code == DSCM_OK) code = need(b, &bytes, err);
    if (code != DSCM_OK || bytes <= o->memory) return code;
    return dscm_fail(err, DSCM_E_LIMIT,
                     "%s: needs %zu MiB even with the weights left in their files; the limit is "
                     "%zu MiB (weights imported as f16 or bf16 are half as large)",
                     b->dir, (bytes >> 20) + 1, o->memory >> 20);
}

/* Weights of types that no kernel reads go through float32. */
static dscm_code fill_converted(bundle_net *n, dscm_team *team, dscm_error *err)
{
    const dscm_params *params = &n->net->params;
    float *values = dscm_alloc(params->floats, sizeof *values, "weights", err);
    if (!values) return DSCM_E_MEMORY;
    dscm_code code = dscm_params_load(params, values, n->file, NULL, err);
    for (size_t p = 0; p < params->count; p++)
        n->views[p] = (dscm_param_view){.data = values + params->items[p].offset};
    if (code == DSCM_OK) code = dscm_views_check(params, n->views, n->file, err);
    if (code == DSCM_OK) code = dscm_weights_fill(n->weights, n->views, NULL, team, err);
    dscm_free(values);
    return code;
}

/* Packed: the file's pages need not lie in memory beside the copy. */
static void release(void *file, const dscm_param_view *view, size_t count)
{
    dscm_tensors_release(file, view->data, count * (view->type == DSCM_STORE_F32 ? 4 : 2));
}

dscm_code bundle_nets_fill(dscm_bundle *b, dscm_error *err)
{
    const dscm_load_options *options = &b->options;
    dscm_team *team = NULL;
    dscm_code code = choose(b, err);
    if (code == DSCM_OK && options->threads > 1)
        code = dscm_team_open(&team, options->threads, err);
    for (bundle_net *n = b->nets; n && code == DSCM_OK; n = n->next) {
        dscm_view_done done = {release, n->file};
        if (n->viewable) code = dscm_views_check(&n->net->params, n->views, n->file, err);
        if (code == DSCM_OK)
            code = n->viewable ? dscm_weights_fill(n->weights, n->views, &done, team, err)
                               : fill_converted(n, team, err);
        b->info.bytes += dscm_weights_bytes(n->weights);
        b->info.mapped_bytes += n->stored ? file_bytes(n) : 0;
        if (!n->stored) close_file(n);
    }
    dscm_team_free(team);
    return code;
}
