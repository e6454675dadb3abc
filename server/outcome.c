#include "server/outcome.h"

#include <stdio.h>
#include <string.h>

/* Fields: the reply, Server-Timing, header lines, then name and PNG of each picture. */
enum { FIELD_JSON, FIELD_TIMING, FIELD_HEADERS, FIELD_PICTURES };
#define PICTURES_MAX ((DSCM_BLOB_FIELDS_MAX - FIELD_PICTURES) / 2)

static void timing_text(char *out, size_t size, const dscm_run_times *t)
{
    snprintf(out, size,
             "queue;dur=%.3f, abduct;dur=%.3f, predict;dur=%.3f, score;dur=%.3f, encode;dur=%.3f",
             t->queue, t->abduct, t->predict, t->score, t->encode);
}

/* "Name: value" per line. */
static void header_lines(char *out, size_t size, const dscm_result *result)
{
    dscm_reply_header headers[DSCM_REPLY_HEADERS_MAX];
    size_t count = result->count ? dscm_reply_headers(headers, result, 0) : 0, used = 0;
    *out = 0;
    for (size_t i = 0; i < count && used < size; i++)
        used += (size_t)snprintf(out + used, size - used, "%s: %s\n", headers[i].name,
                                 headers[i].value);
}

dscm_blob *dscm_outcome_pack(const char *json, size_t json_size, const dscm_result *result)
{
    char timing[200] = "", lines[DSCM_REPLY_HEADERS_MAX * (sizeof(dscm_reply_header) + 4)] = "";
    dscm_span fields[DSCM_BLOB_FIELDS_MAX];
    size_t count = FIELD_PICTURES;
    if (result) timing_text(timing, sizeof timing, &result->times);
    if (result) header_lines(lines, sizeof lines, result);
    fields[FIELD_JSON] = dscm_span_of(json, json_size);
    fields[FIELD_TIMING] = dscm_span_text(timing);
    fields[FIELD_HEADERS] = dscm_span_text(lines);
    if (result && result->files_count > PICTURES_MAX) return NULL;
    for (size_t i = 0; result && i < result->files_count; i++) {
        fields[count++] = dscm_span_text(result->files[i].name);
        fields[count++] = dscm_span_of(result->files[i].png, result->files[i].size);
    }
    return dscm_blob_pack(fields, count);
}

bool dscm_outcome_valid(const void *bytes, size_t size)
{
    if (!dscm_blob_valid(bytes, size)) return false;
    size_t count = dscm_blob_count_in(bytes);
    return count >= FIELD_PICTURES && (count - FIELD_PICTURES) % 2 == 0;
}

dscm_span dscm_outcome_json(const dscm_blob *outcome)
{
    return dscm_blob_field(outcome, FIELD_JSON);
}

const char *dscm_outcome_timing(const dscm_blob *outcome)
{
    return dscm_blob_text(outcome, FIELD_TIMING);
}

size_t dscm_outcome_headers(const dscm_blob *outcome,
                            dscm_reply_header headers[DSCM_REPLY_HEADERS_MAX])
{
    size_t count = 0;
    const char *line = dscm_blob_text(outcome, FIELD_HEADERS);
    for (const char *end; count < DSCM_REPLY_HEADERS_MAX && (end = strchr(line, '\n'));
         line = end + 1) {
        const char *colon = strstr(line, ": ");
        if (!colon || colon > end) continue;
        dscm_reply_header *h = &headers[count++];
        snprintf(h->name, sizeof h->name, "%.*s", (int)(colon - line), line);
        snprintf(h->value, sizeof h->value, "%.*s", (int)(end - colon - 2), colon + 2);
    }
    return count;
}

dscm_span dscm_outcome_picture(const dscm_blob *outcome, const char *name)
{
    size_t count = dscm_blob_count(outcome);
    for (size_t i = FIELD_PICTURES; i + 1 < count; i += 2)
        if (strcmp(dscm_blob_text(outcome, i), name) == 0) return dscm_blob_field(outcome, i + 1);
    return (dscm_span){"", 0};
}
