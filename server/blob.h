/* Immutable bytes shared by reference, and lists of fields inside them: the form in which requests
 * and results are kept in stores and passed between processes.
 *
 * A packed blob is: 4 bytes magic, 4 bytes count, 8 bytes size per field, then the fields, each
 * followed by a zero byte, so that text can be read in place. Numbers are little-endian. It knows
 * nothing of what the fields mean. Threads: contents never change; the count of references is
 * atomic.
 */
#ifndef DSCM_SERVER_BLOB_H
#define DSCM_SERVER_BLOB_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DSCM_BLOB_FIELDS_MAX 256

typedef struct dscm_blob {
    atomic_size_t references;
    size_t size;
    uint8_t bytes[];
} dscm_blob;

typedef struct dscm_span {
    const void *data; /* NULL only when size is 0 */
    size_t size;
} dscm_span;

static inline dscm_span dscm_span_of(const void *data, size_t size)
{
    return (dscm_span){data, size};
}
dscm_span dscm_span_text(const char *text); /* without its zero byte; NULL gives an empty one */

/* Copies; NULL when there is no memory. One reference, the caller's. */
dscm_blob *dscm_blob_copy(const void *bytes, size_t size);
/* Packs up to DSCM_BLOB_FIELDS_MAX fields; NULL when there is no memory. */
dscm_blob *dscm_blob_pack(const dscm_span *fields, size_t count);
dscm_blob *dscm_blob_ref(dscm_blob *blob); /* takes NULL */
void dscm_blob_unref(dscm_blob *blob);     /* takes NULL */

/* The bytes are a packed blob in which every field lies inside. */
bool dscm_blob_valid(const void *bytes, size_t size);
/* Of bytes that are valid: */
size_t dscm_blob_count_in(const void *bytes);
dscm_span dscm_blob_field_in(const void *bytes, size_t index); /* as dscm_blob_field */
/* Of valid blobs: */
size_t dscm_blob_count(const dscm_blob *blob);
/* Field `index`, followed by a zero byte; an empty text when there is no such field. */
dscm_span dscm_blob_field(const dscm_blob *blob, size_t index);
const char *dscm_blob_text(const dscm_blob *blob, size_t index);

#endif
