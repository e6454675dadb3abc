/* Job states and events as JSON and as text/event-stream. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/image.h"
#include "api/json.h"
#include "api/reply_internal.h"
#include "core/io/text_stream.h"

static const char *const state_names[DSCM_JOB_STATE_COUNT] = {"queued", "running",  "succeeded",
                                                              "failed", "canceled", "expired"};
static const char *const work_names[] = {"counterfactual", "abduction", "sample"};

const char *dscm_job_state_name(dscm_job_state state)
{
    return state_names[state];
}

/* JSON text made elsewhere, as a value; null when it is none. */
static json_t *embedded(const char *text)
{
    if (!text) dscm_json_lack();
    json_t *value = text ? dscm_json_read(text, strlen(text), 0, NULL) : NULL;
    return value ? value : json_null();
}

char *dscm_reply_job(const dscm_job_status *status, size_t *size)
{
    unsigned long mark = dscm_json_failures();
    json_t *out = json_pack("{s:s, s:s, s:s}", "id", status->id, "work", work_names[status->work],
                            "status", state_names[status->state]);
    if (!out) return NULL;
    if (status->reason) json_object_set_new(out, "reason", json_string(status->reason));
    if (status->queue_position >= 0)
        json_object_set_new(out, "queue_position", json_integer(status->queue_position));
    if (isfinite(status->estimate_ms)) dscm_json_set_real(out, "estimate_ms", status->estimate_ms);
    if (status->state == DSCM_JOB_RUNNING) {
        json_object_set_new(out, "step", json_integer((json_int_t)status->step));
        json_object_set_new(out, "steps", json_integer((json_int_t)status->steps));
        dscm_json_set_real(out, "fraction", status->fraction);
    }
    if (status->result) json_object_set_new(out, "result", embedded(status->result));
    if (status->problem) {
        char *problem = dscm_problem_json(status->problem, NULL, NULL, NULL);
        json_object_set_new(out, "problem", embedded(problem));
        free(problem);
    }
    return reply_text(out, mark, size);
}

char *dscm_event_text(uint64_t id, const char *name, const char *data, size_t *size)
{
    dscm_text_stream text;
    if (dscm_text_stream_open(&text, "event", NULL) != DSCM_OK) return NULL;
    FILE *out = text.file;
    fprintf(out, "id: %llu\nevent: %s\n", (unsigned long long)id, name);
    for (const char *line = data ? data : "{}"; line;) {
        size_t length = strcspn(line, "\n");
        fprintf(out, "data: %.*s\n", (int)length, line);
        line = line[length] && line[length + 1] ? line + length + 1 : NULL;
    }
    fputc('\n', out);
    if (dscm_text_stream_close(&text, "event", NULL) != DSCM_OK) return NULL;
    *size = text.size;
    return text.data;
}

/* Events are one line: without the newline that ends other texts. */
static char *one_line(json_t *value, unsigned long since)
{
    size_t size;
    char *text = reply_text(value, since, &size);
    if (text) text[size - 1] = 0;
    return text;
}

char *dscm_event_progress(const dscm_run_event *event)
{
    unsigned long mark = dscm_json_failures();
    json_t *out = json_pack("{s:s, s:I, s:I}", "phase", event->phase, "step",
                            (json_int_t)event->step, "steps", (json_int_t)event->steps);
    if (!out) return NULL;
    dscm_json_set_real(out, "fraction", event->fraction);
    dscm_json_set_real(out, "eta_ms", event->eta_ms);
    return one_line(out, mark);
}

char *dscm_event_preview(const dscm_run_event *event, const dscm_bundle_info *info, size_t item)
{
    if (!event->preview || !event->offsets) return NULL;
    const dscm_variable *image = &info->variables[info->image];
    size_t pixels = image->h * image->w * image->c;
    unsigned long mark = dscm_json_failures();
    json_t *list = json_array();
    for (size_t i = event->offsets[item]; i < event->offsets[item + 1]; i++) {
        uint8_t *png = NULL;
        size_t size;
        dscm_error err = {0};
        if (dscm_image_encode_float(&png, &size, event->preview + i * pixels, image->h, image->w,
                                    image->c, &err) == DSCM_OK)
            json_array_append_new(list, reply_image(png, size));
        else
            dscm_json_lack();
        free(png);
    }
    return one_line(json_pack("{s:I, s:I, s:o}", "step", (json_int_t)event->step, "steps",
                              (json_int_t)event->steps, "images", list),
                    mark);
}
