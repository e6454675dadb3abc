#include "cli/watch.h"

#include <signal.h>
#include <stdio.h>

#define QUICK_SECONDS 1.0 /* runs that end sooner show nothing */

static volatile sig_atomic_t interrupted; /* set by the handler; there is no other way out of it */

static void ask_stop(int number)
{
    (void)number;
    interrupted = 1;
}

static void listen(void)
{
    struct sigaction action = {.sa_handler = ask_stop, .sa_flags = SA_RESETHAND};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

static bool keep_going(void *arg)
{
    (void)arg;
    return !interrupted;
}

/* A walk's first event comes when its first step is done: it began when the one before it ended. */
static void show(cli_watch *w, const dscm_progress_event *event)
{
    static const char *const labels[] = {"inferring noise", "predicting", "scoring"};
    double now = cli_seconds();
    bool fresh = !w->open || event->phase != w->phase || event->step <= w->step;
    if (fresh) {
        if (w->open && w->shown) cli_progress_end(&w->bar);
        cli_progress_start(&w->bar, labels[event->phase], "steps", (double)event->steps);
        w->bar.started = w->last;
    }
    w->open = true;
    w->phase = event->phase;
    w->step = event->step;
    w->last = now;
    if (now - w->began < QUICK_SECONDS) return;
    w->shown = true;
    cli_progress_show(&w->bar, (double)event->step, NULL);
}

static void write_preview(cli_watch *w, const float *image)
{
    dscm_error err = {0};
    if (w->preview_failed || cli_write_image(w->m, w->preview, image, &err) == DSCM_OK) return;
    w->preview_failed = true; /* said once: the run itself is not in danger */
    fprintf(stderr, "note: no preview: %s\n", err.message);
}

static bool on_step(void *arg, const dscm_progress_event *event)
{
    cli_watch *w = arg;
    if (w->preview && event->preview) write_preview(w, event->preview);
    show(w, event);
    return !interrupted;
}

void cli_watch_start(cli_watch *w, const cli_model *m, const char *preview)
{
    double now = cli_seconds();
    *w = (cli_watch){.m = m, .preview = preview, .began = now, .last = now};
    w->progress = (dscm_progress){.on_step = on_step, .arg = w, .keep_going = keep_going};
    listen();
}

void cli_watch_end(cli_watch *w)
{
    if (w->shown) cli_progress_end(&w->bar);
    w->shown = false;
}

dscm_progress cli_watch_stop_only(void)
{
    listen();
    return (dscm_progress){.keep_going = keep_going};
}
