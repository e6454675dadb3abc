#include "core/data/variables.h"

#include <stdio.h>
#include <sys/stat.h>

#include "core/data/split.h"

dscm_code dscm_variables_path(char *path, size_t size, const char *dir, const char *split,
                              dscm_error *err)
{
    struct stat about;
    int length = snprintf(path, size, "%s/%s-variables.csv", dir, split);
    if (length > 0 && (size_t)length < size && stat(path, &about) != 0)
        length = snprintf(path, size, "%s/variables.csv", dir);
    if (length < 0 || (size_t)length >= size)
        return dscm_fail(err, DSCM_E_LIMIT, "%.64s…: the path is too long", dir);
    return DSCM_OK;
}

dscm_code dscm_variables_read(dscm_table *out, const dscm_dataset *set, const char *dir,
                              const char *split_text, const char *file, dscm_error *err)
{
    char path[4096];
    dscm_split split;
    *out = (dscm_table){0};
    dscm_code code = dscm_split_parse(&split, split_text, err);
    if (code == DSCM_OK && !file)
        code = dscm_variables_path(path, sizeof path, dir, split.name, err);
    if (code == DSCM_OK) code = dscm_table_read(out, file ? file : path, err);
    if (code == DSCM_OK) code = dscm_table_check_rows(out, set->whole, "images", err);
    if (code == DSCM_OK)
        dscm_table_keep(out, set->rows, set->count);
    else
        dscm_table_free(out);
    return code;
}
