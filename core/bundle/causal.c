/* The fitted causal model of a bundle, see core/causal/model.h. */
#include <string.h>

#include "core/base/memory.h"
#include "core/bundle/bundle.h"
#include "core/bundle/manifest.h"

/* Whether a node of the causal model is the variable of the same place. */
static bool is_variable(const dscm_bundle *b, size_t i, const dscm_causal_node *n)
{
    const dscm_variable *v = &b->infos[i];
    bool same = strcmp(v->name, n->name) == 0 && v->kind == n->kind &&
                v->parents_count == n->parents_count && v->labels_count == n->labels_count &&
                (v->kind == DSCM_IMAGE || n->known);
    for (size_t p = 0; same && p < n->parents_count; p++) {
        bool found = false;
        for (size_t k = 0; k < n->parents_count; k++) found |= v->parents[k] == n->parents[p];
        same = found;
    }
    for (size_t k = 0; same && k < n->labels_count; k++)
        same = strcmp(v->labels[k], n->labels[k]) == 0;
    return same && (v->kind != DSCM_CONTINUOUS || (v->min == n->min && v->max == n->max));
}

dscm_code bundle_causal_load(dscm_bundle *b, const manifest *m, const json_t *root, dscm_error *err)
{
    const json_t *object = json_object_get(root, "causal");
    size_t fitted = 0, images = 0;
    for (size_t i = 0; i < b->variables_count; i++) {
        fitted += b->variables[i].fitted;
        images += b->infos[i].kind == DSCM_IMAGE;
    }
    if (!object && !fitted) return DSCM_OK;
    if (!object || fitted != b->variables_count - images)
        return dscm_fail(err, DSCM_E_FORMAT,
                         "%s: either all mechanisms but the image's are \"fitted\" and \"causal\" "
                         "holds them, or none",
                         m->path);
    b->causal = dscm_alloc(1, sizeof *b->causal, "causal model", err);
    if (!b->causal) return DSCM_E_MEMORY;
    dscm_code code = dscm_causal_from_json(b->causal, object, m->path, err);
    if (code != DSCM_OK) return code;
    bool same = b->causal->count == b->variables_count;
    for (size_t i = 0; same && i < b->variables_count; i++) {
        same = is_variable(b, i, &b->causal->nodes[i]);
        if (!same)
            return dscm_fail(err, DSCM_E_MISMATCH,
                             "%s: causal: variable %zu is not \"%s\" with the same kind, labels or "
                             "range, parents and a mechanism",
                             m->path, i, b->infos[i].name);
    }
    return same ? DSCM_OK
                : dscm_fail(err, DSCM_E_MISMATCH, "%s: causal: has %zu variables, the bundle %zu",
                            m->path, b->causal->count, b->variables_count);
}
