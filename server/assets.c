#include "server/assets.h"

#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api/json.h"
#include "core/base/memory.h"
#include "server/crypto.h"

#define FILES_MAX 256
#define FILE_MAX  ((size_t)8 << 20)
#define DEPTH_MAX 3
#define PATH_SIZE 1024

struct dscm_assets {
    dscm_asset list[FILES_MAX];
    size_t count;
};

static const struct {
    const char *suffix, *type;
} types[] = {{".html", "text/html; charset=utf-8"},
             {".js", "text/javascript; charset=utf-8"},
             {".css", "text/css; charset=utf-8"},
             {".svg", "image/svg+xml"},
             {".png", "image/png"},
             {".jpg", "image/jpeg"},
             {".jpeg", "image/jpeg"},
             {".ico", "image/x-icon"},
             {".json", "application/json; charset=utf-8"},
             {".txt", "text/plain; charset=utf-8"},
             {".md", "text/plain; charset=utf-8"},
             {".webmanifest", "application/manifest+json"}};

static const char *type_of(const char *name)
{
    size_t length = strlen(name);
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        size_t suffix = strlen(types[i].suffix);
        if (length > suffix && strcmp(name + length - suffix, types[i].suffix) == 0)
            return types[i].type;
    }
    return NULL;
}

void dscm_etag_make(char out[36], const void *data, size_t size)
{
    uint8_t digest[DSCM_DIGEST_SIZE];
    dscm_crypto_digest(data, size, digest);
    size_t used = 0;
    out[used++] = '"';
    for (size_t i = 0; i < 16; i++)
        used += (size_t)snprintf(out + used, 36 - used, "%02x", digest[i]);
    out[used++] = '"';
    out[used] = 0;
}

int dscm_etag_matches(const char *if_none_match, const char *etag)
{
    return if_none_match &&
           (strcmp(if_none_match, "*") == 0 || strstr(if_none_match, etag) != NULL);
}

static dscm_code read_file(dscm_assets *assets, const char *file, const char *path, size_t size,
                           dscm_error *err)
{
    if (assets->count == FILES_MAX)
        return dscm_fail(err, DSCM_E_LIMIT, "%s: more than %d files", file, FILES_MAX);
    if (size > FILE_MAX)
        return dscm_fail(err, DSCM_E_LIMIT, "%s has %zu bytes, allowed are %zu", file, size,
                         FILE_MAX);
    dscm_asset *asset = &assets->list[assets->count];
    memset(asset, 0, sizeof *asset);
    asset->data = dscm_alloc(size ? size : 1, 1, file, err);
    asset->path = dscm_strdup(path, err);
    assets->count++; /* from here on dscm_assets_free releases it */
    if (!asset->data || !asset->path) return DSCM_E_MEMORY;
    FILE *stream = fopen(file, "rbe");
    asset->size = stream ? fread(asset->data, 1, size, stream) : 0;
    int failed = !stream || ferror(stream);
    if (stream) fclose(stream);
    if (failed) return dscm_fail(err, DSCM_E_IO, "%s: %s", file, strerror(errno));
    asset->type = type_of(file);
    dscm_etag_make(asset->etag, asset->data, asset->size);
    return DSCM_OK;
}

