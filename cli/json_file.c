#include "cli/json_file.h"

#include <stdlib.h>
#include <string.h>

#include "core/io/file.h"
#include "core/io/json.h"

dscm_code cli_json_whole(const char *what, dscm_error *err)
{
    return dscm_json_failures() == 0 ? DSCM_OK
                                     : dscm_fail(err, DSCM_E_MEMORY, "%s: out of memory", what);
}

dscm_code cli_json_text(char **text, json_t *value, size_t flags, const char *what, dscm_error *err)
{
    *text = dscm_json_write(value, flags, 0);
    bool none = !value;
    json_decref(value);
    dscm_code code = cli_json_whole(what, err);
    if (code != DSCM_OK || *text) return code;
    return none ? dscm_fail(err, DSCM_E_INVALID, "%s: a text that it is to hold is not UTF-8", what)
                : dscm_fail(err, DSCM_E_MEMORY, "%s: out of memory", what);
}

dscm_code cli_json_write(const char *path, json_t *value, size_t flags, dscm_error *err)
{
    char *text = NULL;
    dscm_code code = cli_json_text(&text, value, flags, path, err);
    if (code == DSCM_OK) {
        const dscm_piece pieces[] = {{text, strlen(text)}, {"\n", 1}};
        code = dscm_file_replace(path, pieces, 2, err);
    }
    free(text);
    return code;
}
