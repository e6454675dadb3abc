#include "core/io/text_stream.h"

#include <stdbool.h>
#include <stdlib.h>

static dscm_code no_memory(const char *name, dscm_error *err)
{
    return dscm_fail(err, DSCM_E_MEMORY, "%s: out of memory", name);
}

dscm_code dscm_text_stream_open(dscm_text_stream *t, const char *name, dscm_error *err)
{
    *t = (dscm_text_stream){0};
    t->file = open_memstream(&t->data, &t->size);
    return t->file ? DSCM_OK : no_memory(name, err);
}

dscm_code dscm_text_stream_close(dscm_text_stream *t, const char *name, dscm_error *err)
{
    bool bad = ferror(t->file);
    bad |= fclose(t->file) != 0 ||
           !t->data; /* closing shrinks the text, which fails without saying so */
    t->file = NULL;
    if (!bad) return DSCM_OK;
    free(t->data);
    *t = (dscm_text_stream){0};
    return no_memory(name, err);
}
