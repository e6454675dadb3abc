/* The networks of a bundle that judge its images, and what they are judged by. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/base/memory.h"
#include "core/bundle/bundle.h"
#include "core/bundle/manifest.h"
#include "core/image/blocks.h"

/* ---- single networks ---- */
/* Opens a network that looks at images of the graph. outputs: as many as it must have; 0: images. */
static dscm_code open_judge(const dscm_bundle *b, bundle_net *n, const manifest *m,
                            const json_t *object, const char *where, dscm_arch arch, size_t outputs,
                            dscm_error *err)
{
    const dscm_variable *image = &b->infos[b->info.image];
    dscm_code code = bundle_net_open(n, m, object, where, arch, DSCM_EXEC_INPUT_GRAD, err);
    if (code != DSCM_OK) return code;
    const dscm_net_config *c = &n->net->config;
    if (c->image_size != image->h || c->in_channels != image->c)
        return dscm_fail(
            err, DSCM_E_MISMATCH, "%s: %s: takes %zux%zux%zu, the image is %zux%zux%zu", m->path,
            where, c->image_size, c->image_size, c->in_channels, image->h, image->w, image->c);
    if (outputs && c->out_channels != outputs)
        return dscm_fail(err, DSCM_E_MISMATCH, "%s: %s: has %zu outputs for %zu labels", m->path,
                         where, c->out_channels, outputs);
    return DSCM_OK;
}

static dscm_code load_net_list(const dscm_bundle *b, bundle_net **out, size_t count,
                               const manifest *m, const json_t *list, const char *where,
                               dscm_arch arch, size_t outputs, dscm_error *err)
{
    *out = dscm_alloc(count, sizeof **out, "evaluation nets", err);
    if (!*out) return DSCM_E_MEMORY;
    for (size_t i = 0; i < count; i++) {
        dscm_code code =
            open_judge(b, &(*out)[i], m, json_array_get(list, i), where, arch, outputs, err);
        if (code != DSCM_OK) return code;
    }
    return DSCM_OK;
}

/* Length of object[key], a list of at most BUNDLE_JUDGES_MAX; 0 when there is none. */
static dscm_code list_length(const manifest *m, const json_t *object, const char *where,
                             const char *key, size_t *count, dscm_error *err)
{
    const json_t *list = json_object_get(object, key);
    *count = json_array_size(list);
    if (list && (!json_is_array(list) || *count < 1 || *count > BUNDLE_JUDGES_MAX))
        return dscm_fail(err, DSCM_E_FORMAT, "%s: %s: \"%s\" must be a list of 1..%d networks",
                         m->path, where, key, BUNDLE_JUDGES_MAX);
    return DSCM_OK;
}

/* ---- VAEs and their reference images ---- */
static dscm_code read_pool(bundle_vae *v, const dscm_tensors *set, const char *path, size_t labels,
                           dscm_error *err)
{
    const dscm_tensor_info *mu = dscm_tensors_find(set, "mu"),
                           *lv = dscm_tensors_find(set, "logvar"),
                           *classes = dscm_tensors_find(set, "labels");
    size_t latent = v->net.net->config.latent;
    if (!mu || !lv || !classes || mu->count != classes->count * latent || lv->count != mu->count)
        return dscm_fail(err, DSCM_E_FORMAT, "%s: needs mu and logvar (N,%zu) and labels (N)", path,
                         latent);
    v->mu = dscm_alloc(mu->count, sizeof(float), "pool", err);
    v->logvar = dscm_alloc(mu->count, sizeof(float), "pool", err);
    v->labels = dscm_alloc(classes->count, sizeof(int), "pool", err);
    float *wide = dscm_alloc(classes->count, sizeof(float), "pool", err);
    dscm_code code = v->mu && v->logvar && v->labels && wide ? DSCM_OK : DSCM_E_MEMORY;
    if (code == DSCM_OK) code = dscm_tensors_read_f32(set, mu, v->mu, err);
    if (code == DSCM_OK) code = dscm_tensors_read_f32(set, lv, v->logvar, err);
    if (code == DSCM_OK) code = dscm_tensors_read_f32(set, classes, wide, err);
    for (size_t i = 0; code == DSCM_OK && i < classes->count; i++) {
        if (!(wide[i] >= 0 && wide[i] < (float)labels))
            code = dscm_fail(err, DSCM_E_FORMAT, "%s: label %zu is not in 0..%zu", path, i,
                             labels - 1);
        else
            v->labels[i] = (int)wide[i];
    }
    dscm_free(wide);
    if (code == DSCM_OK) v->count = classes->count;
    return code;
}

