/* A data set as people have it, read whole: images with one label each.
 *
 * PATH is a folder, a tar archive (also packed), or one IDX file of images. In a folder or archive:
 * IDX files SPLIT-images and SPLIT-labels under their usual names; or PNG and JPEG files in a folder
 * per class, with or without folders per split around them; or such files in one folder, and a CSV file
 * with their classes (core/data/layout.h). Pictures are ordered by the SHA-256 of
 * CLASS/FILE, so that a slice holds every class in about its share and a folder and its archive give
 * the same set. Without folders per split, "train", "dev" and "test" are 80, 10 and 10 per cent of
 * each class in that order; "all" is every picture. SPLIT may end in a slice (core/data/split.h).
 *
 * Nothing here prints: dscm_dataset_describe gives what a program should show. Read-only once open,
 * and may then be shared by threads.
 */
#ifndef DSCM_CORE_DATA_DATASET_H
#define DSCM_CORE_DATA_DATASET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/error.h"

typedef struct dscm_dataset_facts {
    char kind[64];                        /* "IDX files", "a folder per class" … */
    char splits[512];                     /* folders per split and their pictures, or "" */
    size_t unlisted;                      /* pictures without a line in labels.csv, left out */
    size_t unreadable, resized, repeated; /* pictures left out; fitted; equal to an earlier one */
    char first_unreadable[512];
    size_t looked_at, coloured; /* pictures that decided between grey and colour; 0: not asked */
    uint8_t low, high;          /* smallest and largest value */
    bool cached;                /* pixels came from the cache */
} dscm_dataset_facts;

typedef struct dscm_dataset {
    size_t count, h, w, c;
    uint8_t *pixels; /* (N,H,W,C), owned */
    uint8_t *labels; /* (N), owned; all 0 where the set has none */
    char sha256[65]; /* of the pixels, hex */
    size_t classes;  /* labels are below; 0: no label is known */
    uint32_t *rows;  /* (N) place of each image among the `whole` ones of its files, owned */
    size_t whole;
    char **names; /* (classes) of a folder per class, owned; NULL: the labels are numbers */
    char **files; /* where asked for: names of the pictures within the data set, owned; image i is
                     files[rows[i]]. NULL: IDX files */
    size_t files_count;
    dscm_dataset_facts facts;
} dscm_dataset;

typedef struct dscm_dataset_options {
    size_t h, w;         /* wanted size of pictures; 0: their own, which all must share */
    size_t channels;     /* 1, 3, or 0: decided by the pictures */
    int threads;         /* that decode; 0 counts as 1 */
    const char *cache;   /* folder for decoded pictures (made when missing), or NULL: none */
    bool without_labels; /* a set without labels is accepted */
    bool relabel;        /* labels that occur are numbered from 0 in their order */
    bool files;          /* names of the pictures are wanted */
} dscm_dataset_options;

/* options may be NULL. DSCM_E_NOT_FOUND: no such path, split or file. */
dscm_code dscm_dataset_read(dscm_dataset *out, const char *path, const char *split,
                            const dscm_dataset_options *options, dscm_error *err) DSCM_MUST_CHECK;
/* The same without options. */
dscm_code dscm_dataset_open(dscm_dataset *out, const char *path, const char *split,
                            dscm_error *err) DSCM_MUST_CHECK;
void dscm_dataset_free(dscm_dataset *set);

/* What was understood, as lines that each end in a newline: kind, counts, size, range, classes, odd
 * ones out. Cut at `size` bytes. */
void dscm_dataset_describe(const dscm_dataset *set, char *text, size_t size);
/* Refuses labels that no classifier should be trained on: a single class, or a number below the
 * largest without an image. DSCM_E_INVALID; the message names the label and what helps. classes > 0:
 * so many are meant, also those without an image. */
dscm_code dscm_dataset_check_classes(const dscm_dataset *set, size_t classes,
                                     dscm_error *err) DSCM_MUST_CHECK;
/* How many images of b are also in a, pixel by pixel (by a 64-bit hash). SIZE_MAX: out of memory. */
size_t dscm_dataset_shared(const dscm_dataset *a, const dscm_dataset *b);

#endif
