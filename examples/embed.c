/* A counterfactual from a program of one's own, with libdiffscm.
 *
 *   cc -std=c11 embed.c $(pkg-config --cflags --libs diffscm) -lm -o embed
 *   ./embed MODEL_DIR IMAGE.png VARIABLE=VALUE OUT.png         models are in PREFIX/share/diffscm/models
 *
 * Prints how far the result may be believed and writes what the picture would have looked like. */
#include <diffscm/diffscm.h>

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int fail(const char *what, const dscm_error *err)
{
    fprintf(stderr, "embed: %s: %s (%s)\n", what, err->message, dscm_code_name(err->code));
    return 1;
}

/* The bytes of a file of at most 16 MiB, or NULL. Release with free. */
static unsigned char *read_file(const char *path, size_t *size, dscm_error *err)
{
    enum { MOST = 16 << 20 };
    FILE *file = fopen(path, "rb");
    if (!file) {
        (void)dscm_fail(err, DSCM_E_IO, "cannot be opened: %s", strerror(errno));
        return NULL;
    }
    unsigned char *bytes = malloc(MOST + 1);
    *size = bytes ? fread(bytes, 1, MOST + 1, file) : 0;
    if (!bytes)
        (void)dscm_fail(err, DSCM_E_MEMORY, "no memory to read it");
    else if (ferror(file))
        (void)dscm_fail(err, DSCM_E_IO, "cannot be read: %s", strerror(errno));
    else if (*size > MOST)
        (void)dscm_fail(err, DSCM_E_LIMIT, "larger than 16 MiB");
    fclose(file);
    if (err->code == DSCM_OK) return bytes;
    free(bytes);
    return NULL;
}

/* A picture file as pixels (H,W,C) of the model's size. Release with free. */
static uint8_t *load_picture(const char *path, const dscm_variable *image, dscm_error *err)
{
    const dscm_picture_limits limits = {.side = 4096, .pixels = 1 << 22};
    const uint8_t background = image->c == 1 ? 0 : 255;
    dscm_picture picture = {0};
    size_t size;
    unsigned char *bytes = read_file(path, &size, err);
    uint8_t *pixels = malloc(image->h * image->w * image->c);
    dscm_code code = bytes ? DSCM_OK : err->code;
    if (!pixels) code = dscm_fail(err, DSCM_E_MEMORY, "no memory for its pixels");
    if (code == DSCM_OK)
        code = dscm_png_decode(&picture, bytes, size, image->c, background, &limits, err);
    if (code == DSCM_OK)
        code = dscm_resize_fit(pixels, image->h, image->w, &picture, background, err);
    dscm_picture_free(&picture);
    free(bytes);
    if (code == DSCM_OK) return pixels;
    free(pixels);
    return NULL;
}

/* One image (H,W,C) in [-1,1] as a PNG file. */
static dscm_code save_picture(const char *path, const float *values, const dscm_variable *image,
                              dscm_error *err)
{
    size_t count = image->h * image->w * image->c, size = 0;
    uint8_t *png = NULL;
    dscm_picture picture = {image->h, image->w, image->c, malloc(count)};
    if (!picture.pixels) return dscm_fail(err, DSCM_E_MEMORY, "no memory for its pixels");
    for (size_t i = 0; i < count; i++)
        picture.pixels[i] = (uint8_t)lrintf((fminf(fmaxf(values[i], -1), 1) + 1) * 127.5f);
    dscm_code code = dscm_png_encode(&png, &size, &picture, err);
    dscm_picture_free(&picture);
    FILE *file = code == DSCM_OK ? fopen(path, "wb") : NULL;
    if (code == DSCM_OK && (!file || fwrite(png, 1, size, file) != size))
        code = dscm_fail(err, DSCM_E_IO, "cannot be written: %s", strerror(errno));
    if (file && fclose(file) != 0)
        code = dscm_fail(err, DSCM_E_IO, "cannot be written: %s", strerror(errno));
    free(png);
    return code;
}

/* "VARIABLE=VALUE" as an intervention. */
static dscm_code parse_do(const dscm_bundle *bundle, char *text, dscm_target *target,
                          dscm_error *err)
{
    dscm_intervention *act = &target->items[0];
    char *equals = strchr(text, '=');
    if (equals) *equals = 0;
    *act = (dscm_intervention){.action = DSCM_DO, .scale = NAN};
    dscm_code code = dscm_variable_find(bundle, text, &act->variable, err);
    if (code == DSCM_OK)
        code = dscm_value_parse(bundle, act->variable, equals ? equals + 1 : "", &act->value, err);
    target->count = 1;
    return code;
}

/* How far the picture and the answer may be believed. */
static void print_answer(const dscm_abduction *abduction, const dscm_counterfactual *answer)
{
    const dscm_scores *scores = &answer->scores;
    const char *words = dscm_outcome_words(&answer->evidence); /* NULL: simply found */
    printf("image: %s. %s\n", dscm_verdict_name(abduction->verdict),
           dscm_verdict_words(abduction->verdict));
    printf("outcome: %s%s%s\n", dscm_outcome_name(answer->outcome), words ? ". " : "",
           words ? words : "");
    printf("the predictor %s the target; its probability: %.3g before, %.3g after\n",
           scores->valid ? "sees" : "does not see", scores->probability_before,
           scores->probability_after);
    printf("%.1f of 255 changed on average, scale %.3g\n", scores->l1, answer->scale);
}

static int run(dscm_bundle *bundle, dscm_session *session, char **argv)
{
    const dscm_bundle_info *info = dscm_bundle_describe(bundle);
    const dscm_variable *image = &info->variables[info->image];
    dscm_error err = {DSCM_OK, ""};
    dscm_target target;
    dscm_options options = dscm_options_defaults();
    dscm_run_item item = {.ask = {.targets = &target, .targets_count = 1}};
    item.ask.wanted = DSCM_WANT_SCORES;
    item.ask.auto_scale = dscm_options_search(bundle, &options);
    if (parse_do(bundle, argv[3], &target, &err) != DSCM_OK ||
        dscm_options_resolve(bundle, &options, &err) != DSCM_OK)
        return fail(argv[3], &err);
    item.ask.options = options;
    uint8_t *pixels = load_picture(argv[2], image, &err);
    if (!pixels) return fail(argv[2], &err);
    item.ask.pixels = pixels;
    int status = 1;
    if (dscm_run(session, bundle, &item, 1, NULL, &err) != DSCM_OK)
        status = fail("run", &err);
    else if (save_picture(argv[4], item.result->counterfactuals[0].image, image, &err) != DSCM_OK)
        status = fail(argv[4], &err);
    else {
        print_answer(item.abduction, &item.result->counterfactuals[0]);
        status = 0;
    }
    dscm_result_free(item.result);
    dscm_abduction_free(item.abduction); /* before the bundle, into which both point */
    free(pixels);
    return status;
}

int main(int argc, char **argv)
{
    dscm_error err = {DSCM_OK, ""};
    dscm_bundle *bundle = NULL;
    dscm_session *session = NULL;
    if (argc != 5) {
        fprintf(stderr, "usage: embed MODEL_DIR IMAGE.png VARIABLE=VALUE OUT.png\n");
        return 2;
    }
    printf("libdiffscm %s\n", dscm_version());
    if (dscm_bundle_open(&bundle, argv[1], &err) != DSCM_OK) return fail(argv[1], &err);
    int status = dscm_session_open(&session, bundle, 1, 1, &err) == DSCM_OK
                     ? run(bundle, session, argv)
                     : fail("session", &err);
    dscm_session_free(session);
    dscm_bundle_free(bundle);
    return status;
}
