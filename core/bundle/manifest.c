#include "core/bundle/manifest.h"

#include <stdio.h>
#include <string.h>

#include "core/io/sha256.h"

static bool in_list(const char *list, const char *word)
{
    size_t length = strlen(word);
    if (!length) return false; /* an empty key is found everywhere, and leads nowhere */
    for (const char *p = list; (p = strstr(p, word)) != NULL; p += length)
        if ((p == list || p[-1] == ' ') && (p[length] == ' ' || !p[length])) return true;
    return false;
}

dscm_code manifest_keys(const manifest *m, const json_t *object, const char *where,
                        const char *known, dscm_error *err)
{
    const char *key;
    json_t *value;
    if (!json_is_object(object))
        return dscm_fail(err, DSCM_E_FORMAT, "%s: %s is not an object", m->path, where);
    json_object_foreach((json_t *)object, key, value)
    {
        if (!in_list(known, key))
            return dscm_fail(err, DSCM_E_FORMAT, "%s: %s: unknown key \"%s\"; known are: %s",
                             m->path, where, key, known);
    }
    return DSCM_OK;
}

dscm_code manifest_text(const manifest *m, const json_t *object, const char *where, const char *key,
                        size_t most, const char **out, dscm_error *err)
{
    *out = json_string_value(json_object_get(object, key));
    if (!*out || !**out || strlen(*out) > most)
        return dscm_fail(err, DSCM_E_FORMAT, "%s: %s: \"%s\" must be a text of 1..%zu bytes",
                         m->path, where, key, most);
    return DSCM_OK;
}

dscm_code manifest_size(const manifest *m, const json_t *object, const char *where, const char *key,
                        size_t low, size_t high, size_t *out, dscm_error *err)
{
    const json_t *value = json_object_get(object, key);
    json_int_t v = json_integer_value(value);
    if (!json_is_integer(value) || v < 0 || (size_t)v < low || (size_t)v > high)
        return dscm_fail(err, DSCM_E_FORMAT, "%s: %s: \"%s\" must be an integer in %zu..%zu",
                         m->path, where, key, low, high);
    *out = (size_t)v;
    return DSCM_OK;
}

dscm_code manifest_real(const manifest *m, const json_t *object, const char *where, const char *key,
                        double low, double high, double *out, dscm_error *err)
{
    const json_t *value = json_object_get(object, key);
    *out = json_number_value(value);
    if (!json_is_number(value) || !(*out >= low && *out <= high))
        return dscm_fail(err, DSCM_E_FORMAT, "%s: %s: \"%s\" must be a number in %g..%g", m->path,
                         where, key, low, high);
    return DSCM_OK;
}

dscm_code manifest_file(const manifest *m, const char *name, char *path, size_t size,
                        dscm_error *err)
{
    const char *want = json_string_value(json_object_get(m->files, name));
    if (!want || strchr(name, '/') || name[0] == '.')
        return dscm_fail(err, DSCM_E_FORMAT, "%s: file \"%s\" is not listed under \"files\"",
                         m->path, name);
    int length = snprintf(path, size, "%s/%s", m->dir, name);
    if (length < 0 || (size_t)length >= size)
        return dscm_fail(err, DSCM_E_LIMIT, "%s: path too long", m->dir);
    char got[65];
    dscm_code code = dscm_sha256_file(got, path, err);
    if (code != DSCM_OK) return code;
    if (strcmp(got, want) != 0)
        return dscm_fail(err, DSCM_E_MISMATCH, "%s: SHA-256 is %.16s…, the manifest says %.16s…",
                         path, got, want);
    return DSCM_OK;
}
