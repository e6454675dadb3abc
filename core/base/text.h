/* Text as programs of other systems write it. Pure. */
#ifndef DSCM_CORE_BASE_TEXT_H
#define DSCM_CORE_BASE_TEXT_H

#include <stddef.h>
#include <string.h>

/* Bytes of the UTF-8 byte order mark at the start of a text: 3 or 0. It is no part of the text. */
static inline size_t dscm_text_mark(const char *text, size_t size)
{
    return size >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
}

#endif
