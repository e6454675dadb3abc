/* Shared by the parts of the reply. */
#ifndef DSCM_API_REPLY_INTERNAL_H
#define DSCM_API_REPLY_INTERNAL_H

#include <jansson.h>

#include "api/reply.h"

/* A PNG as base64 text, NULL without memory, which is counted with the failures of JSON. */
json_t *reply_image(const uint8_t *png, size_t size);
/* {name, version, sha256} */
json_t *reply_model_brief(const dscm_bundle_info *info);
/* Text of a value that is given up, as dscm_json_text makes it. */
char *reply_text(json_t *value, unsigned long since, size_t *size);

#endif
