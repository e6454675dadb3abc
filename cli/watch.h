/* Progress and cancellation of a run: one bar with the time left, an optional preview file, and SIGINT
 * or SIGTERM, which end the run between two layers of a network.
 *
 * One run at a time watches signals; only cli_watch_keep_going may be called by several threads.
 */
#ifndef DSCM_CLI_WATCH_H
#define DSCM_CLI_WATCH_H

#include "cli/model.h"
#include "core/scm/pipeline.h"

typedef struct cli_watch {
    const cli_model *m;
    const char *preview;        /* picture rewritten after every step, or NULL */
    dscm_run_progress progress; /* what the pipeline is given */
    cli_progress bar;
    size_t first, count,
        total; /* images before this call of the pipeline, of it, of all; 0: one call */
    bool preview_failed;
} cli_watch;

/* The watch must stay where it is until the end. preview may be NULL. From now on the first signal
 * asks the run to stop, a second one kills. */
void cli_watch_start(cli_watch *w, const cli_model *m, const char *label, const char *preview);
void cli_watch_end(cli_watch *w);
/* For runs that show their own progress: signals are heard from now on, and whether none came. */
void cli_watch_listen(void);
bool cli_watch_keep_going(void *unused);

#endif
