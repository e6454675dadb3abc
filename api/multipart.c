#include "api/multipart.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define BOUNDARY_MAX 70 /* RFC 2046 */

static bool fail(dscm_problem *problem, size_t part, const char *what)
{
    dscm_problem_set(problem, DSCM_PROBLEM_BAD_REQUEST,
                     "The multipart/form-data body is malformed at part %zu: %s.", part, what);
    return false;
}

/* The value of a parameter in "…; name=value; …" or "…; name=\"value\"…" of `size` bytes; NULL: absent. */
static const char *parameter(const char *text, size_t size, const char *name, size_t *length)
{
    size_t named = strlen(name);
    bool quoted = false;
    for (size_t i = 0; i < size; i++) {
        if (text[i] == '"') quoted = !quoted;
        if (quoted || text[i] != ';') continue;
        size_t at = i + 1;
        while (at < size && (text[at] == ' ' || text[at] == '\t')) at++;
        if (size - at <= named || strncasecmp(text + at, name, named) != 0 ||
            text[at + named] != '=')
            continue;
        at += named + 1;
        const char *start = text + at, *end;
        if (at < size && *start == '"') {
            start++;
            end = memchr(start, '"', size - at - 1);
            if (!end) return NULL;
        } else {
            size_t n = 0;
            while (at + n < size && !strchr("; \t\r\n\"", start[n])) n++;
            end = start + n;
        }
        *length = (size_t)(end - start);
        return start;
    }
    return NULL;
}

/* One header line of a part. */
static bool read_line(dscm_part *part, const char *line, size_t size, size_t number,
                      dscm_problem *problem)
{
    static const char disposition[] = "Content-Disposition:",
                      transfer[] = "Content-Transfer-Encoding:";
    size_t length;
    if (size >= sizeof transfer - 1 && strncasecmp(line, transfer, sizeof transfer - 1) == 0) {
        const char *value = line + sizeof transfer - 1;
        size_t left = size - (sizeof transfer - 1);
        while (left && *value == ' ') value++, left--;
        if (!(left == 6 && strncasecmp(value, "binary", 6) == 0) &&
            !(left == 4 &&
              (strncasecmp(value, "8bit", 4) == 0 || strncasecmp(value, "7bit", 4) == 0)))
            return fail(problem, number, "its Content-Transfer-Encoding is not binary");
    }
    if (size < sizeof disposition - 1 ||
        strncasecmp(line, disposition, sizeof disposition - 1) != 0)
        return true;
    part->name = parameter(line, size, "name", &length);
    part->name_size = part->name ? length : 0;
    part->file =
        parameter(line, size, "filename", &length) || parameter(line, size, "filename*", &length);
    return true;
}

/* The header lines at *at, up to and with the empty one. */
static bool read_head(dscm_part *part, const char *body, size_t size, size_t *at, size_t number,
                      dscm_problem *problem)
{
    size_t start = *at;
    for (;;) {
        size_t most = size - *at;
        if (*at - start + most > DSCM_MULTIPART_HEAD_MAX)
            most = DSCM_MULTIPART_HEAD_MAX - (*at - start);
        const char *end = memmem(body + *at, most, "\r\n", 2);
        if (!end) return fail(problem, number, "its header lines do not end");
        size_t length = (size_t)(end - (body + *at));
        if (length && !read_line(part, body + *at, length, number, problem)) return false;
        *at += length + 2;
        if (!length) break;
    }
    if (!part->name_size) return fail(problem, number, "it has no Content-Disposition with a name");
    return true;
}

bool dscm_multipart_parse(dscm_multipart *out, const char *type, const void *bytes, size_t size,
                          dscm_problem *problem)
{
    char delimiter[BOUNDARY_MAX + 8];
    const char *body = bytes;
    size_t length = 0;
    const char *boundary = parameter(type, strlen(type), "boundary", &length);
    out->count = 0;
    if (!boundary || !length || length > BOUNDARY_MAX) {
        dscm_problem_set(problem, DSCM_PROBLEM_BAD_REQUEST,
                         "The Content-Type multipart/form-data has no boundary of 1 to %d signs.",
                         BOUNDARY_MAX);
        return false;
    }
    snprintf(delimiter, sizeof delimiter, "\r\n--%.*s", (int)length, boundary);
    length += 4;
    /* The first one may stand at the start, without the line before it. */
    bool first = size >= length - 2 && memcmp(body, delimiter + 2, length - 2) == 0;
    const char *found = first ? body - 2 : size ? memmem(body, size, delimiter, length) : NULL;
    if (!found) return fail(problem, 1, "its boundary is not in the body");
    for (size_t at = first ? length - 2 : (size_t)(found - body) + length;;) {
        size_t number = out->count + 1;
        if (size - at >= 2 && memcmp(body + at, "--", 2) == 0) return true;
        while (at < size && (body[at] == ' ' || body[at] == '\t')) at++;
        if (size - at < 2 || memcmp(body + at, "\r\n", 2) != 0)
            return fail(problem, number, "no line end follows its boundary");
        at += 2;
        if (out->count == DSCM_MULTIPART_PARTS_MAX)
            return fail(problem, number, "there are more than 64 parts");
        dscm_part *part = &out->parts[out->count];
        *part = (dscm_part){0};
        if (!read_head(part, body, size, &at, number, problem)) return false;
        /* An empty part: the line end of the boundary is that of the header's empty line. */
        size_t from = at - 2;
        const char *end = memmem(body + from, size - from, delimiter, length);
        if (!end) return fail(problem, number, "no boundary follows it");
        part->data = body + at;
        part->size = end < body + at ? 0 : (size_t)(end - (body + at));
        out->count++;
        at = (size_t)(end - body) + length;
    }
}

/* Appends percent-encoded text; false when it does not fit. */
static bool append(char *out, size_t *used, const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        unsigned char c = (unsigned char)text[i];
        bool plain = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
                     strchr("-._~*,", c) != NULL;
        if (!c || *used + 3 > DSCM_QUERY_SIZE_MAX) return false;
        *used += (size_t)snprintf(out + *used, 4, plain ? "%c" : "%%%02X", c);
    }
    return true;
}

bool dscm_multipart_request(const dscm_multipart *form, const char *query,
                            char out[DSCM_QUERY_SIZE_MAX + 1], const dscm_part **picture,
                            dscm_problem *problem)
{
    size_t used = query ? strlen(query) : 0;
    *picture = NULL;
    bool fits = used < DSCM_QUERY_SIZE_MAX;
    if (fits) memcpy(out, query ? query : "", used + 1);
    for (size_t i = 0; i < form->count && fits; i++) {
        const dscm_part *part = &form->parts[i];
        bool image = part->file || (part->name_size == 5 && memcmp(part->name, "image", 5) == 0);
        if (!part->size) continue;
        if (image && *picture) {
            dscm_problem_set(problem, DSCM_PROBLEM_BAD_REQUEST,
                             "The form holds more than one picture; one file is allowed.");
            return false;
        }
        if (image) {
            *picture = part;
            continue;
        }
        if (used) out[used++] = '&';
        fits = append(out, &used, part->name, part->name_size) && used + 2 < DSCM_QUERY_SIZE_MAX;
        if (!fits) break;
        out[used++] = '=';
        fits = append(out, &used, part->data, part->size) && used + 2 < DSCM_QUERY_SIZE_MAX;
        out[used] = 0;
    }
    if (fits) return true;
    dscm_problem_set(problem, DSCM_PROBLEM_BAD_REQUEST,
                     "The fields of the form take more than %d bytes, or hold a NUL.",
                     DSCM_QUERY_SIZE_MAX);
    return false;
}
