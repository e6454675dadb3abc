/* A text that is printed into memory, whole or not at all: a stream in memory does not tell at its end
 * that memory was short on the way. */
#ifndef DSCM_CORE_IO_TEXT_STREAM_H
#define DSCM_CORE_IO_TEXT_STREAM_H

#include <stdio.h>

#include "core/base/error.h"

typedef struct dscm_text_stream {
    FILE *file; /* to print to */
    char *data; /* once it is closed: the text with a zero byte behind it; release with free */
    size_t size;
} dscm_text_stream;
/* name: of what is written, in the message. Fails with DSCM_E_MEMORY. */
dscm_code dscm_text_stream_open(dscm_text_stream *t, const char *name,
                                dscm_error *err) DSCM_MUST_CHECK;
/* Fails with DSCM_E_MEMORY, and leaves no text, when anything of it is missing. */
dscm_code dscm_text_stream_close(dscm_text_stream *t, const char *name,
                                 dscm_error *err) DSCM_MUST_CHECK;

#endif
