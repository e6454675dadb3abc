/* Files of class names. Threads: no shared state. */
#ifndef DSCM_CLI_LABELS_H
#define DSCM_CLI_LABELS_H

#include <jansson.h>

#include "core/base/error.h"

/* Appends one label a line, in UTF-8 with or without a byte order mark, lines ending as on any system,
 * to the array. DSCM_E_FORMAT with the line that is empty or not UTF-8; a file over 16 MiB is refused. */
dscm_code cli_labels_read(json_t *list, const char *path, dscm_error *err) DSCM_MUST_CHECK;
/* Refuses two labels that are alike: of these one could never be asked for. */
dscm_code cli_labels_differ(const json_t *list, dscm_error *err) DSCM_MUST_CHECK;

#endif