static dscm_code load_pool(const dscm_bundle *b, bundle_vae *v, const manifest *m,
                           const json_t *object, const char *where, dscm_error *err)
{
    char path[4096];
    const char *file;
    dscm_tensors *set = NULL;
    if (m->describe || !json_object_get(object, "pool")) return DSCM_OK;
    dscm_code code = manifest_text(m, object, where, "pool", 255, &file, err);
    if (code == DSCM_OK) code = manifest_file(m, file, path, sizeof path, err);
    if (code == DSCM_OK) code = dscm_tensors_open(&set, path, err);
    if (code == DSCM_OK) code = read_pool(v, set, path, b->infos[b->info.scored].labels_count, err);
    dscm_tensors_free(set);
    return code;
}

/* ---- autoencoders ---- */
/* Class autoencoders take turns in one executor, so they are of one kind; those of all classes are
 * of the other, whose code prototypes are made of. */
static dscm_code check_autoencoders(const bundle_judges *j, const manifest *m, size_t labels,
                                    dscm_error *err)
{
    const bundle_net *of_class = j->class_autoencoders;
    if (j->autoencoder.net && j->autoencoder.net->config.deep)
        return dscm_fail(err, DSCM_E_MISMATCH, "%s: autoencoder: is one of a class (deep)",
                         m->path);
    for (size_t i = 1; of_class && i < labels; i++)
        if (of_class[i].net->config.deep != of_class[0].net->config.deep)
            return dscm_fail(err, DSCM_E_MISMATCH,
                             "%s: class_autoencoders: that of label %zu is of another kind",
                             m->path, i);
    return DSCM_OK;
}

static dscm_code load_autoencoders(const dscm_bundle *b, bundle_judges *j, const manifest *m,
                                   const json_t *e, dscm_error *err)
{
    const json_t *all = json_object_get(e, "autoencoder"),
                 *classes = json_object_get(e, "class_autoencoders");
    size_t labels = b->infos[b->info.scored].labels_count;
    dscm_code code = DSCM_OK;
    if (classes && json_array_size(classes) != labels)
        return dscm_fail(err, DSCM_E_FORMAT,
                         "%s: class_autoencoders: one per label (%zu) is needed", m->path, labels);
    if (all)
        code = open_judge(b, &j->autoencoder, m, all, "autoencoder", DSCM_ARCH_AUTOENCODER, 0, err);
    if (code == DSCM_OK && classes)
        code = load_net_list(b, &j->class_autoencoders, labels, m, classes, "class_autoencoders",
                             DSCM_ARCH_AUTOENCODER, 0, err);
    return code == DSCM_OK ? check_autoencoders(j, m, labels, err) : code;
}

/* ---- "panel" and "selection" ---- */
static dscm_code load_vaes(const dscm_bundle *b, bundle_judges *j, const manifest *m,
                           const json_t *object, const char *where, dscm_error *err)
{
    const json_t *list = json_object_get(object, "vaes");
    size_t count;
    dscm_code code = list_length(m, object, where, "vaes", &count, err);
    if (code != DSCM_OK || !count) return code;
    j->vaes = dscm_alloc(count, sizeof *j->vaes, "evaluation nets", err);
    if (!j->vaes) return DSCM_E_MEMORY;
    j->vaes_count = count;
    for (size_t i = 0; code == DSCM_OK && i < count; i++) {
        const json_t *entry = json_array_get(list, i);
        code = manifest_keys(m, entry, where, "network pool", err);
        if (code == DSCM_OK)
            code = open_judge(b, &j->vaes[i].net, m, json_object_get(entry, "network"), where,
                              DSCM_ARCH_VAE, 0, err);
        if (code == DSCM_OK) code = load_pool(b, &j->vaes[i], m, entry, where, err);
    }
    return code;
}

static dscm_code load_judges(const dscm_bundle *b, bundle_judges *j, const manifest *m,
                             const json_t *root, const char *key, dscm_error *err)
{
    const json_t *object = json_object_get(root, key);
    size_t labels = b->infos[b->info.scored].labels_count;
    dscm_code code =
        manifest_keys(m, object, key, "classifiers vaes autoencoder class_autoencoders", err);
    if (code == DSCM_OK)
        code = list_length(m, object, key, "classifiers", &j->classifiers_count, err);
    if (code == DSCM_OK && j->classifiers_count)
        code =
            load_net_list(b, &j->classifiers, j->classifiers_count, m,
                          json_object_get(object, "classifiers"), key, DSCM_ARCH_CNN, labels, err);
    if (code == DSCM_OK) code = load_vaes(b, j, m, object, key, err);
    return code == DSCM_OK ? load_autoencoders(b, j, m, object, err) : code;
}

