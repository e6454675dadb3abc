/* Decoded pictures in a file: a line of text with sizes and the SHA-256 of the pixels, the pixels.
 * Labels are not kept: they follow from the names that the key depends on. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/base/memory.h"
#include "core/data/dataset_internal.h"
#include "core/io/file.h"
#include "core/io/sha256.h"

#define HEAD "diffscm-pictures %zu %zu %zu %zu %zu %zu %zu %64s"

static bool file_name(char *path, size_t size, const char *folder, const char *key)
{
    int length = snprintf(path, size, "%s/%s.pixels", folder, key);
    return length > 0 && (size_t)length < size;
}

static bool read_head(dscm_dataset *set, FILE *f, char sha256[65], size_t *bytes)
{
    char line[256];
    size_t counted, wide;
    if (!fgets(line, sizeof line, f) ||
        sscanf(line, HEAD, &set->count, &set->h, &set->w, &set->c, &set->facts.resized,
               &set->facts.looked_at, &set->facts.coloured, sha256) != 8)
        return false;
    return set->h && set->w && (set->c == 1 || set->c == 3) &&
           dscm_size_mul(set->h, set->w, &wide) && dscm_size_mul(wide, set->c, &wide) &&
           dscm_size_mul(wide, set->count, &counted) && (*bytes = counted) <= (size_t)64 << 30;
}

bool dscm_dataset_cache_load(dscm_dataset *set, const char *folder, const char *key)
{
    char path[4096], stated[65] = "", found[65];
    dscm_dataset read = {.labels = NULL};
    size_t bytes = 0;
    if (!file_name(path, sizeof path, folder, key)) return false;
    FILE *f = fopen(path, "rb");
    if (!f) return false;
    struct stat st;
    bool good = read_head(&read, f, stated, &bytes) && fstat(fileno(f), &st) == 0 &&
                (uint64_t)st.st_size >= bytes;
    if (good) read.pixels = dscm_alloc(bytes, 1, path, NULL);
    good = good && read.pixels && fread(read.pixels, 1, bytes, f) == bytes;
    fclose(f);
    if (good) dscm_sha256_hex(found, read.pixels, bytes);
    if (!good || strcmp(stated, found) != 0) {
        dscm_free(read.pixels);
        return false;
    }
    read.labels = set->labels;
    read.files = set->files;
    read.files_count = set->files_count;
    read.facts.cached = true;
    *set = read;
    return true;
}

void dscm_dataset_cache_save(const dscm_dataset *set, const char *folder, const char *key)
{
    char path[4096], head[256], sha256[65];
    size_t bytes = set->count * set->h * set->w * set->c;
    if (!file_name(path, sizeof path, folder, key)) return;
    for (char *p = path + 1; (p = strchr(p, '/')); p++) { /* the folders on the way */
        *p = '\0';
        (void)mkdir(path, 0700); /* one that cannot be made shows when the file is written */
        *p = '/';
    }
    dscm_sha256_hex(sha256, set->pixels, bytes);
    int length = snprintf(head, sizeof head, HEAD "\n", set->count, set->h, set->w, set->c,
                          set->facts.resized, set->facts.looked_at, set->facts.coloured, sha256);
    const dscm_piece pieces[] = {{head, (size_t)length}, {set->pixels, bytes}};
    if (dscm_file_replace(path, pieces, 2, NULL) != DSCM_OK) (void)remove(path);
}
