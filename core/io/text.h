/* A text that is printed into memory, whole or not at all: a stream in memory does not tell at its end
 * that memory was short on the way. */
#ifndef DSCM_CORE_IO_TEXT_H
#define DSCM_CORE_IO_TEXT_H

#include <stdio.h>

#include "core/base/error.h"

typedef struct dscm_text {
    FILE *file; /* to print to */
    char *data; /* once it is closed: the text with a zero byte behind it; release with free */
    size_t size;
} dscm_text;
/* name: of what is written, in the message. Fails with DSCM_E_MEMORY. */
dscm_code dscm_text_open(dscm_text *t, const char *name, dscm_error *err) DSCM_MUST_CHECK;
/* Fails with DSCM_E_MEMORY, and leaves no text, when anything of it is missing. */
dscm_code dscm_text_close(dscm_text *t, const char *name, dscm_error *err) DSCM_MUST_CHECK;

#endif
