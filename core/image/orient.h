/* The orientation that a camera wrote beside a picture (EXIF 2.3, tag 0x0112), and turning by it.
 * Pure functions; nothing but that tag is read. */
#ifndef DSCM_CORE_IMAGE_ORIENT_H
#define DSCM_CORE_IMAGE_ORIENT_H

#include "core/base/error.h"
#include "core/image/picture.h"

/* 1..8 of the content of an EXIF block, with or without its "Exif\0\0" in front: a SHORT or LONG in the
 * first directory, of either byte order. 1: none, or not to be understood. 0: no EXIF block at all. */
int dscm_exif_orientation(const uint8_t *bytes, size_t size);

/* Replaces the pixels by those seen upright; orientations 5..8 exchange the sides. Outside of 2..8 the
 * picture stays as it is. On failure too. */
dscm_code dscm_picture_turn(dscm_picture *picture, int orientation,
                            dscm_error *err) DSCM_MUST_CHECK;

#endif
