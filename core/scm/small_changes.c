/* What a counterfactual changes without meaning: faint differences, and faint spots beside the strokes. */
#include <math.h>
#include <string.h>

#include "core/scm/walks.h"

/* A spot is of at most so many pixels, none brighter than half the range: 2 in 100 real digits have
 * one, and 30 to 40 in 100 counterfactuals had one before they were taken away. A bundle may name another
 * number of pixels, then of any brightness. */
enum { SPOT_PIXELS = 4 };
#define SPOT_LEVEL 1.0 /* above black, in [-1,1] */

typedef struct spot_limit {
    size_t pixels;
    double level;
} spot_limit;

/* The brightest channel of a pixel above black, 0..2. */
static double above_black(const dscm_variable *v, const float *image, size_t pixel)
{
    double most = 0;
    for (size_t c = 0; c < v->c; c++) most = fmax(most, (double)image[pixel * v->c + c] + 1);
    return most;
}

static double change(const dscm_variable *v, const float *a, const float *b, size_t pixel)
{
    double most = 0;
    for (size_t c = pixel * v->c; c < (pixel + 1) * v->c; c++)
        most = fmax(most, fabs((double)a[c] - (double)b[c]));
    return most;
}

static void make_ground(const dscm_variable *v, float *image, size_t pixel)
{
    for (size_t c = pixel * v->c; c < (pixel + 1) * v->c; c++) image[c] = -1;
}

/* Pixels lighter than ground that touch `from`, also at corners, and each other; more than the limit when
 * there are more, or a brighter one. */
static size_t find_spot(const dscm_variable *v, const float *image, size_t from, double ground,
                        const spot_limit *most, size_t found[BUNDLE_SPOT_MAX])
{
    size_t count = 1;
    found[0] = from;
    for (size_t i = 0; i < count; i++) {
        size_t y = found[i] / v->w, x = found[i] % v->w;
        if (above_black(v, image, found[i]) > most->level) return most->pixels + 1;
        for (size_t near = 0; near < 9; near++) {
            size_t ny = y + near / 3 - 1, nx = x + near % 3 - 1; /* below 0 they wrap beyond h, w */
            size_t pixel = ny * v->w + nx, k = 0;
            if (ny >= v->h || nx >= v->w || above_black(v, image, pixel) <= ground) continue;
            while (k < count && found[k] != pixel) k++;
            if (k < count) continue;
            if (count == most->pixels) return most->pixels + 1;
            found[count++] = pixel;
        }
    }
    return count;
}

/* A pixel next to it, also at a corner, is lighter than ground. */
static bool touches_stroke(const dscm_variable *v, const float *image, size_t pixel, double ground)
{
    size_t y = pixel / v->w, x = pixel % v->w;
    for (size_t near = 0; near < 9; near++) {
        size_t ny = y + near / 3 - 1, nx = x + near % 3 - 1;
        if (ny < v->h && nx < v->w && above_black(v, image, ny * v->w + nx) > ground) return true;
    }
    return false;
}

/* The faint edge of a stroke that is gone. */
static void remove_edges(const dscm_variable *v, float *image, const float *factual, double ground)
{
    for (size_t pixel = 0; pixel < v->h * v->w; pixel++)
        if (above_black(v, image, pixel) > 0 && touches_stroke(v, factual, pixel, ground) &&
            !touches_stroke(v, image, pixel, ground))
            make_ground(v, image, pixel);
}

static void remove_spots(const dscm_variable *v, float *image, const float *factual, double ground,
                         const spot_limit *most)
{
    for (size_t pixel = 0; pixel < v->h * v->w; pixel++) {
        size_t spot[BUNDLE_SPOT_MAX], own[BUNDLE_SPOT_MAX];
        if (above_black(v, image, pixel) <= ground) continue;
        size_t count = find_spot(v, image, pixel, ground, most, spot);
        if (count > most->pixels) continue;
        bool kept =
            above_black(v, factual, pixel) > ground && /* the factual has a spot there too */
            find_spot(v, factual, pixel, ground, most, own) <= most->pixels;
        for (size_t i = 0; !kept && i < count; i++) make_ground(v, image, spot[i]);
    }
}

void scm_undo_small_changes(const dscm_variable *v, float *image, const float *factual,
                            double min_change, size_t max_spot)
{
    const spot_limit most = {.pixels = max_spot ? max_spot : SPOT_PIXELS,
                             .level = max_spot ? (double)INFINITY : SPOT_LEVEL};
    double least = min_change / 127.5;
    for (size_t pixel = 0; pixel < v->h * v->w; pixel++) {
        if (change(v, image, factual, pixel) <= least)
            memcpy(image + pixel * v->c, factual + pixel * v->c, v->c * sizeof *image);
        else if (v->dark_ground && above_black(v, image, pixel) <= least)
            make_ground(v, image, pixel);
    }
    if (!v->dark_ground) return;
    remove_spots(v, image, factual, least, &most);
    remove_edges(v, image, factual, least);
}

void scm_keep_small(const dscm_session *s, float *image, const dscm_query *query)
{
    if (query->image && query->count && query->min_change > 0)
        scm_undo_small_changes(&s->image->info, image, query->image, query->min_change,
                               s->bundle->max_spot);
}
