/* Names of the 1,000 classes of ImageNet (ILSVRC 2012), in the order of the published networks'
 * outputs: the short names that torchvision uses. */
#ifndef DSCM_CLI_IMAGENET_LABELS_H
#define DSCM_CLI_IMAGENET_LABELS_H

#include <stddef.h>

enum { CLI_IMAGENET_LABELS = 1000 };

/* Static storage; NULL beyond the last class. */
const char *cli_imagenet_label(size_t index);

#endif
