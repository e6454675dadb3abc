#include "cli/watch.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>

static volatile sig_atomic_t interrupted; /* set by the handler; there is no other way out of it */

static void ask_stop(int number)
{
    (void)number;
    interrupted = 1;
}

void cli_watch_listen(void)
{
    struct sigaction action = {.sa_handler = ask_stop, .sa_flags = SA_RESETHAND};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

bool cli_watch_keep_going(void *unused)
{
    (void)unused;
    return !interrupted;
}

/* Within a step, so that something is there before the first one ends. */
static bool keep_going(void *arg)
{
    cli_watch *w = arg;
    cli_progress_show(&w->bar, 0, NULL);
    return !interrupted;
}

static void write_preview(cli_watch *w, const float *image)
{
    dscm_error err = {0};
    if (w->preview_failed || cli_write_image(w->m, w->preview, image, &err) == DSCM_OK) return;
    w->preview_failed = true; /* said once: the run itself is not in danger */
    fprintf(stderr, "note: no preview: %s\n", err.message);
}

static bool on_step(void *arg, const dscm_run_event *event)
{
    cli_watch *w = arg;
    if (w->preview && event->preview) write_preview(w, event->preview);
    double done = event->fraction;
    if (w->total) done = ((double)w->first + done * (double)w->count) / (double)w->total;
    if (!w->total) w->bar.left = event->eta_ms * 1e-3;
    cli_progress_show(&w->bar, floor(100 * done), event->phase);
    return !interrupted;
}

void cli_watch_start(cli_watch *w, const cli_model *m, const char *label, const char *preview)
{
    *w = (cli_watch){.m = m, .preview = preview};
    w->progress = (dscm_run_progress){.on_step = on_step, .arg = w, .keep_going = keep_going};
    cli_progress_start(&w->bar, label, "%", 100);
    w->bar.quick = true;
    cli_watch_listen();
}

void cli_watch_end(cli_watch *w)
{
    cli_progress_end(&w->bar);
}