/* A VAE that searches ask how far their results depart; it takes part, so the panel has others. */
static dscm_code load_search(dscm_bundle *b, const manifest *m, const json_t *root, dscm_error *err)
{
    const json_t *object = json_object_get(root, "search");
    dscm_code code = manifest_keys(m, object, "search", "vaes", err);
    if (code == DSCM_OK) code = load_vaes(b, &b->search, m, object, "search", err);
    if (code == DSCM_OK &&
        (b->search.vaes_count != 1 ||
         !json_object_get(json_array_get(json_object_get(object, "vaes"), 0), "pool")))
        code =
            dscm_fail(err, DSCM_E_FORMAT, "%s: search: \"vaes\" must be one, with a pool", m->path);
    return code;
}

static dscm_code load_acceptance(dscm_bundle *b, const manifest *m, const json_t *root,
                                 dscm_error *err)
{
    const json_t *list = json_object_get(root, "acceptance");
    size_t count;
    dscm_code code = list_length(m, root, "manifest", "acceptance", &count, err);
    if (code != DSCM_OK || !count) return code;
    b->acceptance = dscm_alloc(count, sizeof *b->acceptance, "acceptance nets", err);
    if (!b->acceptance) return DSCM_E_MEMORY;
    b->info.acceptance_count = count;
    for (size_t i = 0; code == DSCM_OK && i < count; i++) {
        const json_t *entry = json_array_get(list, i);
        code = manifest_keys(m, entry, "acceptance", "network temperature", err);
        if (code == DSCM_OK)
            code = manifest_real(m, entry, "acceptance", "temperature", 0.01, 100,
                                 &b->acceptance[i].temperature, err);
        if (code == DSCM_OK)
            code =
                open_judge(b, &b->acceptance[i].net, m, json_object_get(entry, "network"),
                           "acceptance", DSCM_ARCH_CNN, b->infos[b->info.scored].labels_count, err);
    }
    return code;
}

#define DARK_BORDER 96 /* of 255: ground below this is dark */

static dscm_code load_bounds(const manifest *m, const json_t *object, const char *key,
                             dscm_bounds *out, dscm_error *err)
{
    const json_t *bounds = json_object_get(object, key);
    char where[48];
    snprintf(where, sizeof where, "quantiles: %s", key);
    dscm_code code = manifest_keys(m, bounds, where, "low high", err);
    if (code == DSCM_OK) code = manifest_real(m, bounds, where, "low", 0, 1e6, &out->low, err);
    return code == DSCM_OK ? manifest_real(m, bounds, where, "high", out->low, 1e6, &out->high, err)
                           : code;
}

/* Real images that likeness is measured against. */
static dscm_code load_references(dscm_bundle *b, const manifest *m, const json_t *object,
                                 dscm_error *err)
{
    char path[4096];
    const char *file;
    dscm_tensors *set = NULL;
    dscm_quantiles *q = &b->info.quantiles;
    const dscm_tensor_info *blocks = NULL;
    dscm_code code = load_bounds(m, object, "likeness", &q->likeness, err);
    if (code == DSCM_OK)
        code = load_bounds(m, object, "likeness_centred", &q->likeness_centred, err);
    if (code == DSCM_OK)
        code = manifest_text(m, object, "quantiles", "references", 255, &file, err);
    if (code != DSCM_OK || m->describe) return code;
    code = manifest_file(m, file, path, sizeof path, err);
    if (code == DSCM_OK) code = dscm_tensors_open(&set, path, err);
    if (code == DSCM_OK) blocks = dscm_tensors_find(set, "blocks");
    if (code == DSCM_OK &&
        (!blocks || blocks->ndim != 2 || !blocks->count || blocks->dims[1] != DSCM_BLOCKS_FEATURES))
        code = dscm_fail(err, DSCM_E_FORMAT, "%s: needs a tensor \"blocks\" (N,%d)", path,
                         DSCM_BLOCKS_FEATURES);
    if (code == DSCM_OK) {
        b->references = dscm_alloc(blocks->count, sizeof *b->references, "references", err);
        code =
            b->references ? dscm_tensors_read_f32(set, blocks, b->references, err) : DSCM_E_MEMORY;
    }
    if (code == DSCM_OK) {
        q->references = b->references;
        q->references_count = blocks->dims[0];
    }
    dscm_tensors_free(set);
    return code;
}

