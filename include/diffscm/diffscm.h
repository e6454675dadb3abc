/* diffscm, the library: every public header. `pkg-config --cflags --libs diffscm` says how to build.
 *
 *   core/diffscm.h        bundles, sessions, abduction, prediction, scores
 *   core/scm/pipeline.h   from images to counterfactuals with verdicts and scores in one call
 *   core/image/           PNG and JPEG from and to memory, and fitting pictures to a model
 *
 * Only what is listed here is installed and exported. examples/embed.c is a whole program.
 */
#ifndef DIFFSCM_DIFFSCM_H
#define DIFFSCM_DIFFSCM_H

#include "core/base/cpu.h"
#include "core/base/error.h"
#include "core/base/version.h"
#include "core/diffscm.h"
#include "core/image/check.h"
#include "core/image/jpeg.h"
#include "core/image/picture.h"
#include "core/image/png.h"
#include "core/image/resize.h"
#include "core/scm/pipeline.h"
#include "core/scm/verdict.h"

#endif
