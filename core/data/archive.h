/* Files of a tar archive (plain, or packed by gzip, bzip2, xz or zstd), one after another. The only
 * user of libarchive. Nothing is unpacked to disk: names are data and never become paths.
 * One thread at a time drives a reader. */
#ifndef DSCM_CORE_DATA_ARCHIVE_H
#define DSCM_CORE_DATA_ARCHIVE_H

#include <stddef.h>
#include <stdint.h>

#include "core/base/error.h"

typedef struct dscm_archive dscm_archive;

/* DSCM_E_FORMAT: the file is no tar archive; DSCM_E_NOT_FOUND, DSCM_E_IO: it cannot be read. */
dscm_code dscm_archive_open(dscm_archive **out, const char *path, dscm_error *err) DSCM_MUST_CHECK;
void dscm_archive_close(dscm_archive *a); /* takes NULL */

/* Steps to the next regular file: *name (borrowed until the next call) and *size in bytes;
 * *name is NULL at the end. */
dscm_code dscm_archive_next(dscm_archive *a, const char **name, uint64_t *size,
                            dscm_error *err) DSCM_MUST_CHECK;
/* Content of the file stepped to: `size` bytes as dscm_archive_next said. */
dscm_code dscm_archive_read(dscm_archive *a, unsigned char *bytes, size_t size,
                            dscm_error *err) DSCM_MUST_CHECK;

#endif
