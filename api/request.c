#include "api/request.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "api/base64.h"
#include "api/image.h"
#include "api/json.h"
#include "api/query.h"
#include "api/request_internal.h"
#include "core/base/clock.h"

static const char *const FIELDS[][9] = {
    [DSCM_WORK_COUNTERFACTUAL] = {"model", "image", "abduction", "factuals", "intervention",
                                  "interventions", "options", "deadline_ms", NULL},
    [DSCM_WORK_ABDUCTION] = {"model", "image", "factuals", "options", "deadline_ms", NULL},
    [DSCM_WORK_SAMPLE] = {"model", "intervention", "count", "options", "deadline_ms", NULL},
};

void request_pointer(char out[POINTER_MAX], const char *pointer, const char *name)
{
    size_t n = (size_t)snprintf(out, POINTER_MAX, "%s/", pointer);
    for (; *name && n + 3 < POINTER_MAX; name++) {
        if (*name == '~' || *name == '/') {
            out[n++] = '~';
            out[n++] = *name == '~' ? '0' : '1';
        } else {
            out[n++] = *name;
        }
    }
    /* A name cut inside a UTF-8 character would spoil the reply. */
    while (*name && n > 0 && ((unsigned char)out[n - 1] & 0x80)) n--;
    out[n < POINTER_MAX ? n : POINTER_MAX - 1] = '\0';
}

/* "/options/steps" -> "?steps", "/intervention/digit" -> "?do.digit", "/model" -> "?model". */
static void query_place(char out[POINTER_MAX], const char *pointer)
{
    static const char *const prefixes[][2] = {
        {"/options/", "?"}, {"/intervention/", "?do."}, {"/factuals/", "?factual."}, {"/", "?"}};
    for (size_t i = 0; i < sizeof prefixes / sizeof prefixes[0]; i++) {
        size_t n = strlen(prefixes[i][0]);
        if (strncmp(pointer, prefixes[i][0], n) != 0) continue;
        snprintf(out, POINTER_MAX, "%s%s", prefixes[i][1], pointer + n);
        return;
    }
    snprintf(out, POINTER_MAX, "%s", pointer);
}

