/* JSON that commands write: all of it, or an error.
 *
 * A command is one thread's work from its start to its end, so that any allocation of the JSON library that
 * failed in it may be lacking in what it writes: nothing is written then.
 */
#ifndef DSCM_CLI_JSON_FILE_H
#define DSCM_CLI_JSON_FILE_H

#include <jansson.h>

#include "cli/cli.h"

/* DSCM_E_MEMORY, naming `what`, when memory for JSON ran out since the program's start. */
dscm_code cli_json_whole(const char *what, dscm_error *err) DSCM_MUST_CHECK;

/* The text of a value, with jansson's flags; release with free. The value is given up; NULL says that a text
 * in it is not UTF-8. `what` stands before messages. */
dscm_code cli_json_text(char **text, json_t *value, size_t flags, const char *what,
                        dscm_error *err) DSCM_MUST_CHECK;

/* The same as a file that ends in a newline and replaces that of the path. */
dscm_code cli_json_write(const char *path, json_t *value, size_t flags,
                         dscm_error *err) DSCM_MUST_CHECK;

#endif