static dscm_code load_quantiles(dscm_bundle *b, const manifest *m, const json_t *root,
                                dscm_error *err)
{
    const json_t *object = json_object_get(root, "quantiles");
    dscm_quantiles *q = &b->info.quantiles;
    const dscm_bounds open = {(double)NAN, (double)NAN};
    *q = (dscm_quantiles){false, open, open, open, open, open, open, NULL, 0};
    if (!object) return DSCM_OK;
    dscm_code code = manifest_keys(
        m, object, "quantiles",
        "noise_only denoising_loss contrast border likeness likeness_centred references", err);
    if (code == DSCM_OK) code = load_bounds(m, object, "noise_only", &q->noise_only, err);
    if (code == DSCM_OK) code = load_bounds(m, object, "denoising_loss", &q->loss, err);
    if (code == DSCM_OK) code = load_bounds(m, object, "contrast", &q->contrast, err);
    if (code == DSCM_OK && json_object_get(object, "border"))
        code = load_bounds(m, object, "border", &q->border, err);
    if (code == DSCM_OK && json_object_get(object, "references"))
        code = load_references(b, m, object, err);
    q->known = code == DSCM_OK;
    bool dark = q->border.high < DARK_BORDER; /* false without bounds */
    b->variables[b->info.image].info.dark_ground = b->infos[b->info.image].dark_ground = dark;
    return code;
}

/* ---- "evaluation" ---- */
static dscm_code load_scale(bundle_scale *out, const json_t *list, dscm_error *err)
{
    size_t count = json_array_size(list);
    if (!count) return DSCM_OK;
    out->values = dscm_alloc(count, sizeof *out->values, "percentiles", err);
    if (!out->values) return DSCM_E_MEMORY;
    out->count = count;
    for (size_t i = 0; i < count; i++) out->values[i] = json_number_value(json_array_get(list, i));
    return DSCM_OK;
}

/* Networks of the baseline methods. */
static dscm_code load_baselines(dscm_bundle *b, const manifest *m, const json_t *e, dscm_error *err)
{
    const json_t *list = json_object_get(e, "ensemble"),
                 *autoencoder = json_object_get(e, "baseline_autoencoder");
    dscm_code code = DSCM_OK;
    b->ensemble_count = json_array_size(list);
    if (b->ensemble_count)
        code = load_net_list(b, &b->ensemble, b->ensemble_count, m, list, "ensemble", DSCM_ARCH_CNN,
                             b->infos[b->info.scored].labels_count, err);
    if (code == DSCM_OK && autoencoder)
        code = open_judge(b, &b->baseline_autoencoder, m, autoencoder, "baseline_autoencoder",
                          DSCM_ARCH_AUTOENCODER, 0, err);
    if (code == DSCM_OK && autoencoder && b->baseline_autoencoder.net->config.deep)
        code = dscm_fail(err, DSCM_E_MISMATCH, "%s: baseline_autoencoder: is one of a class (deep)",
                         m->path);
    return code;
}

/* The judges of a bundle without a panel: an oracle, a VAE, autoencoders. */
static dscm_code load_own_judges(dscm_bundle *b, const manifest *m, const json_t *e,
                                 dscm_error *err)
{
    bundle_judges *j = &b->panel;
    const json_t *oracle = json_object_get(e, "oracle"), *vae = json_object_get(e, "vae");
    dscm_code code = DSCM_OK;
    if (oracle) {
        j->classifiers = dscm_alloc(1, sizeof *j->classifiers, "oracle", err);
        if (!j->classifiers) return DSCM_E_MEMORY;
        j->classifiers_count = 1;
        code = open_judge(b, j->classifiers, m, oracle, "oracle", DSCM_ARCH_CNN,
                          b->infos[b->info.scored].labels_count, err);
    }
    if (code == DSCM_OK && vae) {
        j->vaes = dscm_alloc(1, sizeof *j->vaes, "vae", err);
        if (!j->vaes) return DSCM_E_MEMORY;
        j->vaes_count = 1;
        code = open_judge(b, &j->vaes->net, m, vae, "vae", DSCM_ARCH_VAE, 0, err);
        if (code == DSCM_OK) code = load_pool(b, j->vaes, m, e, "evaluation", err);
    }
    return code == DSCM_OK ? load_autoencoders(b, j, m, e, err) : code;
}

/* Whether each VAE has reference images; when only described, whether the manifest names them. */
static bool has_cld(const dscm_bundle *b, const json_t *panel, const json_t *evaluation)
{
    for (size_t i = 0; i < b->panel.vaes_count; i++) {
        const json_t *owner =
            panel ? json_array_get(json_object_get(panel, "vaes"), i) : evaluation;
        if (!json_object_get(owner, "pool")) return false;
    }
    return b->panel.vaes_count > 0;
}

