/* Picture files of a data set as one array of pixels: decoded by several threads and brought to one
 * size. Internal to core/data.
 *
 * Size: h and w, or, when both are 0, that of the first picture, which all must then share. Another
 * size is fitted by the rule of the service: grey pictures whole, aspect kept, centred on black;
 * colour pictures by the largest centred part of the wanted aspect; both by area average.
 */
#ifndef DSCM_CORE_DATA_PICTURES_H
#define DSCM_CORE_DATA_PICTURES_H

#include "core/base/team.h"
#include "core/data/layout.h"

typedef struct dscm_pictures {
    /* set by the caller */
    size_t h, w, c;         /* c: 1 or 3, or 0: dscm_pictures_read decides */
    const uint32_t *places; /* (files of the source) where in `pixels` a wanted file belongs */
    /* result */
    uint8_t *pixels; /* (count,h,w,c), owned */
    bool *missing;   /* (count) this place's file could not be read; owned */
    size_t count, unreadable, resized;
    size_t looked_at, coloured; /* with c 0: pictures decided by, and how many showed colour */
    char first_unreadable[DSCM_MESSAGE_MAX];
} dscm_pictures;

/* Reads the layout's wanted files. c 0: up to 256 pictures spread over the set decide: grey unless
 * more than one in a hundred shows colour. More than one unreadable picture in a hundred (one is
 * always forgiven) is an error that names the first, as are differing sizes without h and w. team
 * may be NULL. */
dscm_code dscm_pictures_read(dscm_pictures *p, const dscm_source *source, const dscm_layout *layout,
                             dscm_team *team, dscm_error *err) DSCM_MUST_CHECK;
void dscm_pictures_close(dscm_pictures *p); /* frees what is owned */

#endif
