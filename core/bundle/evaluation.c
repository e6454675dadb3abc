/* The networks of a bundle that judge its images, and what they are judged by. */
#include <string.h>

#include "core/base/memory.h"
#include "core/bundle/bundle.h"
#include "core/bundle/manifest.h"

static dscm_code load_pool(dscm_bundle *b, const manifest *m, const char *file, dscm_error *err)
{
    char path[4096];
    dscm_tensors *set = NULL;
    dscm_code code = manifest_file(m, file, path, sizeof path, err);
    if (code == DSCM_OK) code = dscm_tensors_open(&set, path, err);
    if (code != DSCM_OK) return code;
    const dscm_tensor_info *mu = dscm_tensors_find(set, "mu"),
                           *lv = dscm_tensors_find(set, "logvar");
    const dscm_tensor_info *labels = dscm_tensors_find(set, "labels");
    size_t latent = b->vae.net ? b->vae.net->config.latent : 0;
    if (!mu || !lv || !labels || !latent || mu->count != labels->count * latent ||
        lv->count != mu->count)
        code = dscm_fail(err, DSCM_E_FORMAT, "%s: needs mu and logvar (N,%zu) and labels (N)", path,
                         latent);
    if (code == DSCM_OK) {
        b->pool_count = labels->count;
        b->pool_mu = dscm_alloc(mu->count, sizeof(float), "pool", err);
        b->pool_logvar = dscm_alloc(mu->count, sizeof(float), "pool", err);
        b->pool_labels = dscm_alloc(labels->count, sizeof(int), "pool", err);
        float *wide = dscm_alloc(labels->count, sizeof(float), "pool", err);
        code = b->pool_mu && b->pool_logvar && b->pool_labels && wide ? DSCM_OK : DSCM_E_MEMORY;
        if (code == DSCM_OK) code = dscm_tensors_read_f32(set, mu, b->pool_mu, err);
        if (code == DSCM_OK) code = dscm_tensors_read_f32(set, lv, b->pool_logvar, err);
        if (code == DSCM_OK) code = dscm_tensors_read_f32(set, labels, wide, err);
        for (size_t i = 0; code == DSCM_OK && i < labels->count; i++)
            b->pool_labels[i] = (int)wide[i];
        dscm_free(wide);
    }
    dscm_tensors_free(set);
    return code;
}

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

/* Class autoencoders take turns in one executor, so they are of one kind; those of all classes are of
 * the other, whose code prototypes are made of. */
static dscm_code check_autoencoders(const dscm_bundle *b, const manifest *m, size_t labels,
                                    dscm_error *err)
{
    const bundle_net *of_class = b->class_autoencoders;
    const struct {
        const char *key;
        const bundle_net *net;
    } of_all[] = {{"autoencoder", &b->autoencoder},
                  {"baseline_autoencoder", &b->baseline_autoencoder}};
    for (size_t i = 0; i < sizeof of_all / sizeof of_all[0]; i++)
        if (of_all[i].net->net && of_all[i].net->net->config.deep)
            return dscm_fail(err, DSCM_E_MISMATCH, "%s: %s: is one of a class (deep)", m->path,
                             of_all[i].key);
    for (size_t i = 1; of_class && i < labels; i++)
        if (of_class[i].net->config.deep != of_class[0].net->config.deep)
            return dscm_fail(err, DSCM_E_MISMATCH,
                             "%s: class_autoencoders: that of label %zu is of another kind",
                             m->path, i);
    return DSCM_OK;
}

