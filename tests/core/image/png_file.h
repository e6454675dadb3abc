/* PNG files written by hand in tests: big-endian numbers, and chunks with their length and checksum.
 * Pictures are made of chunks by the tests that want them. */
#ifndef TESTS_API_PNG_FILE_H
#define TESTS_API_PNG_FILE_H

#include <zlib.h>

#include "tests/core/io/archive.h"

static inline void put_big(buffer *b, uint32_t v)
{
    for (int i = 3; i >= 0; i--) put_number(b, v >> (8 * i) & 255, 1);
}

static inline void put_chunk(buffer *b, const char *type, const void *data, size_t size)
{
    put_big(b, (uint32_t)size);
    size_t at = b->size;
    put(b, type, 4);
    put(b, data, size);
    put_big(b, (uint32_t)crc32(0, b->bytes + at, (uInt)(size + 4)));
}

#endif
