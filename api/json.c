#include "api/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/text.h"

void dscm_json_init(void)
{
    json_object_seed(0);
    dscm_json_failures();
}

/* One pass over the text: strings are skipped, structure is counted. Malformed text is left to the
 * parser, which says where. */
static bool within_limits(const char *text, size_t size, dscm_problem *problem)
{
    size_t tokens = 0, depth = 0;
    bool quoted = false;
    for (size_t i = 0; i < size; i++) {
        char c = text[i];
        if (quoted) {
            if (c == '\\')
                i++;
            else if (c == '"')
                quoted = false;
            continue;
        }
        switch (c) {
        case '"':
            quoted = true;
            continue;
        case '{':
        case '[':
            depth++;
            break;
        case '}':
        case ']':
            depth -= depth > 0;
            break;
        case ':':
        case ',':
            break;
        default:
            continue;
        }
        if (depth > DSCM_JSON_DEPTH_MAX) {
            dscm_problem_set(problem, DSCM_PROBLEM_MALFORMED_JSON,
                             "The JSON is nested deeper than %d levels.", DSCM_JSON_DEPTH_MAX);
            return false;
        }
        if (++tokens > DSCM_JSON_TOKENS_MAX) {
            dscm_problem_set(problem, DSCM_PROBLEM_MALFORMED_JSON,
                             "The JSON has more than %d structural characters.",
                             DSCM_JSON_TOKENS_MAX);
            return false;
        }
    }
    return true;
}

/* What people send where JSON is wanted, with what would do; NULL: not known. */
static const char *other_text(const char *text, size_t size)
{
    static const struct {
        const char *magic, *words;
        size_t length;
    } kinds[] = {{"\x1f\x8b", "gzip data; send the JSON as it is", 2},
                 {"\x28\xb5\x2f\xfd", "zstd data; send the JSON as it is", 4},
                 {"\xff\xfe", "UTF-16 or UTF-32 text; JSON is UTF-8", 2},
                 {"\xfe\xff", "UTF-16 text; JSON is UTF-8", 2},
                 {"\0\0\xfe\xff", "UTF-32 text; JSON is UTF-8", 4},
                 {"{\0", "UTF-16 or UTF-32 text; JSON is UTF-8", 2},
                 {"\0{", "UTF-16 text; JSON is UTF-8", 2},
                 {"\x89PNG", "a PNG file; send it with Content-Type: image/png", 4},
                 {"\xff\xd8\xff", "a JPEG file; send it with Content-Type: image/jpeg", 3},
                 {"--", "a form; its Content-Type is multipart/form-data", 2}};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (size >= kinds[i].length && memcmp(text, kinds[i].magic, kinds[i].length) == 0)
            return kinds[i].words;
    return NULL;
}

json_t *dscm_json_parse(const char *text, size_t size, dscm_problem *problem)
{
    if (size > DSCM_JSON_SIZE_MAX) {
        dscm_problem_set(problem, DSCM_PROBLEM_TOO_LARGE,
                         "The JSON body has %zu bytes; at most %zu are accepted.", size,
                         DSCM_JSON_SIZE_MAX);
        return NULL;
    }
    size_t mark = dscm_text_mark(text, size);
    text += mark;
    size -= mark;
    const char *other = other_text(text, size);
    if (other) {
        dscm_problem_set(problem, DSCM_PROBLEM_MALFORMED_JSON, "The body is %s.", other);
        return NULL;
    }
    if (!within_limits(text, size, problem)) return NULL;
    json_error_t error;
    json_t *value = dscm_json_read(text, size, JSON_REJECT_DUPLICATES, &error);
    if (!value) {
        if (json_error_code(&error) == json_error_out_of_memory)
            dscm_problem_set(problem, DSCM_PROBLEM_INTERNAL, "There is not enough memory.");
        else
            dscm_problem_set(problem, DSCM_PROBLEM_MALFORMED_JSON,
                             "The JSON is malformed at line %d, column %d: %s.", error.line,
                             error.column, error.text);
    }
    return value;
}

char *dscm_json_text(const json_t *value, unsigned long since, size_t *size)
{
    size_t flags = JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(9);
    size_t length = value ? json_dumpb(value, NULL, 0, flags) : 0;
    char *text = length ? malloc(length + 2) : NULL;
    if (!text) return NULL;
    if (json_dumpb(value, text, length, flags) != length || dscm_json_failures() != since) {
        free(text);
        return NULL;
    }
    text[length] = '\n';
    text[length + 1] = '\0';
    if (size) *size = length + 1;
    return text;
}

int dscm_json_set_real(json_t *object, const char *key, double value)
{
    return json_object_set_new(object, key, isfinite(value) ? json_real(value) : json_null());
}

json_t *dscm_json_string(const char *text)
{
    enum { MOST = 1000 };
    char out[3 * MOST + 1];
    size_t length = strnlen(text, MOST), used = 0;
    json_t *value = json_stringn(text, length);
    if (value) return value;
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)text[i];
        used += (size_t)snprintf(out + used, 4, c < 0x80 ? "%c" : "%%%02X", c);
    }
    return json_stringn(out, used);
}
