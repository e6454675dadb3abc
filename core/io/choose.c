#include "core/io/choose.h"

#include <stdio.h>
#include <string.h>

#include "core/base/memory.h"
#include "core/io/tensors_internal.h"

/* Whether the name is PREFIX followed by mark; *length of the prefix. */
static bool has_mark(const char *name, const char *mark, size_t *length)
{
    size_t n = strlen(name), m = strlen(mark);
    if (n < m || strcmp(name + n - m, mark) != 0) return false;
    *length = n - m;
    return n == m || name[n - m - 1] == '.';
}

/* Whether the prefix is, or begins with, the key; "" is the network without any. */
static bool key_fits(const char *prefix, size_t length, const char *key)
{
    size_t n = strlen(key);
    while (n && key[n - 1] == '.') n--;
    if (n == 10 && strncmp(key, "state_dict", n) == 0) n = 0; /* read without a prefix */
    return n ? length > n && strncmp(prefix, key, n) == 0 && prefix[n] == '.' : length == 0;
}

static dscm_code find_prefix(const dscm_tensors *set, const char *mark, const char *key,
                             const char **prefix, size_t *length, dscm_error *err)
{
    char list[400] = "";
    size_t found = 0, fitting = 0, used = 0;
    for (size_t i = 0; i < set->count; i++) {
        const char *name = set->items[i].info.name;
        size_t n = 0;
        if (!has_mark(name, mark, &n)) continue;
        found++;
        if (used < sizeof list)
            used += (size_t)snprintf(list + used, sizeof list - used, "%s\"%.*s\"",
                                     used ? ", " : "", n ? (int)n - 1 : 0, name);
        if (key && !key_fits(name, n, key)) continue;
        fitting++;
        *prefix = name;
        *length = n;
    }
    if (fitting == 1 || (!found && !key)) return DSCM_OK;
    if (!found)
        return dscm_fail(err, DSCM_E_INVALID, "%s: no network with a tensor %s", set->path, mark);
    if (!fitting)
        return dscm_fail(err, DSCM_E_INVALID, "%s: none is called %s; there are %s", set->path, key,
                         list);
    return dscm_fail(err, DSCM_E_INVALID, "%s: %zu networks are there, one must be chosen: %s",
                     set->path, fitting, list);
}

dscm_code dscm_tensors_choose(dscm_tensors *set, const char *mark, const char *key, dscm_error *err)
{
    const char *from = NULL;
    char prefix[256];
    size_t length = 0, kept = 0;
    dscm_code code = find_prefix(set, mark, key, &from, &length, err);
    if (code != DSCM_OK || !length) return code;
    if (length >= sizeof prefix)
        return dscm_fail(err, DSCM_E_LIMIT, "%s: names are too long", set->path);
    memcpy(prefix, from, length);
    for (size_t i = 0; i < set->count; i++) {
        char *name = (char *)set->items[i].info.name;
        if (strncmp(name, prefix, length) != 0) {
            dscm_free(name);
            continue;
        }
        memmove(name, name + length, strlen(name + length) + 1);
        set->items[kept++] = set->items[i];
    }
    set->count = kept;
    dscm_tensors_index(set);
    return DSCM_OK;
}
