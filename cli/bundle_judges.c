/* diffscm bundle --judges: networks that took no part in making a model, by the names that
 * tools/train_judges.sh gives their files. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/bundle.h"
#include "core/base/error.h"

/* A file of the folder and its name in the bundle. */
typedef struct judge_file {
    char path[4096], name[64];
} judge_file;

/* stem-NUMBER, or the stem alone for number -1. False when there is no such file. */
static bool find_file(const bundle_job *j, const char *stem, int number, judge_file *out)
{
    char tail[16] = "";
    if (number >= 0) snprintf(tail, sizeof tail, "-%d", number);
    snprintf(out->path, sizeof out->path, "%s/%s%s.st", j->judges, stem, tail);
    snprintf(out->name, sizeof out->name, "%s%s.safetensors", stem, tail);
    return access(out->path, R_OK) == 0;
}

/* Networks stem-0, stem-1, … or the one named stem. wrap: a key under which each entry is put into
 * an object of its own, or NULL. *list is NULL when there are none. */
static dscm_code take_list(bundle_job *j, const char *stem, const char *wrap, json_t **list,
                           dscm_error *err)
{
    judge_file f;
    dscm_code code = DSCM_OK;
    *list = NULL;
    bool single = !find_file(j, stem, 0, &f);
    if (single && !find_file(j, stem, -1, &f)) return DSCM_OK;
    *list = json_array();
    for (int i = single ? -1 : 0; code == DSCM_OK && find_file(j, stem, i, &f); i++) {
        json_t *entry = NULL;
        code = bundle_take_net(j, f.path, f.name, &entry, NULL, err);
        json_array_append_new(*list, wrap && entry ? json_pack("{s:o}", wrap, entry) : entry);
        if (single) break;
    }
    return code;
}

/* VAEs with the codes of the pool. */
static dscm_code take_vaes(bundle_job *j, const char *stem, const char *split, json_t *judges,
                           dscm_error *err)
{
    json_t *list;
    judge_file f;
    dscm_code code = take_list(j, stem, "network", &list, err);
    size_t count = json_array_size(list);
    for (size_t i = 0; code == DSCM_OK && j->pool_data && i < count; i++) {
        char pool[80];
        if (!find_file(j, stem, (int)i, &f) && !find_file(j, stem, -1, &f)) break;
        snprintf(pool, sizeof pool, "%s-%zu-pool.safetensors", stem, i);
        code = bundle_take_pool(j, f.path, pool, split, err);
        json_object_set_new(json_array_get(list, i), "pool", json_string(pool));
    }
    if (list) json_object_set_new(judges, "vaes", list);
    return code;
}

static dscm_code take_autoencoders(bundle_job *j, json_t *panel, dscm_error *err)
{
    judge_file f;
    json_t *all = NULL, *classes = NULL;
    dscm_code code = DSCM_OK;
    if (find_file(j, "panel-autoencoder", -1, &f)) {
        code = bundle_take_net(j, f.path, f.name, &all, NULL, err);
        json_object_set_new(panel, "autoencoder", all);
    }
    if (code == DSCM_OK && find_file(j, "panel-autoencoder", 0, &f)) {
        code = take_list(j, "panel-autoencoder", NULL, &classes, err);
        json_object_set_new(panel, "class_autoencoders", classes);
    }
    return code;
}

static dscm_code take_judges(bundle_job *j, const char *key, json_t *manifest, dscm_error *err)
{
    char stem[64];
    json_t *list, *judges = json_object();
    snprintf(stem, sizeof stem, "%s-classifier", key);
    dscm_code code = take_list(j, stem, NULL, &list, err);
    if (list) json_object_set_new(judges, "classifiers", list);
    snprintf(stem, sizeof stem, "%s-vae", key);
    if (code == DSCM_OK) code = take_vaes(j, stem, j->pool_split, judges, err);
    if (code == DSCM_OK && strcmp(key, "panel") == 0) code = take_autoencoders(j, judges, err);
    if (json_object_size(judges))
        json_object_set_new(manifest, key, judges);
    else
        json_decref(judges);
    return code;
}

/* The VAE that searches ask; its codes are of images that the panel was not trained on. */
static dscm_code take_search(bundle_job *j, json_t *manifest, dscm_error *err)
{
    judge_file f;
    if (!find_file(j, "search-vae", -1, &f)) return DSCM_OK;
    if (!j->search_split || !j->pool_data)
        return dscm_fail(err, DSCM_E_INVALID,
                         "--judges %s: search-vae.st needs --pool-data and --search-split",
                         j->judges);
    json_t *search = json_object();
    dscm_code code = take_vaes(j, "search-vae", j->search_split, search, err);
    json_object_set_new(manifest, "search", search);
    return code;
}

dscm_code bundle_take_judges(bundle_job *j, json_t *manifest, dscm_error *err)
{
    static const char *const own[] = {"oracle", "vae", "pool", "autoencoder", "class_autoencoders"};
    json_t *acceptance, *entry, *evaluation = json_object_get(manifest, "evaluation");
    const json_t *before = json_object_get(manifest, "panel"), /* of a bundle that is changed */
        *searched = json_object_get(manifest, "search");
    size_t i;
    dscm_code code = take_judges(j, "panel", manifest, err);
    if (code == DSCM_OK) code = take_judges(j, "selection", manifest, err);
    if (code == DSCM_OK) code = take_search(j, manifest, err);
    if (code == DSCM_OK) code = take_list(j, "acceptance", "network", &acceptance, err);
    if (code != DSCM_OK) return code;
    if (!acceptance && json_object_get(manifest, "panel") == before &&
        json_object_get(manifest, "search") == searched)
        return dscm_fail(err, DSCM_E_NOT_FOUND,
                         "--judges %s: none of panel-classifier-0.st, acceptance-0.st and "
                         "search-vae.st is there",
                         j->judges);
    for (i = 0; (entry = json_array_get(acceptance, i)); i++)
        json_object_set_new(entry, "temperature", json_real(1));
    if (acceptance) json_object_set_new(manifest, "acceptance", acceptance);
    for (size_t k = 0; json_object_get(manifest, "panel") && k < sizeof own / sizeof own[0]; k++)
        json_object_del(evaluation, own[k]);
    return code;
}
