/* JPEG files for tests, written with libjpeg. */
#ifndef DSCM_TESTS_CORE_IMAGE_JPEG_FILE_H
#define DSCM_TESTS_CORE_IMAGE_JPEG_FILE_H

#include <stdio.h>
#include <stdlib.h>

#include <jpeglib.h>

#include "tests/core/io/archive.h"

typedef struct jpeg_plan {
    unsigned w, h;
    int channels;                                                              /* 1 or 3 */
    void (*row)(const struct jpeg_plan *plan, unsigned y, unsigned char *out); /* (w, channels) */
    const unsigned char *const *segments; /* of APP1, in their order, (segments_count); or NULL */
    const size_t *sizes;                  /* (segments_count) */
    int segments_count;
    const jpeg_scan_info *scans; /* of a progressive file, (scans_count); NULL: one scan */
    int scans_count;
} jpeg_plan;

/* The caller frees it with buffer_free. */
static buffer jpeg_file(const jpeg_plan *plan)
{
    struct jpeg_compress_struct c;
    struct jpeg_error_mgr errors;
    unsigned char *bytes = NULL, row[512 * 3];
    unsigned long size = 0;
    if (plan->w > 512) abort();
    c.err = jpeg_std_error(&errors);
    jpeg_create_compress(&c);
    jpeg_mem_dest(&c, &bytes, &size);
    c.image_width = plan->w;
    c.image_height = plan->h;
    c.input_components = plan->channels;
    c.in_color_space = plan->channels == 3 ? JCS_RGB : JCS_GRAYSCALE;
    jpeg_set_defaults(&c);
    jpeg_set_quality(&c, 100, TRUE);
    c.scan_info = plan->scans;
    c.num_scans = plan->scans_count;
    jpeg_start_compress(&c, TRUE);
    for (int i = 0; i < plan->segments_count; i++)
        jpeg_write_marker(&c, JPEG_APP0 + 1, plan->segments[i], (unsigned)plan->sizes[i]);
    for (unsigned y = 0; y < plan->h; y++) {
        JSAMPROW line = row;
        plan->row(plan, y, row);
        jpeg_write_scanlines(&c, &line, 1);
    }
    jpeg_finish_compress(&c);
    jpeg_destroy_compress(&c);
    buffer b = {0};
    put(&b, bytes, size);
    free(bytes);
    return b;
}

#endif