static dscm_code load_autoencoders(dscm_bundle *b, const manifest *m, const json_t *e,
                                   size_t labels, dscm_error *err)
{
    const json_t *all = json_object_get(e, "autoencoder"),
                 *baseline = json_object_get(e, "baseline_autoencoder"),
                 *classes = json_object_get(e, "class_autoencoders");
    dscm_code code = DSCM_OK;
    if (classes && json_array_size(classes) != labels)
        return dscm_fail(err, DSCM_E_FORMAT,
                         "%s: class_autoencoders: one per label (%zu) is needed", m->path, labels);
    if (all)
        code = open_judge(b, &b->autoencoder, m, all, "autoencoder", DSCM_ARCH_AUTOENCODER, 0, err);
    if (code == DSCM_OK && baseline)
        code = open_judge(b, &b->baseline_autoencoder, m, baseline, "baseline_autoencoder",
                          DSCM_ARCH_AUTOENCODER, 0, err);
    if (code == DSCM_OK && classes)
        code = load_net_list(b, &b->class_autoencoders, labels, m, classes, "class_autoencoders",
                             DSCM_ARCH_AUTOENCODER, 0, err);
    return code == DSCM_OK ? check_autoencoders(b, m, labels, err) : code;
}

static dscm_code load_vae(dscm_bundle *b, const manifest *m, const json_t *e, dscm_error *err)
{
    const json_t *vae = json_object_get(e, "vae");
    const char *name;
    dscm_code code = vae ? open_judge(b, &b->vae, m, vae, "vae", DSCM_ARCH_VAE, 0, err) : DSCM_OK;
    if (code != DSCM_OK || !json_object_get(e, "pool") || m->describe) return code;
    code = manifest_text(m, e, "evaluation", "pool", 255, &name, err);
    return code == DSCM_OK ? load_pool(b, m, name, err) : code;
}

static dscm_code load_classifiers(dscm_bundle *b, const manifest *m, const json_t *e, size_t labels,
                                  dscm_error *err)
{
    const json_t *oracle = json_object_get(e, "oracle"), *list = json_object_get(e, "ensemble");
    dscm_code code = DSCM_OK;
    if (oracle) code = open_judge(b, &b->oracle, m, oracle, "oracle", DSCM_ARCH_CNN, labels, err);
    b->ensemble_count = code == DSCM_OK ? json_array_size(list) : 0;
    if (b->ensemble_count)
        code = load_net_list(b, &b->ensemble, b->ensemble_count, m, list, "ensemble", DSCM_ARCH_CNN,
                             labels, err);
    return code;
}

dscm_code bundle_evaluation_load(dscm_bundle *b, const manifest *m, const json_t *root,
                                 dscm_error *err)
{
    const json_t *e = json_object_get(root, "evaluation"),
                 *accepted = json_object_get(e, "accepted");
    const char *name;
    b->scored = -1;
    if (!e) return DSCM_OK;
    dscm_code code = manifest_keys(
        m, e, "evaluation",
        "variable oracle vae pool autoencoder class_autoencoders ensemble baseline_autoencoder "
        "accepted",
        err);
    if (code == DSCM_OK)
        code = manifest_text(m, e, "evaluation", "variable", BUNDLE_NAME_MAX, &name, err);
    if (code == DSCM_OK) code = dscm_variable_find(b, name, &b->scored, err);
    if (code != DSCM_OK) return code;
    size_t labels = b->infos[b->scored].labels_count;
    if (!labels || dscm_bundle_edge(b, b->scored, b->info.image) < 0)
        return dscm_fail(err, DSCM_E_FORMAT,
                         "%s: evaluation: variable \"%s\" is no cause of the image with labels",
                         m->path, name);
    code = load_classifiers(b, m, e, labels, err);
    if (code == DSCM_OK) code = load_vae(b, m, e, err);
    if (code == DSCM_OK) code = load_autoencoders(b, m, e, labels, err);
    if (code == DSCM_OK) code = load_scale(&b->accepted_cld, json_object_get(accepted, "cld"), err);
    if (code == DSCM_OK) code = load_scale(&b->accepted_im1, json_object_get(accepted, "im1"), err);
    if (code == DSCM_OK) code = load_scale(&b->accepted_im2, json_object_get(accepted, "im2"), err);
    b->info.has_oracle = b->oracle.net != NULL;
    b->info.has_cld = b->vae.net && json_object_get(e, "pool");
    b->info.has_im = b->autoencoder.net && b->class_autoencoders;
    return code;
}
