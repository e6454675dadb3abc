/* How a data set lies in its files: which hold the images of a split, and which class each has.
 *
 * Two layouts are known. IDX files: SPLIT-images and SPLIT-labels under all their usual names. A
 * folder per class, of PNG and JPEG files: CLASS/…, or SPLIT/CLASS/…. A folder around everything is
 * looked through. Names decide; contents are not read, but for a CSV file of classes. Not shared between threads.
 */
#ifndef DSCM_CORE_DATA_LAYOUT_H
#define DSCM_CORE_DATA_LAYOUT_H

#include "core/data/source.h"

#define DSCM_CLASSES_MAX  256
#define DSCM_LAYOUT_WORDS 512 /* bytes of a text about the set */

typedef struct dscm_layout {
    bool idx;
    size_t images, labels; /* IDX: which files; labels SIZE_MAX: none */
    /* folders: */
    bool *wanted;                   /* (files of the source) is a picture of the split */
    uint8_t *classes;               /* (files of the source) its class */
    const char **inner;             /* (files of the source) its name from the class on, borrowed */
    char **names;                   /* (class_count), in byte order; owned */
    size_t class_count;             /* over all splits: a class has one number in each */
    size_t count;                   /* pictures of the split */
    size_t unlisted;                /* pictures that a table of classes does not name, left out */
    bool tabled;                    /* classes are those of a table */
    bool nested;                    /* there are folders per split */
    char splits[DSCM_LAYOUT_WORDS]; /* folders: "dev (5000), train (50000)", or "" */
} dscm_layout;

/* split: a name; "all": every picture. Of a set without folders per split every picture is found,
 * whatever the name: the caller divides them. */
dscm_code dscm_layout_find(dscm_layout *out, const dscm_source *source, const char *split,
                           dscm_error *err) DSCM_MUST_CHECK;
/* Classes of pictures that lie in one folder, by labels.csv or the only CSV file among them: its column
 * "file" names a picture relative to the data set, to the CSV file or to the pictures' folder; "class"
 * or "label", or the only other column, its class. A line without picture, a second line of one, an
 * empty class: an error with its line. Pictures without line are left out. Without a CSV file the one
 * folder stays the class; pictures in none are DSCM_E_INVALID. */
dscm_code dscm_layout_label(dscm_layout *layout, const dscm_source *source,
                            dscm_error *err) DSCM_MUST_CHECK;
void dscm_layout_close(dscm_layout *layout); /* takes a zeroed one */

#endif
