#include "server/stored_request.h"

#include <stdlib.h>
#include <string.h>

#include "api/case_text.h"

enum { FIELD_WORK, FIELD_FORM, FIELD_QUERY, FIELD_MODEL, FIELD_BODY, FIELD_COUNT };
static const char *const work_names[] = {"counterfactual", "abduction", "sample"};

dscm_blob *dscm_stored_request_pack(dscm_work work, bool json, const char *query, const char *model,
                                    const void *body, size_t size)
{
    dscm_span fields[FIELD_COUNT] = {dscm_span_text(work_names[work]),
                                     dscm_span_text(json ? "json" : "image"), dscm_span_text(query),
                                     dscm_span_text(model), dscm_span_of(body, size)};
    return dscm_blob_pack(fields, FIELD_COUNT);
}

dscm_blob *dscm_stored_case_pack(const char *text, size_t text_size, const char *model,
                                 const void *pixels, size_t size)
{
    dscm_span fields[FIELD_COUNT] = {dscm_span_text(work_names[DSCM_WORK_COUNTERFACTUAL]),
                                     dscm_span_text("case"), dscm_span_of(text, text_size),
                                     dscm_span_text(model), dscm_span_of(pixels, size)};
    return dscm_blob_pack(fields, FIELD_COUNT);
}

static bool valid(const void *bytes, size_t size)
{
    return dscm_blob_valid(bytes, size) && dscm_blob_count_in(bytes) == FIELD_COUNT;
}

static dscm_work work_of(const char *name)
{
    size_t work = DSCM_WORK_SAMPLE;
    while (work && strcmp(work_names[work], name) != 0) work--;
    return (dscm_work)work;
}

dscm_work dscm_stored_request_work(const void *bytes, size_t size)
{
    if (!valid(bytes, size)) return DSCM_WORK_COUNTERFACTUAL;
    return work_of(dscm_blob_field_in(bytes, FIELD_WORK).data);
}

/* Cases name their model by what it holds, not by its name. */
static bool parse_case(dscm_request **out, dscm_span text, dscm_span pixels, const char *model,
                       const dscm_catalogue *catalogue, dscm_problem *problem)
{
    for (size_t i = 0; i < catalogue->count; i++)
        if (strcmp(catalogue->models[i].info->sha256, model) == 0)
            return dscm_request_parse_case(out, text.data, text.size, pixels.data, pixels.size,
                                           catalogue, i, problem);
    dscm_problem_set(problem, DSCM_PROBLEM_UNKNOWN_MODEL,
                     "the bundle with SHA-256 %s is not served here", model);
    return false;
}

bool dscm_stored_request_parse(dscm_request **out, const void *bytes, size_t size,
                               const dscm_catalogue *catalogue, dscm_problem *problem)
{
    *out = NULL;
    if (!valid(bytes, size)) {
        dscm_problem_set(problem, DSCM_PROBLEM_INTERNAL, "the stored request cannot be read");
        return false;
    }
    dscm_span body = dscm_blob_field_in(bytes, FIELD_BODY);
    dscm_span query = dscm_blob_field_in(bytes, FIELD_QUERY);
    const char *model = dscm_blob_field_in(bytes, FIELD_MODEL).data;
    dscm_work work = dscm_stored_request_work(bytes, size);
    if (strcmp(dscm_blob_field_in(bytes, FIELD_FORM).data, "case") == 0)
        return parse_case(out, query, body, model, catalogue, problem);
    bool json = strcmp(dscm_blob_field_in(bytes, FIELD_FORM).data, "json") == 0;
    bool ok = json ? dscm_request_parse_json(out, work, body.data, body.size, catalogue, problem)
                   : dscm_request_parse_image(out, work, body.data, body.size,
                                              query.size ? query.data : NULL, catalogue, problem);
    if (!ok || strcmp((*out)->info->sha256, model) == 0) return ok;
    dscm_problem_set(problem, DSCM_PROBLEM_UNKNOWN_MODEL,
                     "the job was accepted for the bundle with SHA-256 %s, but model \"%s\" is now "
                     "another one (%s): send the request again",
                     model, (*out)->info->name, (*out)->info->sha256);
    dscm_request_free(*out);
    *out = NULL;
    return false;
}

bool dscm_stored_abduction_apply(dscm_request *request, const void *key, size_t size,
                                 dscm_error *err)
{
    const dscm_variable *image = &request->info->variables[request->info->image];
    size_t count = image->h * image->w * image->c;
    if (size < count) {
        (void)dscm_fail(err, DSCM_E_MISMATCH, "the stored image has another size");
        return false;
    }
    uint8_t *pixels = malloc(count ? count : 1), *own = malloc(size);
    bool same = false;
    if (pixels && own) {
        memcpy(pixels, (const uint8_t *)key + size - count, count);
        request->pixels = pixels;
        same = dscm_request_take_factuals(request, key, size) &&
               dscm_request_abduction_key(request, own, size) == size &&
               memcmp(own, key, size) == 0;
        request->pixels = same ? pixels : NULL;
        if (same) request->abduction[0] = 0;
        if (!same) (void)dscm_fail(err, DSCM_E_MISMATCH, "made with other options");
    } else {
        (void)dscm_fail(err, DSCM_E_MEMORY, "no memory for the stored image");
    }
    if (!same) free(pixels);
    free(own);
    return same;
}
