#include "cli/counterfactual_store.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "api/case_text.h"
#include "api/request.h"
#include "core/base/memory.h"
#include "core/image/png.h"
#include "server/batch.h"
#include "server/outcome.h"
#include "server/settings.h"
#include "server/stored_request.h"

/* OUT.part: this, the digest of the work, then records: index and size of the reply (8 bytes each), the
 * pixels, the reply, a checksum. Numbers as this machine has them: the file does not travel. */
static const char magic[16] = "diffscm batch 1\n";
#define REPLY_MAX ((uint64_t)1 << 28)

struct counterfactual_store {
    const counterfactual_items *items;
    dscm_settings settings;
    size_t size; /* bytes of an image */
    char path[4200];
    FILE *part;
    bool *done; /* (count) */
    size_t finished;
    bool waiting; /* the store or its workers are away: the progress stands still */
    cli_progress progress;
};

/* ---- items as requests ---- */

static dscm_code pack(const counterfactual_store *s, size_t index, dscm_blob **out, dscm_error *err)
{
    const dscm_bundle_info *info = s->items->a->m.info;
    const dscm_case ask = s->items->ask(s->items->arg, index);
    size_t length = 0;
    char *text = dscm_case_text(&ask, info, &length);
    *out = text ? dscm_stored_case_pack(text, length, info->sha256, ask.pixels, s->size) : NULL;
    free(text);
    return *out ? DSCM_OK : dscm_fail(err, DSCM_E_MEMORY, "no memory for a request");
}

/* Of all requests in order, and of whether replies are wanted. */
static dscm_code digest_of(const counterfactual_store *s, uint8_t out[DSCM_DIGEST_SIZE],
                           dscm_error *err)
{
    size_t count = s->items->count;
    char *ids = dscm_alloc(count + 1, DSCM_ID_SIZE, "the list of jobs", err);
    dscm_code code = ids ? DSCM_OK : DSCM_E_MEMORY;
    for (size_t i = 0; i < count && code == DSCM_OK; i++) {
        dscm_blob *request;
        code = pack(s, i, &request, err);
        if (code != DSCM_OK) break;
        dscm_batch_id(request, ids + i * DSCM_ID_SIZE);
        dscm_blob_unref(request);
    }
    if (code == DSCM_OK) {
        ids[count * DSCM_ID_SIZE] = s->items->replies != NULL;
        dscm_crypto_digest(ids, (count + 1) * DSCM_ID_SIZE, out);
    }
    dscm_free(ids);
    return code;
}

/* ---- OUT.part ---- */

/* FNV-1a, 64 bits: finds a record whose end the disk never got. */
static uint64_t checksum(uint64_t sum, const void *bytes, size_t size)
{
    const uint8_t *b = bytes;
    for (size_t i = 0; i < size; i++) sum = (sum ^ b[i]) * 1099511628211u;
    return sum;
}
#define CHECKSUM_START 14695981039346656037u

static uint64_t record_sum(const uint64_t head[2], const uint8_t *pixels, size_t size,
                           const char *reply)
{
    uint64_t sum = checksum(CHECKSUM_START, head, 2 * sizeof *head);
    return checksum(checksum(sum, pixels, size), reply, head[1]);
}

static bool read_all(FILE *file, void *out, size_t size)
{
    return fread(out, 1, size, file) == size;
}

/* One record into the results; false: the file ends here, or what follows is no whole record. */
static bool read_record(counterfactual_store *s)
{
    uint64_t head[2], sum;
    const counterfactual_items *items = s->items;
    if (!read_all(s->part, head, sizeof head) || head[0] >= items->count || head[1] > REPLY_MAX)
        return false;
    size_t index = (size_t)head[0];
    uint8_t *pixels = malloc(s->size);
    char *reply = malloc((size_t)head[1] + 1);
    bool good = pixels && reply && read_all(s->part, pixels, s->size) &&
                read_all(s->part, reply, (size_t)head[1]) && read_all(s->part, &sum, sizeof sum) &&
                sum == record_sum(head, pixels, s->size, reply);
    if (good && !s->done[index]) {
        memcpy(items->result + index * s->size, pixels, s->size);
        s->done[index] = true;
        s->finished++;
        reply[head[1]] = 0;
        if (items->replies) items->replies[index] = reply, reply = NULL;
    }
    free(pixels);
    free(reply);
    return good;
}

