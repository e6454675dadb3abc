#include "core/image/jpeg.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>

#include <jerror.h>

#include "core/image/orient.h"

/* State of one call; on the heap because locals do not survive longjmp reliably. */
typedef struct jpeg_state {
    struct jpeg_decompress_struct d;
    struct jpeg_error_mgr errors;
    struct jpeg_progress_mgr progress;
    jmp_buf jump;
    uint8_t *pixels; /* (H,W,C) */
    bool too_large, unsupported, no_memory;
    char message[JMSG_LENGTH_MAX];
} jpeg_state;

static void on_error(j_common_ptr common)
{
    jpeg_state *s = common->client_data;
    s->no_memory = common->err->msg_code == JERR_OUT_OF_MEMORY;
    common->err->format_message(common, s->message);
    longjmp(s->jump, 1);
}

static void on_message(j_common_ptr common, int level)
{
    if (level < 0) on_error(common); /* a warning: the data is damaged */
}

static void on_output(j_common_ptr common)
{
    (void)common;
}

/* Each scan of a progressive file costs a pass over all coefficients, and one of ten bytes may do
 * nothing but that: files of cameras and programs have about ten. */
#define SCANS_MAX 100

static void on_progress(j_common_ptr common)
{
    jpeg_state *s = common->client_data;
    if (s->d.input_scan_number <= SCANS_MAX) return;
    snprintf(s->message, sizeof(s->message), "more than %d scans", SCANS_MAX);
    longjmp(s->jump, 1);
}

bool dscm_jpeg_is(const void *bytes, size_t size)
{
    const uint8_t *p = bytes;
    return size >= 3 && p[0] == 0xff && p[1] == 0xd8 && p[2] == 0xff;
}

/* Of the first APP1 segment that holds EXIF: XMP and others come in APP1 too. */
static int find_orientation(const struct jpeg_decompress_struct *d)
{
    for (jpeg_saved_marker_ptr m = d->marker_list; m; m = m->next) {
        bool exif = m->data_length >= 6 && memcmp(m->data, "Exif\0\0", 6) == 0;
        int found = exif ? dscm_exif_orientation(m->data, m->data_length) : 0;
        if (found) return found;
    }
    return 1;
}

static void choose_size(jpeg_state *s, size_t channels, size_t side_wanted)
{
    s->d.out_color_space = channels == 1 ? JCS_GRAYSCALE : JCS_RGB;
    if (s->d.jpeg_color_space == JCS_CMYK || s->d.jpeg_color_space == JCS_YCCK) {
        s->unsupported = true;
        snprintf(s->message, sizeof(s->message), "has CMYK colours; save it with RGB colours");
        longjmp(s->jump, 1);
    }
    size_t side = s->d.image_width < s->d.image_height ? s->d.image_width : s->d.image_height;
    s->d.scale_num = 1;
    s->d.scale_denom = 1;
    while (side_wanted && s->d.scale_denom < 8 && side / (2 * s->d.scale_denom) >= 2 * side_wanted)
        s->d.scale_denom *= 2;
}

/* Everything that may longjmp; true when s->pixels holds the image, not yet turned. */
static bool read_pixels(jpeg_state *s, const void *bytes, size_t size, size_t channels,
                        size_t side_wanted, const dscm_picture_limits *limits, int *orientation)
{
    if (setjmp(s->jump)) return false;
    jpeg_create_decompress(&s->d);
    s->progress.progress_monitor = on_progress;
    s->d.progress = &s->progress;
    jpeg_save_markers(&s->d, JPEG_APP0 + 1, 0xffff);
    jpeg_mem_src(&s->d, bytes, size);
    jpeg_read_header(&s->d, TRUE);
    size_t w = s->d.image_width, h = s->d.image_height;
    s->too_large = w > limits->side || h > limits->side || w * h > limits->pixels;
    if (s->too_large) {
        snprintf(s->message, sizeof(s->message),
                 "%zux%zu pixels; at most %zu a side and %zu in all are accepted", w, h,
                 limits->side, limits->pixels);
        longjmp(s->jump, 1);
    }
    *orientation = find_orientation(&s->d);
    choose_size(s, channels, side_wanted);
    jpeg_start_decompress(&s->d);
    size_t row = (size_t)s->d.output_width * channels;
    s->pixels = malloc(row * s->d.output_height);
    s->no_memory = !s->pixels;
    if (s->no_memory) longjmp(s->jump, 1);
    while (s->d.output_scanline < s->d.output_height) {
        JSAMPROW line = s->pixels + s->d.output_scanline * row;
        jpeg_read_scanlines(&s->d, &line, 1);
    }
    jpeg_finish_decompress(&s->d);
    return true;
}

/* The pixels as they are seen; s no longer owns them. */
static dscm_code take_pixels(dscm_picture *out, jpeg_state *s, int orientation, dscm_error *err)
{
    out->h = s->d.output_height;
    out->w = s->d.output_width;
    out->pixels = s->pixels;
    s->pixels = NULL;
    dscm_code code = dscm_picture_turn(out, orientation, err);
    if (code != DSCM_OK) dscm_picture_free(out);
    return code;
}

dscm_code dscm_jpeg_decode(dscm_picture *out, const void *bytes, size_t size, size_t channels,
                           size_t side_wanted, const dscm_picture_limits *limits, dscm_error *err)
{
    *out = (dscm_picture){.c = channels};
    if (!dscm_jpeg_is(bytes, size))
        return dscm_fail(err, DSCM_E_FORMAT, "the data is not a JPEG file");
    jpeg_state *s = calloc(1, sizeof(*s));
    if (!s) return dscm_fail(err, DSCM_E_MEMORY, "no memory to read a JPEG file");
    s->d.err = jpeg_std_error(&s->errors);
    s->errors.error_exit = on_error;
    s->errors.emit_message = on_message;
    s->errors.output_message = on_output;
    s->d.client_data = s;
    int orientation = 1;
    dscm_code code = DSCM_OK;
    if (read_pixels(s, bytes, size, channels, side_wanted, limits, &orientation))
        code = take_pixels(out, s, orientation, err);
    else if (s->too_large)
        code = dscm_fail(err, DSCM_E_LIMIT, "the image has %s", s->message);
    else if (s->no_memory)
        code = dscm_fail(err, DSCM_E_MEMORY, "no memory to read a JPEG file");
    else
        code = dscm_fail(err, DSCM_E_FORMAT, "the JPEG file %s%s",
                         s->unsupported ? "" : "is damaged: ", s->message);
    jpeg_destroy_decompress(&s->d);
    free(s->pixels);
    free(s);
    return code;
}
