#include "server/assets.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

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
             {".ico", "image/x-icon"},
             {".json", "application/json; charset=utf-8"},
             {".txt", "text/plain; charset=utf-8"},
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
            snprintf(path, sizeof path, "%s/%s", prefix, entry->d_name) >= PATH_SIZE ||
            lstat(file, &about) != 0)
            continue;
        if (S_ISDIR(about.st_mode) && depth < DEPTH_MAX)
            code = read_folder(assets, file, path, depth + 1, err);
        else if (S_ISREG(about.st_mode) && type_of(file))
            code = read_file(assets, file, path, (size_t)about.st_size, err);
    }
    closedir(folder);
    return code;
}

dscm_code dscm_assets_open(dscm_assets **out, const char *dir, dscm_error *err)
{
    dscm_assets *assets = dscm_alloc(1, sizeof *assets, "the files of the page", err);
    if (!assets) return DSCM_E_MEMORY;
    dscm_code code = dir && *dir ? read_folder(assets, dir, "", 0, err) : DSCM_OK;
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

const dscm_asset *dscm_assets_find(const dscm_assets *assets, const char *path)
{
    if (strcmp(path, "/") == 0) path = "/index.html";
    for (size_t i = 0; i < assets->count; i++)
        if (strcmp(assets->list[i].path, path) == 0) return &assets->list[i];
    return NULL;
}
