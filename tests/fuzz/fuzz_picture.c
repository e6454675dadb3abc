/* PNG and JPEG files, told apart by content, decoded to grey and to colour. */
#include "api/jpeg.h"
#include "api/png.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const dscm_picture_limits limits = {.side = 512, .pixels = 512 * 512};
    for (size_t channels = 1; channels <= 3; channels += 2) {
        dscm_picture picture = {.pixels = NULL};
        dscm_error err = {0};
        dscm_code code = dscm_jpeg_is(data, size)
                             ? dscm_jpeg_decode(&picture, data, size, channels, 0, &limits, &err)
                             : dscm_png_decode(&picture, data, size, channels, 0, &limits, &err);
        if (code == DSCM_OK && (picture.c != channels || picture.h > 512 || picture.w > 512))
            __builtin_trap();
        if (code != DSCM_OK && !err.message[0]) __builtin_trap();
        dscm_picture_free(&picture);
    }
    return 0;
}
