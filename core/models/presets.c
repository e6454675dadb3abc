#include "core/models/presets.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

/* Shared by all: three-channel images, learned variances, residual resampling, attention at 32, 16
 * and 8 pixels. */
#define COMMON                                                                                     \
    "\"in_channels\":3,\"attention_resolutions\":\"32,16,8\",\"use_scale_shift_norm\":true,"       \
    "\"resblock_updown\":true,"
#define SCORE(side, channels, mult, blocks, heads, order, classes)                                 \
    "{\"arch\":\"unet\"," COMMON "\"image_size\":" #side ",\"model_channels\":" #channels          \
    ",\"channel_mult\":\"" mult "\",\"num_res_blocks\":" #blocks "," heads                         \
    ",\"attention_order\":\"" order "\",\"num_classes\":" #classes                                 \
    ",\"out_channels\":6,\"learn_sigma\":true}"
#define PREDICTOR(side, mult, blocks)                                                              \
    "{\"arch\":\"encoder\"," COMMON "\"image_size\":" #side                                        \
    ",\"model_channels\":128,\"channel_mult\":\"" mult "\",\"num_res_blocks\":" #blocks            \
    ",\"num_head_channels\":64,\"attention_order\":\"legacy\",\"out_channels\":1000,"              \
    "\"pool\":\"attention\",\"pool_attention_order\":\"new\"}"
#define HEAD_64 "\"num_head_channels\":64"
#define HEADS_4 "\"num_heads\":4"

const dscm_preset dscm_presets[DSCM_PRESETS] = {
    {"64", SCORE(64, 192, "1,2,3,4", 3, HEAD_64, "new", 1000), PREDICTOR(64, "1,2,3,4", 4),
     295904454, 65438568, DSCM_SCHEDULE_COSINE, 1.0},
    {"128", SCORE(128, 256, "1,1,2,3,4", 2, HEADS_4, "legacy", 1000),
     PREDICTOR(128, "1,1,2,3,4", 2), 421529606, 42568040, DSCM_SCHEDULE_LINEAR, 0.5},
    {"256", SCORE(256, 256, "1,1,2,2,4,4", 2, HEAD_64, "legacy", 1000),
     PREDICTOR(256, "1,1,2,2,4,4", 2), 553838086, 54096360, DSCM_SCHEDULE_LINEAR, 1.0},
    {"256-uncond", SCORE(256, 256, "1,1,2,2,4,4", 2, HEAD_64, "legacy", 0),
     PREDICTOR(256, "1,1,2,2,4,4", 2), 552814086, 54096360, DSCM_SCHEDULE_LINEAR, 10.0},
    {"512", SCORE(512, 256, ".5,1,1,2,2,4,4", 2, HEAD_64, "legacy", 1000),
     PREDICTOR(512, ".5,1,1,2,2,4,4", 2), 558997638, 54448360, DSCM_SCHEDULE_LINEAR, 4.0},
};

/* Moves over a word when it is there. */
static void skip(const char **p, const char *word)
{
    if (strncmp(*p, word, strlen(word)) == 0) *p += strlen(word);
}

/* "imagenet-256x256_diffusion_uncond" and its shorter forms become "256-uncond". */
static void canonical(char *out, size_t size, const char *name)
{
    size_t used = 0;
    skip(&name, "imagenet");
    skip(&name, "-");
    skip(&name, "_");
    for (; isdigit((unsigned char)*name) && used + 1 < size; name++) out[used++] = *name;
    out[used] = '\0';
    if (*name == 'x' && strncmp(name + 1, out, used) == 0) name += 1 + used;
    skip(&name, "_diffusion");
    skip(&name, "_classifier");
    snprintf(out + used, size - used, "%s%s", *name == '_' ? "-" : "",
             *name == '_' ? name + 1 : name);
}

dscm_code dscm_preset_find(const dscm_preset **out, const char *name, dscm_error *err)
{
    char wanted[64];
    canonical(wanted, sizeof wanted, name);
    for (size_t i = 0; i < DSCM_PRESETS; i++)
        if (strcmp(dscm_presets[i].name, wanted) == 0) {
            *out = &dscm_presets[i];
            return DSCM_OK;
        }
    return dscm_fail(err, DSCM_E_UNKNOWN,
                     "preset \"%s\" is not one of 64, 128, 256, 256-uncond, 512", name);
}