static dscm_code cannot(const counterfactual_store *s, const char *what, dscm_error *err)
{
    return dscm_fail(err, DSCM_E_IO, "%s: cannot %s: %s", s->path, what, strerror(errno));
}

static dscm_code begin_part(counterfactual_store *s, const uint8_t digest[DSCM_DIGEST_SIZE],
                            dscm_error *err)
{
    rewind(s->part);
    if (ftruncate(fileno(s->part), 0) != 0 ||
        fwrite(magic, 1, sizeof magic, s->part) != sizeof magic ||
        fwrite(digest, 1, DSCM_DIGEST_SIZE, s->part) != DSCM_DIGEST_SIZE || fflush(s->part) != 0)
        return cannot(s, "write it", err);
    return DSCM_OK;
}

/* Takes over the whole records, and cuts off what comes after them. */
static dscm_code take_over(counterfactual_store *s, dscm_error *err)
{
    long end;
    do end = ftell(s->part);
    while (read_record(s));
    clearerr(s->part);
    if (end < 0 || fseek(s->part, end, SEEK_SET) != 0 || ftruncate(fileno(s->part), end) != 0)
        return cannot(s, "write it", err);
    if (s->finished)
        fprintf(stderr, "%zu of %zu images are in %s already\n", s->finished, s->items->count,
                s->path);
    return DSCM_OK;
}

static dscm_code open_part(counterfactual_store *s, dscm_error *err)
{
    char found[sizeof magic];
    uint8_t digest[DSCM_DIGEST_SIZE], other[DSCM_DIGEST_SIZE];
    dscm_code code = digest_of(s, digest, err);
    if (code != DSCM_OK) return code;
    s->part = fopen(s->path, "r+be");
    bool old = s->part != NULL;
    if (!old) s->part = fopen(s->path, "w+bex");
    if (!s->part) return cannot(s, "open it", err);
    if (flock(fileno(s->part), LOCK_EX | LOCK_NB) != 0)
        return dscm_fail(err, DSCM_E_SYSTEM, "%s: another process works on it", s->path);
    bool ours =
        old && read_all(s->part, found, sizeof found) && memcmp(found, magic, sizeof magic) == 0;
    bool same =
        ours && read_all(s->part, other, sizeof other) && memcmp(other, digest, sizeof digest) == 0;
    if (same) return take_over(s, err);
    if (old && !ours && (fseek(s->part, 0, SEEK_END) != 0 || ftell(s->part) > 0))
        return dscm_fail(err, DSCM_E_FORMAT,
                         "%s: is not an interrupted batch; move it away or name another --out",
                         s->path);
    if (ours) fprintf(stderr, "%s: of other images or options: begun anew\n", s->path);
    return begin_part(s, digest, err);
}

/* ---- calls of the batch ---- */

static bool is_done(void *arg, size_t index)
{
    const counterfactual_store *s = arg;
    return s->done[index];
}

static dscm_code ask(void *arg, size_t index, dscm_blob **out, dscm_error *err)
{
    return pack(arg, index, out, err);
}

static size_t cost_of(void *arg, size_t index)
{
    const counterfactual_store *s = arg;
    const dscm_case ask = s->items->ask(s->items->arg, index);
    return dscm_case_cost(&ask, false);
}

static dscm_code read_picture(const counterfactual_store *s, size_t index, const dscm_blob *outcome,
                              uint8_t *out, dscm_error *err)
{
    const cli_model *m = &s->items->a->m;
    const dscm_variable *v = &m->info->variables[m->info->image];
    const dscm_picture_limits limits = {8192, (size_t)1 << 26};
    dscm_span png = dscm_outcome_picture(outcome, "counterfactual-0");
    dscm_picture picture = {0};
    dscm_code code = dscm_png_decode(&picture, png.data, png.size, v->c, 0, &limits, err);
    if (code == DSCM_OK && (picture.h != v->h || picture.w != v->w))
        code = dscm_fail(err, DSCM_E_MISMATCH, "it is %zux%zu", picture.h, picture.w);
    if (code == DSCM_OK) memcpy(out, picture.pixels, s->size);
    if (code != DSCM_OK) dscm_error_prefix(err, "image %zu: the worker's picture", index);
    dscm_picture_free(&picture);
    return code;
}

