/* Shell completion, as a form of the help: cli/help.c calls these in place of printing. One at a
 * time in a process. */
#ifndef DSCM_CLI_COMPLETION_H
#define DSCM_CLI_COMPLETION_H

#include <stdbool.h>

/* Prints what comes before the commands; false: no shell that is known. */
bool completion_start(const char *shell);
void completion_command(const char *name, bool begin); /* around the options of a command */
void completion_begin(const char *command);
/* argument NULL: a flag. */
void completion_option(const char *name, const char *argument, const char *text);
void completion_end(void);

#endif
