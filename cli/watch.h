/* Progress and cancellation of a run: a bar per phase with the time left, an optional preview file,
 * and SIGINT or SIGTERM, which end the run between two layers of a network.
 *
 * One run at a time watches signals; the callbacks may be used by several threads only with
 * cli_watch_stop_only. */
#ifndef DSCM_CLI_WATCH_H
#define DSCM_CLI_WATCH_H

#include "cli/model.h"

typedef struct cli_watch {
    const cli_model *m;
    const char *preview;    /* picture rewritten after every step, or NULL */
    dscm_progress progress; /* what the engine is given */
    cli_progress bar;
    double began, last; /* of the run; of the last event */
    dscm_phase phase;   /* of the last event, as `step`: one that is not larger begins a walk */
    size_t step;
    bool open, shown; /* a walk has begun; its bar is on the screen */
    bool preview_failed;
} cli_watch;

/* The watch must stay where it is until the end. preview may be NULL. From now on the first signal
 * asks the run to stop, a second one kills. */
void cli_watch_start(cli_watch *w, const cli_model *m, const char *preview);
void cli_watch_end(cli_watch *w);
/* Only the stop, for runs that show their own progress. */
dscm_progress cli_watch_stop_only(void);

#endif