static dscm_code take(void *arg, size_t index, const dscm_blob *outcome, dscm_error *err)
{
    counterfactual_store *s = arg;
    const counterfactual_items *items = s->items;
    uint8_t *pixels = items->result + index * s->size;
    dscm_code code = read_picture(s, index, outcome, pixels, err);
    if (code != DSCM_OK) return code;
    dscm_span json = items->replies ? dscm_outcome_json(outcome) : (dscm_span){"", 0};
    uint64_t head[2] = {index, json.size}, sum = record_sum(head, pixels, s->size, json.data);
    if (fwrite(head, sizeof head, 1, s->part) != 1 || fwrite(pixels, s->size, 1, s->part) != 1 ||
        fwrite(json.data, 1, json.size, s->part) != json.size ||
        fwrite(&sum, sizeof sum, 1, s->part) != 1)
        return cannot(s, "write it", err);
    if (items->replies && !(items->replies[index] = strdup(json.data)))
        return dscm_fail(err, DSCM_E_MEMORY, "no memory for the scores");
    s->done[index] = true;
    s->finished++;
    return DSCM_OK;
}

static dscm_code keep(void *arg, dscm_error *err)
{
    counterfactual_store *s = arg;
    if (fflush(s->part) != 0 || fdatasync(fileno(s->part)) != 0) return cannot(s, "write it", err);
    return DSCM_OK;
}

static bool keep_going(void *arg)
{
    counterfactual_store *s = arg;
    if (!s->waiting) cli_progress_show(&s->progress, (double)s->finished, NULL);
    return cli_watch_keep_going(NULL);
}

static void tell(void *arg, const char *why)
{
    counterfactual_store *s = arg;
    s->waiting = why != NULL;
    if (why) fprintf(stderr, "waiting: %s\n", why);
}

/* ---- the whole ---- */

/* Limits are those of the service: from the environment and the file of options, as there. */
static dscm_code load_settings(counterfactual_store *s, dscm_error *err)
{
    const counterfactual_args *a = s->items->a;
    const char *args[] = {"--store", a->store, "--store-password-file", a->password_file};
    if (strncmp(a->store, "redis", 5) != 0)
        return dscm_fail(err, DSCM_E_INVALID,
                         "--store %s: jobs are handed over through redis://HOST or "
                         "redis+unix:///PATH",
                         a->store);
    return dscm_settings_load(&s->settings, a->password_file ? 4 : 2, (char *const *)args, environ,
                              err);
}

dscm_code counterfactual_store_open(counterfactual_store **out, const counterfactual_items *items,
                                    dscm_error *err)
{
    counterfactual_store *s = dscm_alloc(1, sizeof *s, "the batch", err);
    if (!s) return DSCM_E_MEMORY;
    s->items = items;
    s->size = cli_image_size(&items->a->m);
    snprintf(s->path, sizeof s->path, "%s.part", items->a->out);
    s->done = dscm_alloc(items->count, sizeof *s->done, "the batch", err);
    dscm_code code = s->done ? load_settings(s, err) : DSCM_E_MEMORY;
    if (code == DSCM_OK) code = open_part(s, err);
    if (code == DSCM_OK)
        *out = s;
    else
        counterfactual_store_close(s, false);
    return code;
}

dscm_code counterfactual_store_run(counterfactual_store *s, dscm_error *err)
{
    const dscm_settings *o = &s->settings;
    const dscm_batch_options options = {.store = o->store,
                                        .password_file = o->store_password_file,
                                        .model = s->items->a->m.info->sha256,
                                        .capacity = o->queue_capacity,
                                        .share = o->queue_capacity * o->client_share / 100,
                                        .age_s = o->jobs_age_s,
                                        .patience_s = (long)s->items->a->patience};
    const dscm_batch_calls calls = {s, is_done, ask, cost_of, take, keep, keep_going, tell};
    size_t before = s->finished;
    double started = cli_seconds();
    cli_progress_start(&s->progress, "counterfactual", "images", (double)s->items->count);
    cli_watch_listen();
    dscm_code code = dscm_batch_run(&options, &calls, s->items->count, err);
    cli_progress_end(&s->progress);
    if (code == DSCM_OK)
        fprintf(stderr, "%zu images in %.3f s\n", s->finished - before, cli_seconds() - started);
    return code;
}

void counterfactual_store_close(counterfactual_store *s, bool written)
{
    if (!s) return;
    if (s->part && written) (void)unlink(s->path); /* left over, it says the same again */
    if (s->part) fclose(s->part);
    dscm_free(s->done);
    dscm_free(s);
}