static dscm_code load_scored(dscm_bundle *b, const manifest *m, const json_t *e, dscm_error *err)
{
    const char *name;
    dscm_code code = manifest_text(m, e, "evaluation", "variable", BUNDLE_NAME_MAX, &name, err);
    if (code == DSCM_OK) code = dscm_variable_find(b, name, &b->info.scored, err);
    if (code != DSCM_OK) return code;
    if (!b->infos[b->info.scored].labels_count ||
        dscm_bundle_edge(b, b->info.scored, b->info.image) < 0)
        return dscm_fail(err, DSCM_E_FORMAT,
                         "%s: evaluation: variable \"%s\" is no cause of the image with labels",
                         m->path, name);
    return DSCM_OK;
}

dscm_code bundle_evaluation_load(dscm_bundle *b, const manifest *m, const json_t *root,
                                 dscm_error *err)
{
    const json_t *e = json_object_get(root, "evaluation"), *panel = json_object_get(root, "panel"),
                 *accepted = json_object_get(e, "accepted");
    b->info.scored = -1;
    dscm_code code = load_quantiles(b, m, root, err);
    if (code == DSCM_OK && !e &&
        (panel || json_object_get(root, "selection") || json_object_get(root, "acceptance") ||
         json_object_get(root, "search")))
        code = dscm_fail(err, DSCM_E_FORMAT,
                         "%s: \"evaluation\" must name the variable that the judges are about",
                         m->path);
    if (code != DSCM_OK || !e) return code;
    code = manifest_keys(m, e, "evaluation",
                         panel ? "variable ensemble baseline_autoencoder accepted"
                               : "variable oracle vae pool autoencoder class_autoencoders ensemble "
                                 "baseline_autoencoder accepted",
                         err);
    if (code == DSCM_OK) code = load_scored(b, m, e, err);
    if (code == DSCM_OK) code = load_baselines(b, m, e, err);
    if (code == DSCM_OK)
        code = panel ? load_judges(b, &b->panel, m, root, "panel", err)
                     : load_own_judges(b, m, e, err);
    if (code == DSCM_OK && json_object_get(root, "selection"))
        code = load_judges(b, &b->selection, m, root, "selection", err);
    if (code == DSCM_OK) code = load_acceptance(b, m, root, err);
    if (code == DSCM_OK && json_object_get(root, "search")) code = load_search(b, m, root, err);
    if (code == DSCM_OK) code = load_scale(&b->accepted_cld, json_object_get(accepted, "cld"), err);
    if (code == DSCM_OK) code = load_scale(&b->accepted_im1, json_object_get(accepted, "im1"), err);
    if (code == DSCM_OK) code = load_scale(&b->accepted_im2, json_object_get(accepted, "im2"), err);
    b->info.has_panel = panel != NULL;
    b->info.has_oracle = b->panel.classifiers_count > 0;
    b->info.has_cld = has_cld(b, panel, e);
    b->info.has_im = b->panel.autoencoder.net && b->panel.class_autoencoders;
    return code;
}

/* ---- closing ---- */
static void close_list(bundle_net *list, size_t count)
{
    for (size_t i = 0; list && i < count; i++) bundle_net_close(&list[i]);
    dscm_free(list);
}

static void close_judges(bundle_judges *j, size_t labels)
{
    close_list(j->classifiers, j->classifiers_count);
    close_list(j->class_autoencoders, labels);
    bundle_net_close(&j->autoencoder);
    for (size_t i = 0; i < j->vaes_count; i++) {
        bundle_net_close(&j->vaes[i].net);
        dscm_free(j->vaes[i].mu);
        dscm_free(j->vaes[i].logvar);
        dscm_free(j->vaes[i].labels);
    }
    dscm_free(j->vaes);
}

void bundle_evaluation_close(dscm_bundle *b)
{
    size_t labels =
        b->info.scored >= 0 && b->variables ? b->variables[b->info.scored].info.labels_count : 0;
    close_judges(&b->panel, labels);
    close_judges(&b->selection, labels);
    close_judges(&b->search, labels);
    for (size_t i = 0; b->acceptance && i < b->info.acceptance_count; i++)
        bundle_net_close(&b->acceptance[i].net);
    dscm_free(b->acceptance);
    close_list(b->ensemble, b->ensemble_count);
    bundle_net_close(&b->baseline_autoencoder);
    dscm_free(b->accepted_cld.values);
    dscm_free(b->accepted_im1.values);
    dscm_free(b->accepted_im2.values);
}
