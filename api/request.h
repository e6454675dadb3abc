/* Requests: from bytes to core types. Pure functions; no model is run here.
 *
 * One struct for the three kinds of work: counterfactuals, abductions, samples. Parsing checks
 * everything that can be known before work starts (names, ranges, the image) and collects several
 * errors; what it accepts will run, unless its picture turns out damaged. Unknown fields, duplicates and wrong types are errors. Memory
 * is bounded by the limits below. Threads: a parsed request is immutable and may be read by any
 * thread.
 */
#ifndef DSCM_API_REQUEST_H
#define DSCM_API_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "api/problem.h"
#include "core/scm/pipeline.h"

#define DSCM_REQUEST_FAN_MAX  32 /* counterfactuals of one request */
#define DSCM_REQUEST_VARS_MAX DSCM_TARGET_VARIABLES_MAX
#define DSCM_REQUEST_NAME_MAX 64
#define DSCM_SAMPLES_MAX      16
#define DSCM_DEADLINE_MAX_MS  3600000

typedef struct dscm_request {
    dscm_work work;
    size_t model; /* index in the catalogue */
    const dscm_bundle_info *info;
    const dscm_bundle *bundle; /* NULL when the catalogue holds none (tests of the parser) */
    bool inverted;             /* by decoding: the picture was dark ink on light paper */
    uint8_t *pixels; /* (H,W,C) of the model; owned; NULL with an abduction, samples, and before
                      * dscm_request_decode */
    /* The picture's file until it is decoded (catalogue.decode_later). */
    const void *file;
    size_t file_size, file_pixels; /* pixels: by its head; kept when it is decoded */
    void *file_memory; /* freed with the file; NULL: it lies in the body that was parsed */
    bool file_resize;
    const char *file_pointer; /* where errors of the picture point; static */
    size_t file_side_max;
    char abduction[DSCM_REQUEST_NAME_MAX]; /* id of a kept abduction, or "" */
    dscm_target targets[DSCM_REQUEST_FAN_MAX];
    size_t targets_count; /* counterfactual: >= 1; sample: 0 (unguided) or 1 */
    double *factuals; /* (variables) known values, NaN where none is; NULL: none is known; owned */
    dscm_options options; /* resolved when bundle is not NULL */
    bool auto_scale;
    uint64_t seed;
    size_t count;     /* samples to draw */
    unsigned wanted;  /* DSCM_WANT_… */
    long deadline_ms; /* 0: the server's default */
    double decode_ms; /* spent on the image */
} dscm_request;

/* The models a request may name; the first is the default. Borrowed. */
typedef struct dscm_model_entry {
    const dscm_bundle_info *info;
    const dscm_bundle *bundle; /* or NULL */
} dscm_model_entry;
typedef struct dscm_catalogue {
    const dscm_model_entry *models;
    size_t count;          /* >= 1 */
    size_t image_side_max; /* largest width or height of an uploaded image; 0: 8192 */
    bool decode_later;     /* look at pictures' heads only; dscm_request_decode does the rest */
} dscm_catalogue;

/* Parses a JSON body. Caller owns *out (dscm_request_free); on false it is NULL and `problem` is
 * set. */
bool dscm_request_parse_json(dscm_request **out, dscm_work work, const char *body, size_t size,
                             const dscm_catalogue *catalogue,
                             dscm_problem *problem) DSCM_MUST_CHECK;
/* Parses a raw image body (PNG or JPEG; size 0: none, for samples and kept abductions) with its
 * query: model, do.NAME, factual.NAME, sampler, steps, scale, ratio, dynamic, seed, return (comma separated),
 * resize, deadline_ms, abduction, count. `query` is what follows '?', or NULL. */
bool dscm_request_parse_image(dscm_request **out, dscm_work work, const void *body, size_t size,
                              const char *query, const dscm_catalogue *catalogue,
                              dscm_problem *problem) DSCM_MUST_CHECK;
/* Decodes the picture of a request that was parsed with decode_later and lets go of its file; true at
 * once where there is none. May take as long as a picture of the largest size takes. */
bool dscm_request_decode(dscm_request *request, dscm_problem *problem) DSCM_MUST_CHECK;
void dscm_request_free(dscm_request *request); /* takes NULL */
/* What the pipeline is asked; borrows from the request. Replies tell of scores, so they are wanted. */
dscm_case dscm_request_case(const dscm_request *request);

/* Text that two requests share exactly when the abduction of one serves the other, followed by the
 * pixels: hash it to look an abduction up. Returns bytes of which at most `capacity` were written;
 * call with capacity 0 to learn the size. */
size_t dscm_request_abduction_key(const dscm_request *request, uint8_t *out, size_t capacity);
/* Takes the factual values of a stored key, which a request that names its abduction need not repeat.
 * False: the key holds others than the request gives, or cannot be read. */
bool dscm_request_take_factuals(dscm_request *request, const uint8_t *key,
                                size_t size) DSCM_MUST_CHECK;
/* Room for values of all variables, none of which is known; NULL: no memory. Released with free. */
double *dscm_request_factuals(const dscm_request *request);
/* A variable of which the request gives another factual value than the kept abduction has, or -1. */
int dscm_request_factual_other(const dscm_request *request, const dscm_abduction *abduction);
/* The kept abduction's options fit: sampler, steps, ratio, dynamic and model are the same. */
bool dscm_request_fits(const dscm_request *request, const dscm_options *abducted);
/* What running it takes, in network passes of one image: images x steps x passes, a guided step as
 * DSCM_GUIDED_PASSES and a search for the strength as DSCM_SEARCH_WALKS walks; at least 1. */
#define DSCM_GUIDED_PASSES 3.5
#define DSCM_SEARCH_WALKS  1.5
size_t dscm_request_cost(const dscm_request *request);
/* The same of a case; abducted: its abduction is there already. */
size_t dscm_case_cost(const dscm_case *ask, bool abducted);
/* Both may run in one batch: same work, model, sampler, steps, ratio, dynamic, guidance and search, and both
 * or none go the way back. */
bool dscm_request_compatible(const dscm_request *a, const dscm_request *b);

#endif
