/* Base64: what decodes must decode from its usual spelling to the same bytes. */
#include <stdlib.h>
#include <string.h>

#include "api/base64.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    dscm_error err = {0};
    if (dscm_data_url_strip(&text, &size, &err) != DSCM_OK) return 0;
    size_t count = 0;
    uint8_t *out = malloc(dscm_base64_decoded_max(size) + 1);
    char *again = malloc(dscm_base64_encoded_size(dscm_base64_decoded_max(size)) + 1);
    if (out && again && dscm_base64_decode(out, &count, text, size, &err) == DSCM_OK) {
        size_t length = dscm_base64_encoded_size(count), back = 0;
        uint8_t *twice = malloc(dscm_base64_decoded_max(length));
        dscm_base64_encode(again, out, count);
        if (twice && (dscm_base64_decode(twice, &back, again, length, &err) != DSCM_OK ||
                      back != count || memcmp(twice, out, count) != 0))
            __builtin_trap();
        free(twice);
    }
    free(out);
    free(again);
    return 0;
}
