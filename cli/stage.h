/* A folder of files that appear, or change, in it together: they are made in a folder within it and moved out
 * when all are whole. What is there already stays good when making them fails, and nothing half-made
 * is left. Threads: no shared state.
 */
#ifndef DSCM_CLI_STAGE_H
#define DSCM_CLI_STAGE_H

#include "cli/cli.h"

typedef struct cli_stage {
    const char *folder; /* as --out named it; borrowed */
    char path[4096];    /* where files are made; empty until it is there */
    bool fresh;         /* the folder was made for this */
} cli_stage;

/* Makes the folder where it is not there yet, and the stage in it. To be closed in any case. */
dscm_code cli_stage_open(cli_stage *stage, const char *folder, dscm_error *err) DSCM_MUST_CHECK;
/* Puts a file of the folder into the stage as well, as a link where the file system has them; whoever replaces it
 * there leaves that of the folder as it is. */
dscm_code cli_stage_take(const cli_stage *stage, const char *name, dscm_error *err) DSCM_MUST_CHECK;
/* Moves a file out; the one that makes the others count comes last. */
dscm_code cli_stage_move(const cli_stage *stage, const char *name, dscm_error *err) DSCM_MUST_CHECK;
/* Removes the stage with all that is still in it, and the folder if it was made for this and is
 * empty. In a message of `err` about a file of the stage, which nobody will find, the folder takes
 * its place. */
void cli_stage_close(cli_stage *stage, dscm_error *err);
/* Removes a folder with the files and folders in it, as far as that goes. */
void cli_remove_folder(const char *path);

#endif
