#include "cli/labels.h"

#include <string.h>

#include "core/base/memory.h"
#include "core/io/file.h"

#define LABEL_FILE_MAX ((size_t)16 << 20)

dscm_code cli_labels_read(json_t *list, const char *path, dscm_error *err)
{
    unsigned char *bytes = NULL;
    size_t size = 0;
    dscm_code code = dscm_file_read(path, LABEL_FILE_MAX, &bytes, &size, err);
    if (code != DSCM_OK) return code;
    char *line = (char *)bytes;
    if (size >= 3 && memcmp(line, "\xef\xbb\xbf", 3) == 0) line += 3; /* byte order mark */
    while (code == DSCM_OK && *line) {
        size_t n = strcspn(line, "\n"), length = n && line[n - 1] == '\r' ? n - 1 : n;
        if (!length || json_array_append_new(list, json_stringn(line, length)) != 0)
            code = dscm_fail(err, DSCM_E_FORMAT, "%s: line %zu is empty or not UTF-8", path,
                             json_array_size(list) + 1);
        line += n + (line[n] == '\n');
    }
    dscm_free(bytes);
    return code;
}

dscm_code cli_labels_differ(const json_t *list, dscm_error *err)
{
    for (size_t i = 0; i < json_array_size(list); i++)
        for (size_t k = 0; k < i; k++)
            if (json_equal(json_array_get(list, i), json_array_get(list, k)))
                return dscm_fail(
                    err, DSCM_E_INVALID,
                    "labels %zu and %zu are both \"%s\"; each class needs a name of its own", k + 1,
                    i + 1, json_string_value(json_array_get(list, i)));
    return DSCM_OK;
}
