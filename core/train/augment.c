#include "core/train/augment.h"

#include <math.h>
#include <string.h>

static float within(dscm_rng *rng, float limit)
{
    return limit * (2 * dscm_rng_uniform(rng) - 1);
}

/* All channels at a place between pixels, bilinearly. */
static void sample(float *x, const dscm_picture *p, float sy, float sx)
{
    float fy = floorf(sy), fx = floorf(sx), wy = sy - fy, wx = sx - fx;
    for (size_t k = 0; k < p->c; k++) {
        float sum = 0;
        for (int n = 0; n < 4; n++) {
            ptrdiff_t y = (ptrdiff_t)fy + n / 2, xx = (ptrdiff_t)fx + n % 2;
            if (y < 0 || xx < 0 || y >= (ptrdiff_t)p->h || xx >= (ptrdiff_t)p->w) continue;
            sum += (n / 2 ? wy : 1 - wy) * (n % 2 ? wx : 1 - wx) *
                   (float)p->pixels[((size_t)y * p->w + (size_t)xx) * p->c + k];
        }
        x[k] = sum / 127.5f - 1;
    }
}

void dscm_augment_picture(float *x, const dscm_picture *p, const dscm_augmentation *m,
                          dscm_rng *rng)
{
    float angle = within(rng, m->angle), scale = 1 + within(rng, m->scale);
    float dx = within(rng, m->shift), dy = within(rng, m->shift);
    float shear = m->shear > 0 ? within(rng, m->shear) : 0;
    float stretch = m->stretch > 0 ? 1 + within(rng, m->stretch) : 1;
    float a = cosf(angle) * scale, b = sinf(angle) * scale;
    float cy = (float)(p->h - 1) / 2, cx = (float)(p->w - 1) / 2;
    for (size_t i = 0; i < p->h * p->w; i++) {
        float v = (float)(i / p->w) - cy, u = ((float)(i % p->w) - cx) * stretch + shear * v;
        sample(x + i * p->c, p, a * v + b * u + cy + dy, a * u - b * v + cx + dx);
    }
}

static size_t clamp(ptrdiff_t at, size_t count)
{
    return at < 0 ? 0 : at >= (ptrdiff_t)count ? count - 1 : (size_t)at;
}

void dscm_move_picture(uint8_t *out, const dscm_picture *p, bool mirrored, ptrdiff_t dy,
                       ptrdiff_t dx)
{
    for (size_t y = 0; y < p->h; y++)
        for (size_t x = 0; x < p->w; x++) {
            size_t sy = clamp((ptrdiff_t)y - dy, p->h), sx = clamp((ptrdiff_t)x - dx, p->w);
            if (mirrored) sx = p->w - 1 - sx;
            memcpy(out + (y * p->w + x) * p->c, p->pixels + (sy * p->w + sx) * p->c, p->c);
        }
}
