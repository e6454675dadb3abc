/* Reading manifests: small checked accessors that name the place of a mistake. Internal to
 * core/scm. */
#ifndef DSCM_CORE_BUNDLE_MANIFEST_H
#define DSCM_CORE_BUNDLE_MANIFEST_H

#include <jansson.h>
#include <stdbool.h>

#include "core/base/cpu.h"
#include "core/base/error.h"

struct bundle_net;

typedef struct manifest {
    const char *path; /* of manifest.json, for messages */
    const char *dir;
    const json_t *files;      /* name -> sha256 */
    bool describe;            /* files need not be read */
    struct bundle_net **nets; /* list of the networks met so far */
} manifest;

/* Fails unless every key of the object is in the blank-separated list. */
dscm_code manifest_keys(const manifest *m, const json_t *object, const char *where,
                        const char *known, dscm_error *err) DSCM_MUST_CHECK;
/* A non-empty string of at most `most` bytes. */
dscm_code manifest_text(const manifest *m, const json_t *object, const char *where, const char *key,
                        size_t most, const char **out, dscm_error *err) DSCM_MUST_CHECK;
dscm_code manifest_size(const manifest *m, const json_t *object, const char *where, const char *key,
                        size_t low, size_t high, size_t *out, dscm_error *err) DSCM_MUST_CHECK;
dscm_code manifest_real(const manifest *m, const json_t *object, const char *where, const char *key,
                        double low, double high, double *out, dscm_error *err) DSCM_MUST_CHECK;
/* DIR/name for a file listed under "files", after its hash has been checked. */
dscm_code manifest_file(const manifest *m, const char *name, char *path, size_t size,
                        dscm_error *err) DSCM_MUST_CHECK;

#endif
