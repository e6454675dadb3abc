/* Whole files: bounded reading, and writing that replaces atomically. */
#ifndef DSCM_CORE_IO_FILE_H
#define DSCM_CORE_IO_FILE_H

#include <stddef.h>

#include "core/base/error.h"

/* Reads a regular file of at most `limit` bytes; a zero byte follows the content. Release with
 * dscm_free. */
dscm_code dscm_file_read(const char *path, size_t limit, unsigned char **bytes, size_t *size,
                         dscm_error *err) DSCM_MUST_CHECK;

typedef struct dscm_piece {
    const void *data;
    size_t size;
} dscm_piece;
/* Writes the pieces one after another to a temporary name, syncs and renames: readers see the old
 * file or the whole new one. A link is followed; what is no regular file (a pipe, a device) is
 * written to as it stands. */
dscm_code dscm_file_replace(const char *path, const dscm_piece *pieces, size_t count,
                            dscm_error *err) DSCM_MUST_CHECK;

/* A copy of a regular file of at most 8 GiB, put at `to` as a replacement. */
dscm_code dscm_file_copy(const char *from, const char *to, dscm_error *err) DSCM_MUST_CHECK;

/* A replacement in steps, for content that is made on the way. A commit takes the writer, also when it
 * fails; abandoning leaves the old file (takes NULL). */
typedef struct dscm_file_writer dscm_file_writer;
dscm_code dscm_file_begin(dscm_file_writer **out, const char *path,
                          dscm_error *err) DSCM_MUST_CHECK;
dscm_code dscm_file_put(dscm_file_writer *w, const void *bytes, size_t size,
                        dscm_error *err) DSCM_MUST_CHECK;
dscm_code dscm_file_commit(dscm_file_writer *w, dscm_error *err) DSCM_MUST_CHECK;
void dscm_file_abandon(dscm_file_writer *w);

#endif
