/* The files of a data set by relative name: those of a folder, or of a tar archive.
 *
 * Names only and their sizes are held; content is read in batches, so that a set larger than the
 * memory can be gone through. Hidden files and folders (a dot in front, __MACOSX) are left out.
 * Not shared between threads.
 */
#ifndef DSCM_CORE_DATA_SOURCE_H
#define DSCM_CORE_DATA_SOURCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/error.h"

typedef struct dscm_source_file {
    char *name; /* relative to the source, '/' between folders; owned by the source */
    uint64_t size;
    int64_t changed; /* of a folder's file: nanoseconds since 1970; of an archive: the archive's */
} dscm_source_file;

typedef struct dscm_source {
    char *path; /* owned */
    bool archive;
    dscm_source_file *files; /* (count): a folder's in order of name, an archive's in its own */
    size_t count, capacity;
} dscm_source;

/* Lists folder or archive. DSCM_E_NOT_FOUND: there is no such path; DSCM_E_LIMIT: more than 4
 * million files or more than 16 folders in one another. */
dscm_code dscm_source_open(dscm_source *out, const char *path, dscm_error *err) DSCM_MUST_CHECK;
void dscm_source_close(dscm_source *s); /* takes a zeroed one */

typedef struct dscm_source_piece {
    size_t file; /* index into files */
    unsigned char
        *bytes; /* of the caller of `use` until it returns; NULL: not readable, see error */
    size_t size;
    dscm_error error;
} dscm_source_piece;

typedef dscm_code (*dscm_source_use)(void *arg, const dscm_source_piece *pieces, size_t count,
                                     dscm_error *err);

/* Calls `use` with the content of all files i with wanted[i], in batches of at most 256 files and
 * about 64 MiB. A single file that is larger than `limit` or cannot be read is handed over with its
 * error; a damaged archive ends the reading. */
dscm_code dscm_source_read(const dscm_source *s, const bool *wanted, size_t limit,
                           dscm_source_use use, void *arg, dscm_error *err) DSCM_MUST_CHECK;

#endif