/* A name as it stands in an address; false when there is no room. */
static bool append_escaped(char *out, size_t size, const char *name)
{
    static const char plain[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~";
    size_t used = strlen(out);
    for (; *name; name++) {
        bool keep = strchr(plain, *name) != NULL;
        if (used + (keep ? 1 : 3) >= size) return false;
        used +=
            (size_t)snprintf(out + used, size - used, keep ? "%c" : "%%%02X", (unsigned char)*name);
    }
    return true;
}

/* Files of other kinds, hidden ones and links out of the folder's tree are left alone. */
static dscm_code read_folder(dscm_assets *assets, const char *dir, const char *prefix, int depth,
                             dscm_error *err)
{
    DIR *folder = opendir(dir);
    if (!folder)
        return dscm_fail(err, DSCM_E_NOT_FOUND, "folder of the page %s: %s", dir, strerror(errno));
    dscm_code code = DSCM_OK;
    for (struct dirent *entry; code == DSCM_OK && (entry = readdir(folder));) {
        char file[PATH_SIZE], path[PATH_SIZE];
        struct stat about;
        if (entry->d_name[0] == '.') continue;
        if (snprintf(file, sizeof file, "%s/%s", dir, entry->d_name) >= PATH_SIZE ||
            snprintf(path, sizeof path, "%s/", prefix) >= PATH_SIZE ||
            !append_escaped(path, sizeof path, entry->d_name) || lstat(file, &about) != 0)
            continue;
        if (S_ISDIR(about.st_mode) && depth < DEPTH_MAX)
            code = read_folder(assets, file, path, depth + 1, err);
        else if (S_ISREG(about.st_mode) && type_of(file))
            code = read_file(assets, file, path, (size_t)about.st_size, err);
    }
    closedir(folder);
    return code;
}

/* ---- example pictures: one folder per model, listed for the page ---- */

static int by_path(const void *a, const void *b)
{
    return strcmp(((const dscm_asset *)a)->path, ((const dscm_asset *)b)->path);
}

/* {"MODEL": ["file", ...], ...} of the files /examples/MODEL/file, in the order of the list. */
static json_t *list_examples(const dscm_assets *assets)
{
    json_t *models = json_object();
    for (size_t i = 0; i < assets->count; i++) {
        const char *path = assets->list[i].path;
        if (strncmp(path, DSCM_EXAMPLES, strlen(DSCM_EXAMPLES)) != 0) continue;
        const char *model = path + strlen(DSCM_EXAMPLES), *file = strchr(model, '/');
        if (!file || strchr(file + 1, '/')) continue;
        size_t length = (size_t)(file - model);
        json_t *files = json_object_getn(models, model, length);
        if (!files && json_object_setn_new(models, model, length, files = json_array()) != 0)
            continue; /* counted: the list is not written */
        json_array_append_new(files, dscm_json_string(file + 1));
    }
    return models;
}

static dscm_code add_index(dscm_assets *assets, dscm_error *err)
{
    if (assets->count == FILES_MAX)
        return dscm_fail(err, DSCM_E_LIMIT, "files of the page and examples: more than %d",
                         FILES_MAX - 1);
    unsigned long mark = dscm_json_failures();
    json_t *models = list_examples(assets);
    dscm_asset *asset = &assets->list[assets->count];
    memset(asset, 0, sizeof *asset);
    char *text = dscm_json_text(models, mark, &asset->size);
    json_decref(models);
    asset->data = text ? dscm_alloc(asset->size, 1, "the list of examples", err) : NULL;
    asset->path = dscm_strdup(DSCM_EXAMPLES "index.json", err);
    if (asset->data) memcpy(asset->data, text, asset->size);
    free(text);
    assets->count++;
    if (!asset->data || !asset->path)
        return dscm_fail(err, DSCM_E_MEMORY, "no memory for the list of examples");
    asset->type = type_of(asset->path);
    dscm_etag_make(asset->etag, asset->data, asset->size);
    return DSCM_OK;
}

dscm_code dscm_assets_open(dscm_assets **out, const char *dir, const char *examples,
                           dscm_error *err)
{
    dscm_assets *assets = dscm_alloc(1, sizeof *assets, "the files of the page", err);
    if (!assets) return DSCM_E_MEMORY;
    dscm_code code = dir && *dir ? read_folder(assets, dir, "", 0, err) : DSCM_OK;
    if (code == DSCM_OK && examples && access(examples, F_OK) == 0)
        code = read_folder(assets, examples, "/examples", 0, err);
    if (code == DSCM_OK) {
        qsort(assets->list, assets->count, sizeof assets->list[0], by_path);
        code = add_index(assets, err);
    }
    if (code != DSCM_OK) {
        dscm_assets_free(assets);
        return code;
    }
    *out = assets;
    return DSCM_OK;
}

void dscm_assets_free(dscm_assets *assets)
{
    if (!assets) return;
    for (size_t i = 0; i < assets->count; i++) {
        dscm_free(assets->list[i].data);
        dscm_free(assets->list[i].path);
    }
    dscm_free(assets);
}

/* An escaped path of ours and a path as the request has it, escapes undone. */
static bool same_path(const char *escaped, const char *path)
{
    for (; *escaped; path++) {
        unsigned c = (unsigned char)*escaped++;
        if (c == '%' && sscanf(escaped, "%2x", &c) == 1) escaped += 2;
        if (c != (unsigned char)*path) return false;
    }
    return !*path;
}

const dscm_asset *dscm_assets_find(const dscm_assets *assets, const char *path)
{
    if (strcmp(path, "/") == 0) path = "/index.html";
    for (size_t i = 0; i < assets->count; i++)
        if (same_path(assets->list[i].path, path)) return &assets->list[i];
    return NULL;
}