void request_error(request_parser *p, dscm_problem_code code, const char *pointer,
                   const char *format, ...)
{
    char detail[DSCM_MESSAGE_MAX], place[POINTER_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(detail, sizeof(detail), format, args);
    va_end(args);
    if (p->from_query)
        query_place(place, pointer);
    else
        snprintf(place, sizeof(place), "%s", pointer);
    dscm_problem_add(p->problem, code, place, "%s", detail);
}

static bool is_field(const char *const *fields, const char *name)
{
    for (; *fields; fields++)
        if (strcmp(*fields, name) == 0) return true;
    return false;
}

static void check_fields(request_parser *p, const json_t *object, const char *pointer,
                         const char *const *fields)
{
    const char *name;
    json_t *value;
    char allowed[256] = "", place[POINTER_MAX];
    for (size_t i = 0, n = 0; fields[i]; i++)
        n += (size_t)snprintf(allowed + n, sizeof(allowed) - n, "%s%s", i ? ", " : "", fields[i]);
    json_object_foreach((json_t *)object, name, value)
    {
        if (is_field(fields, name)) continue;
        request_pointer(place, pointer, name);
        request_error(p, DSCM_PROBLEM_UNKNOWN_FIELD, place,
                      "This field does not exist here; allowed are: %s.", allowed);
    }
}

static void parse_model(request_parser *p, const json_t *value)
{
    const dscm_catalogue *c = p->catalogue;
    size_t found = 0;
    if (value) {
        const char *name = json_string_value(value);
        if (!name) {
            request_error(p, DSCM_PROBLEM_INVALID_PARAMETER, "/model",
                          "The model must be a string.");
        } else {
            for (found = 0; found < c->count; found++)
                if (strcmp(c->models[found].info->name, name) == 0) break;
            if (found == c->count) {
                request_error(p, DSCM_PROBLEM_UNKNOWN_MODEL, "/model",
                              "There is no model of this name; GET /models lists them. The "
                              "default is '%s'.",
                              c->models[0].info->name);
                found = 0;
            }
        }
    }
    p->request->model = found;
    p->request->info = c->models[found].info;
    p->request->bundle = c->models[found].bundle;
}

static void parse_deadline(request_parser *p, const json_t *value)
{
    if (!value) return;
    json_int_t ms = json_integer_value(value);
    if (!json_is_integer(value) || ms < 1 || ms > DSCM_DEADLINE_MAX_MS)
        request_error(
            p, json_is_integer(value) ? DSCM_PROBLEM_OUT_OF_RANGE : DSCM_PROBLEM_INVALID_PARAMETER,
            "/deadline_ms", "The deadline must be an integer in 1..%d (milliseconds).",
            DSCM_DEADLINE_MAX_MS);
    else
        p->request->deadline_ms = (long)ms;
}

static void parse_count(request_parser *p, const json_t *value)
{
    p->request->count = 1;
    if (!value) return;
    json_int_t count = json_integer_value(value);
    if (!json_is_integer(value))
        request_error(p, DSCM_PROBLEM_INVALID_PARAMETER, "/count", "The count must be an integer.");
    else if (count < 1 || count > DSCM_SAMPLES_MAX)
        request_error(p, DSCM_PROBLEM_OUT_OF_RANGE, "/count",
                      "The count is %lld; allowed is 1..%d.", (long long)count, DSCM_SAMPLES_MAX);
    else
        p->request->count = (size_t)count;
}

static void parse_abduction(request_parser *p, const json_t *value)
{
    const char *id = json_string_value(value);
    size_t size = id ? strlen(id) : 0;
    if (size < 1 || size >= sizeof(p->request->abduction)) {
        request_error(p, DSCM_PROBLEM_INVALID_PARAMETER, "/abduction",
                      "The abduction must be an id given by POST /abductions or by a reply.");
        return;
    }
    memcpy(p->request->abduction, id, size + 1);
}

static void file_free(dscm_request *r)
{
    free(r->file_memory);
    r->file = r->file_memory = NULL;
    r->file_size = 0;
}

bool dscm_request_decode(dscm_request *r, dscm_problem *problem)
{
    if (!r->file) return true;
    double start = dscm_clock_s();
    r->pixels =
        dscm_image_decode(&r->info->variables[r->info->image], r->file, r->file_size,
                          r->file_side_max, r->file_resize, r->file_pointer, &r->inverted, problem);
    r->decode_ms = (dscm_clock_s() - start) * 1e3;
    file_free(r);
    return r->pixels != NULL;
}

/* Takes the image once everything else is known to be right: the costly check comes last. `memory` is
 * freed with it. */
static void take_image(request_parser *p, const void *bytes, size_t size, void *memory)
{
    dscm_request *r = p->request;
    r->file = bytes;
    r->file_size = size;
    r->file_memory = memory;
    r->file_resize = p->resize;
    r->file_pointer = p->from_query ? "" : "/image";
    r->file_side_max =
        p->catalogue->image_side_max ? p->catalogue->image_side_max : DSCM_IMAGE_SIDE_MAX;
    bool good =
        p->catalogue->decode_later
            ? dscm_image_check(&r->info->variables[r->info->image], bytes, size, r->file_side_max,
                               p->resize, r->file_pointer, &r->file_pixels, p->problem)
            : dscm_request_decode(r, p->problem);
    if (!good) file_free(r);
}

static void parse_image_text(request_parser *p, const json_t *value)
{
    const char *text = json_string_value(value);
    if (!text) {
        request_error(p, DSCM_PROBLEM_INVALID_PARAMETER, "/image",
                      "The image must be a string: a PNG or JPEG file as base64 or data URL.");
        return;
    }
    if (p->problem->code) return;
    size_t size = json_string_length(value);
    dscm_error err = {0};
    uint8_t *bytes = NULL;
    if (dscm_data_url_strip(&text, &size, &err) == DSCM_OK) {
        size_t count = 0;
        bytes = malloc(dscm_base64_decoded_max(size));
        if (!bytes)
            dscm_problem_set(p->problem, DSCM_PROBLEM_INTERNAL, "There is not enough memory.");
        else if (dscm_base64_decode(bytes, &count, text, size, &err) == DSCM_OK)
            take_image(p, bytes, count, bytes), bytes = NULL;
    }
    if (err.code) request_error(p, DSCM_PROBLEM_NOT_AN_IMAGE, "/image", "%s.", err.message);
    free(bytes);
}

/* kept: an abduction stands for it, good or not. */
static void parse_image(request_parser *p, const json_t *image, bool kept)
{
    bool given = image || p->image_size;
    if (given && kept)
        request_error(p, DSCM_PROBLEM_INVALID_PARAMETER, "/abduction",
                      "Give an image or an abduction, not both.");
    else if (!given && !kept)
        request_error(p, DSCM_PROBLEM_INVALID_PARAMETER, "/image",
                      p->request->work == DSCM_WORK_COUNTERFACTUAL
                          ? "An image (or the id of an abduction) is required."
                          : "An image is required.");
    else if (image)
        parse_image_text(p, image);
    else if (given && !p->problem->code)
        take_image(p, p->image, p->image_size, NULL);
}

static bool interventions_name_a_scale(const dscm_request *r)
{
    bool named = false;
    for (size_t k = 0; k < r->targets_count; k++)
        for (size_t i = 0; i < r->targets[k].count; i++)
            named |= !isnan(r->targets[k].items[i].scale);
    return named;
}

/* Options that only the engine can judge: steps the sampler allows, calibrated strength. */
static void resolve_options(request_parser *p)
{
    dscm_request *r = p->request;
    dscm_error err = {0};
    if (!r->bundle || p->problem->code) return;
    if (r->work == DSCM_WORK_COUNTERFACTUAL && !interventions_name_a_scale(r))
        r->auto_scale |= dscm_options_search(r->bundle, &r->options);
    if (r->work == DSCM_WORK_SAMPLE) dscm_options_draw(r->bundle, &r->options);
    if (dscm_options_resolve(r->bundle, &r->options, &err) == DSCM_OK) return;
    /* Its message begins with the name of the option. */
    char pointer[POINTER_MAX], name[16];
    snprintf(name, sizeof name, "%.*s", (int)strcspn(err.message, ":"), err.message);
    request_pointer(pointer, "/options", name);
    request_error(p, DSCM_PROBLEM_INVALID_PARAMETER, pointer, "%s", err.message);
}

static bool parse_body(request_parser *p, const json_t *body)
{
    dscm_request *r = p->request;
    if (!json_is_object(body)) {
        request_error(p, DSCM_PROBLEM_INVALID_PARAMETER, "", "The body must be a JSON object.");
        return false;
    }
    check_fields(p, body, "", FIELDS[r->work]);
    parse_model(p, json_object_get(body, "model"));
    request_parse_options(p, json_object_get(body, "options"));
    parse_deadline(p, json_object_get(body, "deadline_ms"));
    if (r->work == DSCM_WORK_SAMPLE) parse_count(p, json_object_get(body, "count"));
    if (r->work != DSCM_WORK_ABDUCTION)
        request_parse_interventions(p, json_object_get(body, "intervention"),
                                    json_object_get(body, "interventions"));
    if (r->work != DSCM_WORK_SAMPLE) request_parse_factuals(p, json_object_get(body, "factuals"));
    resolve_options(p);
    const json_t *kept =
        r->work == DSCM_WORK_COUNTERFACTUAL ? json_object_get(body, "abduction") : NULL;
    if (kept) parse_abduction(p, kept);
    if (r->work != DSCM_WORK_SAMPLE)
        parse_image(p, json_object_get(body, "image"), kept != NULL);
    else if (p->image_size)
        request_error(p, DSCM_PROBLEM_INVALID_PARAMETER, "",
                      "Samples are drawn without a picture; send no body, or JSON.");
    return p->problem->code == DSCM_PROBLEM_NONE;
}

static bool parser_open(request_parser *p, dscm_work work, const dscm_catalogue *catalogue,
                        dscm_problem *problem)
{
    *p = (request_parser){.catalogue = catalogue, .problem = problem, .resize = true};
    p->request = calloc(1, sizeof(*p->request));
    if (!p->request) {
        dscm_problem_set(problem, DSCM_PROBLEM_INTERNAL, "There is not enough memory.");
        return false;
    }
    p->request->work = work;
    return true;
}

/* Hands the request over when it is good, or drops it. */
static bool parser_close(request_parser *p, dscm_request **out, bool good)
{
    *out = good ? p->request : NULL;
    if (!good) dscm_request_free(p->request);
    return good;
}

bool dscm_request_parse_json(dscm_request **out, dscm_work work, const char *body, size_t size,
                             const dscm_catalogue *catalogue, dscm_problem *problem)
{
    request_parser p;
    *out = NULL;
    json_t *value = dscm_json_parse(body, size, problem);
    if (!value) return false;
    bool good = parser_open(&p, work, catalogue, problem);
    if (good) good = parser_close(&p, out, parse_body(&p, value));
    json_decref(value);
    return good;
}

/* A query value as JSON: a number where it is one, true or false, otherwise text. */
static json_t *query_value(const char *text)
{
    if (strcmp(text, "true") == 0) return json_true();
    if (strcmp(text, "false") == 0) return json_false();
    char *end;
    size_t size = strlen(text);
    if (size == 0 || size > 24 || strspn(text, "0123456789+-.eE") != size) return json_string(text);
    long long integer = strtoll(text, &end, 10);
    if (*end == '\0') return json_integer(integer);
    double real = strtod(text, &end);
    return *end == '\0' && isfinite(real) ? json_real(real) : json_string(text);
}

/* "counterfactual,difference" as a list; NULL where a part is no UTF-8. */
static json_t *query_list(const char *text)
{
    json_t *list = json_array();
    for (size_t n; list; text += n + 1) {
        n = strcspn(text, ",");
        if (json_array_append_new(list, json_stringn(text, n)) != 0) {
            json_decref(list);
            return NULL;
        }
        if (text[n] == '\0') break;
    }
    return list;
}

/* do.NAME, shift.NAME and hold.NAME are one place of the JSON form: its duplicate keys. */
static const char *query_variable(const char *name)
{
    static const char *const acts[] = {"do.", "shift.", "hold."};
    for (size_t i = 0; i < sizeof(acts) / sizeof(acts[0]); i++)
        if (strncmp(name, acts[i], strlen(acts[i])) == 0) return name + strlen(acts[i]);
    return NULL;
}

/* Puts one query parameter where the JSON form of the request has it. 0, or -1 where it has none. */
static int query_place_value(json_t *body, json_t *options, json_t *act, json_t *factuals,
                             const char *name, const char *value)
{
    static const char *const top[] = {"model", "abduction", "count", "deadline_ms", NULL};
    if (strncmp(name, "do.", 3) == 0) return json_object_set_new(act, name + 3, json_string(value));
    if (strncmp(name, "factual.", 8) == 0)
        return json_object_set_new(factuals, name + 8, json_string(value));
    if (strncmp(name, "shift.", 6) == 0)
        return json_object_set_new(act, name + 6, json_pack("{s:o}", "shift", query_value(value)));
    if (strncmp(name, "hold.", 5) == 0)
        return json_object_set_new(act, name + 5, json_pack("{s:o}", "hold", query_value(value)));
    if (strcmp(name, "return") == 0) return json_object_set_new(options, name, query_list(value));
    if (strcmp(name, "model") == 0 || strcmp(name, "abduction") == 0)
        return json_object_set_new(body, name, json_string(value));
    return json_object_set_new(is_field(top, name) ? body : options, name, query_value(value));
}

bool dscm_request_parse_image(dscm_request **out, dscm_work work, const void *body, size_t size,
                              const char *query, const dscm_catalogue *catalogue,
                              dscm_problem *problem)
{
    dscm_query_string pairs;
    request_parser p;
    *out = NULL;
    if (!dscm_query_parse(&pairs, query, problem)) return false;
    unsigned long mark = dscm_json_failures();
    json_t *value = json_object(), *options = json_object(), *act = json_object(),
           *factuals = json_object();
    for (size_t i = 0; i < pairs.count; i++) {
        const char *variable = query_variable(pairs.names[i]);
        if (variable && json_object_get(act, variable))
            dscm_problem_set(problem, DSCM_PROBLEM_MALFORMED_QUERY,
                             "The query parameter '%.64s' gives the variable a second time; one of "
                             "do, shift and hold is allowed.",
                             pairs.names[i]);
        if (query_place_value(value, options, act, factuals, pairs.names[i], pairs.values[i]) != 0)
            dscm_problem_set(problem, DSCM_PROBLEM_MALFORMED_QUERY,
                             "Parameter %zu of the query is no UTF-8 text.", i + 1);
    }
    json_object_set(value, "options", options);
    if (json_object_size(act)) json_object_set(value, "intervention", act);
    if (json_object_size(factuals)) json_object_set(value, "factuals", factuals);
    if (dscm_json_failures() != mark) { /* whatever the parts that are there look like */
        *problem = (dscm_problem){.code = DSCM_PROBLEM_NONE};
        dscm_problem_set(problem, DSCM_PROBLEM_INTERNAL, "There is not enough memory.");
    }
    bool good = !problem->code && parser_open(&p, work, catalogue, problem);
    if (good) {
        p.from_query = true;
        p.image = body;
        p.image_size = size;
        good = parser_close(&p, out, parse_body(&p, value));
    }
    json_decref(act);
    json_decref(factuals);
    json_decref(options);
    json_decref(value);
    return good;
}

void dscm_request_free(dscm_request *request)
{
    if (!request) return;
    free(request->pixels);
    free(request->factuals);
    file_free(request);
    free(request);
}

/* ---- factual values ---- */
double *dscm_request_factuals(const dscm_request *r)
{
    size_t count = r->info->variables_count;
    double *values = malloc((count ? count : 1) * sizeof(*values));
    for (size_t v = 0; values && v < count; v++) values[v] = NAN;
    return values;
}

int dscm_request_factual_other(const dscm_request *r, const dscm_abduction *a)
{
    for (size_t v = 0; r->factuals && v < r->info->variables_count; v++)
        if (!isnan(r->factuals[v]) && !(fabs(r->factuals[v] - a->factual[v]) <=
                                        1e-8 * fmax(1, fabs(a->factual[v])))) /* nine digits */
            return (int)v;
    return -1;
}

/* "variable=value;" of each known one. Returns the length; at most `capacity` bytes are written. */
static size_t factuals_text(const dscm_request *r, char *out, size_t capacity)
{
    size_t n = 0;
    for (size_t v = 0; r->factuals && v < r->info->variables_count; v++) {
        if (isnan(r->factuals[v])) continue;
        int length = snprintf(n < capacity ? out + n : NULL, n < capacity ? capacity - n : 0,
                              "%zu=%.17g;", v, r->factuals[v]);
        n += (size_t)length;
    }
    return n;
}

static size_t image_bytes(const dscm_request *r)
{
    const dscm_variable *image = &r->info->variables[r->info->image];
    return image->h * image->w * image->c;
}

bool dscm_request_take_factuals(dscm_request *r, const uint8_t *key, size_t size)
{
    size_t bars = 0, i = 0, length = size < image_bytes(r) ? 0 : size - image_bytes(r);
    double *values = dscm_request_factuals(r);
    char *text = values ? malloc(length + 1) : NULL;
    bool good = text != NULL;
    if (text) memcpy(text, key, length);
    if (text) text[length] = '\0';
    while (good && i < length && bars < 5) bars += text[i++] == '|';
    for (char *at = good ? text + i : NULL, *end; good && *at; at = end + 1) {
        unsigned long variable = strtoul(at, &end, 10);
        good = *end == '=' && variable < r->info->variables_count;
        if (good) values[variable] = strtod(end + 1, &end);
        good = good && *end == ';';
    }
    for (size_t v = 0; good && r->factuals && v < r->info->variables_count; v++)
        good = isnan(r->factuals[v]) || r->factuals[v] == values[v];
    free(text);
    if (good) {
        free(r->factuals);
        r->factuals = values;
    } else {
        free(values);
    }
    return good;
}

size_t dscm_request_abduction_key(const dscm_request *request, uint8_t *out, size_t capacity)
{
    const dscm_options *o = &request->options;
    size_t count = request->pixels ? image_bytes(request) : 0;
    char text[320 + 32 * 32];
    size_t n = (size_t)snprintf(text, sizeof(text), "%s|%s|%zu|%.17g|%d|", request->info->sha256,
                                o->sampler ? o->sampler : "", o->steps, o->ratio, o->dynamic);
    if (n < sizeof(text)) n += factuals_text(request, text + n, sizeof(text) - n);
    if (n >= sizeof(text)) n = sizeof(text) - 1;
    if (capacity) memcpy(out, text, n < capacity ? n : capacity);
    if (capacity > n && count)
        memcpy(out + n, request->pixels, count < capacity - n ? count : capacity - n);
    return n + count;
}

bool dscm_request_fits(const dscm_request *request, const dscm_options *abducted)
{
    const dscm_options *o = &request->options;
    return o->sampler && abducted->sampler && strcmp(o->sampler, abducted->sampler) == 0 &&
           o->steps == abducted->steps && o->ratio == abducted->ratio &&
           o->dynamic == abducted->dynamic;
}

size_t dscm_case_cost(const dscm_case *c, bool abducted)
{
    double ratio = c->options.ratio > 0 ? c->options.ratio : 1;
    double steps = ceil((double)c->options.steps * ratio), cost = 0;
    double walk = steps * DSCM_GUIDED_PASSES * (c->auto_scale ? DSCM_SEARCH_WALKS : 1);
    double targets = (double)c->targets_count;
    if (c->work == DSCM_WORK_SAMPLE)
        return (size_t)fmax(1, (double)c->count * (c->targets_count ? walk : steps));
    if (!abducted) cost += 2 * steps; /* there and back */
    cost += targets * walk;
    if (c->wanted & DSCM_WANT_REVERSIBILITY) cost += targets * steps * (1 + DSCM_GUIDED_PASSES);
    if (c->wanted & DSCM_WANT_UNCERTAINTY)
        cost += targets * steps * DSCM_GUIDED_PASSES * DSCM_STRENGTHS_VARIED;
    return (size_t)fmax(1, cost);
}

size_t dscm_request_cost(const dscm_request *request)
{
    const dscm_case ask = dscm_request_case(request);
    return dscm_case_cost(&ask, request->abduction[0] != '\0');
}

bool dscm_request_compatible(const dscm_request *a, const dscm_request *b)
{
    bool alike = !((a->wanted ^ b->wanted) & (DSCM_WANT_REVERSIBILITY | DSCM_WANT_UNCERTAINTY));
    return a->work == b->work && a->info == b->info && dscm_request_fits(a, &b->options) &&
           a->options.guidance == b->options.guidance && a->auto_scale == b->auto_scale && alike &&
           a->abduction[0] == '\0' && b->abduction[0] == '\0';
}

dscm_case dscm_request_case(const dscm_request *request)
{
    return (dscm_case){.work = request->work,
                       .pixels = request->pixels,
                       .inverted = request->inverted,
                       .targets = request->targets,
                       .targets_count = request->targets_count,
                       .factuals = request->factuals,
                       .options = request->options,
                       .auto_scale = request->auto_scale,
                       .seed = request->seed,
                       .count = request->count,
                       .wanted = request->wanted | DSCM_WANT_SCORES};
}
