/* Writing bundles: entries of trained networks, the reference pool, the manifest with its hashes.
 *
 * What is written here is read back by dscm_bundle_open, which alone decides whether a bundle is
 * right. Threads: no shared state.
 */
#ifndef DSCM_CORE_BUNDLE_ASSEMBLE_H
#define DSCM_CORE_BUNDLE_ASSEMBLE_H

#include <jansson.h>

#include "core/data/dataset.h"

/* Bundles say "format": the stem and a number up to this one, which is the one that is written. */
#define BUNDLE_FORMAT_STEM "diffscm-bundle-"
#define BUNDLE_FORMAT      2

/* What a file written by dscm_trainer_export says about itself: *settings becomes its training
 * settings, a new object with "task", "config", "schedule" and more. */
dscm_code dscm_network_settings(json_t **settings, const char *path,
                                dscm_error *err) DSCM_MUST_CHECK;

/* Encodes the first `count` images by the VAE of a file and writes mu and logvar (N,latent) and
 * labels (N) as float16: the pool of the CLD. */
dscm_code dscm_pool_write(const char *path, const char *vae_path, const dscm_dataset *data,
                          size_t count, dscm_error *err) DSCM_MUST_CHECK;

/* Sets "format" and "files" (name -> SHA-256 of DIR/name) and writes DIR/manifest.json in one
 * step. files: names, NULL-terminated; since: dscm_json_failures() before the manifest was begun. */
dscm_code dscm_manifest_write(json_t *manifest, const char *dir, const char *const *files,
                              unsigned long since, dscm_error *err) DSCM_MUST_CHECK;

#endif
