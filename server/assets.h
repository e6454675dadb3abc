/* The files of the page and the example pictures, read once at start and served from memory: no path
 * of a request ever touches the file system. Bounded in number and size. Threads: immutable once
 * open. */
#ifndef DSCM_SERVER_ASSETS_H
#define DSCM_SERVER_ASSETS_H

#include <stddef.h>
#include <stdint.h>

#include "core/base/error.h"

#define DSCM_EXAMPLES "/examples/" /* where example pictures and their index.json are served */

typedef struct dscm_asset {
    char *path;       /* as requested, escaped: "/app.js", "/examples/m/a%20b.png" */
    const char *type; /* media type */
    uint8_t *data;
    size_t size;
    char etag[36]; /* quoted */
} dscm_asset;

typedef struct dscm_assets dscm_assets;

/* dir: the page's folder; examples: a folder with one folder of pictures per model, served below
 * /examples/ with an index.json that lists them ({"MODEL": ["FILE", ...]}, escaped). Either may be NULL or
 * empty, and examples may not exist. A folder that cannot be read is an error. Caller owns *out. */
dscm_code dscm_assets_open(dscm_assets **out, const char *dir, const char *examples,
                           dscm_error *err) DSCM_MUST_CHECK;
void dscm_assets_free(dscm_assets *assets); /* takes NULL */
/* path: with its escapes undone. "/" finds "/index.html". NULL when there is no such file. */
const dscm_asset *dscm_assets_find(const dscm_assets *assets, const char *path);
/* An If-None-Match value (may be NULL) names this tag. */
int dscm_etag_matches(const char *if_none_match, const char *etag);
/* The strong tag of some bytes. */
void dscm_etag_make(char out[36], const void *data, size_t size);

#endif
