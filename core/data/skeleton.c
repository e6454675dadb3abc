#include "core/data/skeleton.h"

#include <math.h>
#include <string.h>

#include "core/base/memory.h"

#define SIDE_MAX 1024
#define FAR      UINT32_MAX
#define CORNERS  10 /* background cells in 3x3: 0..9 */

dscm_code dscm_skeleton_open(dscm_skeleton *s, size_t h, size_t w, dscm_error *err)
{
    *s = (dscm_skeleton){.h = h, .w = w, .words = (w + 63) / 64};
    if (!h || !w || h > SIDE_MAX || w > SIDE_MAX)
        return dscm_fail(err, DSCM_E_LIMIT, "binary image of %zux%zu: sides must be in 1..%d", h, w,
                         SIDE_MAX);
    const char *what = "binary image";
    s->pixels = dscm_alloc((h + 2) * (w + 2), 1, what, err);
    s->axis = dscm_alloc((h + 2) * (w + 2), 1, what, err);
    s->squared = dscm_alloc(h * w, sizeof *s->squared, what, err);
    s->column = dscm_alloc(h * w, sizeof *s->column, what, err);
    s->order = dscm_alloc(h * w, sizeof *s->order, what, err);
    s->rank = dscm_alloc(h * w, sizeof *s->rank, what, err);
    /* A foreground pixel is nearer to the background than the diagonal is long. */
    s->starts = dscm_alloc((h * h + w * w + 1) * CORNERS + 1, sizeof *s->starts, what, err);
    s->bits = dscm_alloc(h * s->words, sizeof *s->bits, what, err);
    s->wide = dscm_alloc(h * s->words, sizeof *s->wide, what, err);
    s->grown = dscm_alloc(h * s->words, sizeof *s->grown, what, err);
    if (s->pixels && s->axis && s->squared && s->column && s->order && s->rank && s->starts &&
        s->bits && s->wide && s->grown)
        return DSCM_OK;
    dscm_skeleton_close(s);
    return DSCM_E_MEMORY;
}

void dscm_skeleton_close(dscm_skeleton *s)
{
    dscm_free(s->pixels);
    dscm_free(s->axis);
    dscm_free(s->squared);
    dscm_free(s->column);
    dscm_free(s->order);
    dscm_free(s->rank);
    dscm_free(s->starts);
    dscm_free(s->bits);
    dscm_free(s->wide);
    dscm_free(s->grown);
    *s = (dscm_skeleton){0};
}

static const uint8_t *row_of(const dscm_skeleton *s, const uint8_t *image, size_t y)
{
    return image + (y + 1) * (s->w + 2) + 1;
}

/* ---- distance ---- */

/* Distance to the nearest background pixel of the same column, FAR without one. */
static void distances_in_columns(dscm_skeleton *s)
{
    for (size_t y = 0; y < s->h; y++) {
        const uint8_t *in = row_of(s, s->pixels, y);
        uint32_t *row = s->column + y * s->w, *above = row - s->w;
        for (size_t x = 0; x < s->w; x++)
            row[x] = !in[x] ? 0 : y && above[x] != FAR ? above[x] + 1 : FAR;
    }
    for (size_t y = s->h - 1; y-- > 0;) {
        uint32_t *row = s->column + y * s->w, *below = row + s->w;
        for (size_t x = 0; x < s->w; x++)
            if (below[x] != FAR && below[x] + 1 < row[x]) row[x] = below[x] + 1;
    }
}

/* Squared distance of pixel x of a row: the nearest of all columns, from the near ones outwards
 * until a column alone is farther than the best. */
static uint32_t nearest(const uint32_t *column, size_t w, size_t x)
{
    uint64_t best = column[x] == FAR ? UINT64_MAX : (uint64_t)column[x] * column[x];
    for (uint64_t d = 1; d * d < best && (d <= x || x + d < w); d++) {
        uint32_t left = d <= x ? column[x - d] : FAR, right = x + d < w ? column[x + d] : FAR;
        uint32_t near = left < right ? left : right;
        if (near != FAR && d * d + (uint64_t)near * near < best)
            best = d * d + (uint64_t)near * near;
    }
    return best == UINT64_MAX ? FAR : (uint32_t)best;
}

/* Fills `squared`; returns the number of foreground pixels and the largest squared distance. */
static size_t distances(dscm_skeleton *s, uint32_t *most)
{
    size_t count = 0;
    *most = 0;
    distances_in_columns(s);
    for (size_t y = 0; y < s->h; y++) {
        const uint8_t *in = row_of(s, s->pixels, y);
        for (size_t x = 0; x < s->w; x++) {
            if (!in[x]) continue;
            uint32_t d = nearest(s->column + y * s->w, s->w, x);
            s->squared[y * s->w + x] = d;
            if (d > *most) *most = d;
            count++;
        }
    }
    return count;
}

/* ---- order of the visit ---- */

/* The Mersenne Twister MT19937 (Matsumoto & Nishimura 1998) with seed 0. */
typedef struct twister {
    uint32_t state[624];
    size_t next;
} twister;

static void twister_seed(twister *t)
{
    t->state[0] = 0;
    for (uint32_t i = 1; i < 624; i++)
        t->state[i] = 1812433253u * (t->state[i - 1] ^ t->state[i - 1] >> 30) + i;
    t->next = 624;
}

static uint32_t twister_next(twister *t)
{
    uint32_t *s = t->state;
    if (t->next == 624) {
        for (size_t i = 0; i < 624; i++) {
            uint32_t y = (s[i] & 0x80000000u) | (s[(i + 1) % 624] & 0x7fffffffu);
            s[i] = s[(i + 397) % 624] ^ y >> 1 ^ (y & 1 ? 0x9908b0dfu : 0);
        }
        t->next = 0;
    }
    uint32_t y = s[t->next++];
    y ^= y >> 11;
    y ^= y << 7 & 0x9d2c5680u;
    y ^= y << 15 & 0xefc60000u;
    return y ^ y >> 18;
}

/* numpy's shuffle of 0..count-1: Fisher-Yates from the end, bounded numbers by masked rejection. */
static void permute(uint32_t *order, size_t count)
{
    twister t;
    twister_seed(&t);
    for (size_t i = 0; i < count; i++) order[i] = (uint32_t)i;
    for (size_t i = count; i-- > 1;) {
        uint32_t mask = (uint32_t)i, j;
        for (int shift = 1; shift < 32; shift *= 2) mask |= mask >> shift;
        do j = twister_next(&t) & mask;
        while (j > i);
        uint32_t held = order[i];
        order[i] = order[j];
        order[j] = held;
    }
}

static unsigned background_around(const dscm_skeleton *s, size_t y, size_t x)
{
    unsigned sum = 0;
    size_t stride = s->w + 2;
    const uint8_t *p = row_of(s, s->pixels, y) + x;
    for (const uint8_t *q = p - stride; q <= p + stride; q += stride) sum += q[-1] + q[0] + q[1];
    return 9 - sum;
}

/* Fills `order` with the foreground, ascending in (distance, background cells in 3x3, a random
 * number): a counting sort, stable, of the pixels in the order of their random numbers. */
static void visit_order(dscm_skeleton *s, size_t count, uint32_t most)
{
    size_t buckets = ((size_t)most + 1) * CORNERS, k = 0;
    uint32_t *keys = s->column, *by_rank = s->order; /* the columns' distances are done with */
    memset(s->starts, 0, (buckets + 1) * sizeof *s->starts);
    permute(s->rank, count);
    for (size_t y = 0; y < s->h; y++)
        for (size_t x = 0; x < s->w; x++) {
            if (!row_of(s, s->pixels, y)[x]) continue;
            size_t i = y * s->w + x;
            keys[i] = s->squared[i] * CORNERS + background_around(s, y, x);
            s->starts[keys[i] + 1]++;
            by_rank[s->rank[k++]] = (uint32_t)i;
        }
    for (size_t b = 1; b <= buckets; b++) s->starts[b] += s->starts[b - 1];
    memcpy(s->rank, by_rank, count * sizeof *by_rank);
    for (size_t i = 0; i < count; i++) s->order[s->starts[keys[s->rank[i]]]++] = s->rank[i];
}

/* ---- medial axis ---- */

/* 8-connected components of a 3x3 pattern, bit 3 y + x. */
static int components(unsigned pattern)
{
    int found = 0;
    for (unsigned left = pattern; left; found++) {
        unsigned part = left & -left, before = 0;
        while (part != before) {
            before = part;
            for (int i = 0; i < 9; i++)
                for (int j = 0; j < 9; j++)
                    if (before >> i & 1 && left >> j & 1 && i / 3 - j / 3 < 2 &&
                        j / 3 - i / 3 < 2 && i % 3 - j % 3 < 2 && j % 3 - i % 3 < 2)
                        part |= 1u << j;
        }
        left &= ~part;
    }
    return found;
}

/* Whether the middle of a pattern stays: removing it changes the number of components, or fewer
 * than three pixels are there. */
static void fill_table(uint8_t table[512])
{
    for (unsigned p = 0; p < 512; p++) {
        int sum = 0;
        for (int i = 0; i < 9; i++) sum += p >> i & 1;
        table[p] = p >> 4 & 1 && (sum < 3 || components(p) != components(p & ~16u));
    }
}

static void thin(dscm_skeleton *s, size_t count)
{
    uint8_t table[512];
    size_t stride = s->w + 2;
    fill_table(table);
    memcpy(s->axis, s->pixels, (s->h + 2) * stride);
    for (size_t i = 0; i < count; i++) {
        size_t y = s->order[i] / s->w, x = s->order[i] % s->w;
        uint8_t *p = s->axis + (y + 1) * stride + x + 1;
        const uint8_t *a = p - stride, *b = p + stride;
        unsigned pattern = a[-1] | a[0] << 1 | a[1] << 2 | p[-1] << 3 | 16u | p[1] << 5 |
                           b[-1] << 6 | b[0] << 7 | b[1] << 8;
        *p = table[pattern];
    }
}

double dscm_skeleton_thickness(dscm_skeleton *s)
{
    uint32_t most = 0;
    size_t count = distances(s, &most), on_axis = 0;
    double sum = 0;
    if (!count || most == FAR) return 0;
    visit_order(s, count, most);
    thin(s, count);
    for (size_t y = 0; y < s->h; y++)
        for (size_t x = 0; x < s->w; x++)
            if (row_of(s, s->axis, y)[x]) {
                sum += sqrt((double)s->squared[y * s->w + x]);
                on_axis++;
            }
    return 2 * sum / (double)on_axis;
}

/* ---- dilation ---- */

size_t dscm_skeleton_element(int *spans, size_t radius)
{
    enum { SCALE = 16, REACH = 21 }; /* reach of a Gaussian of sigma 16/3, cut at 4 sigma */
    long r = (long)radius, side = 2 * r + 1, disc = SCALE * r;
    size_t cells = 0;
    for (long i = 0; i < side; i++) {
        spans[i] = -1;
        for (long j = r; j < side; j++) {
            long far[2];
            for (int k = 0; k < 2; k++) {
                /* The cell's middle in the large disc, as a fraction over 2 side. */
                long top = (2 * (k ? j : i) + 1) * (2 * disc + 1) - side;
                long low = top / (2 * side), high = (top + 2 * side - 1) / (2 * side);
                long before = low - REACH - disc, after = disc - high - REACH;
                far[k] = before > 0 ? before : after > 0 ? after : 0;
            }
            if (far[0] * far[0] + far[1] * far[1] <= disc * disc) spans[i] = (int)(j - r);
        }
        cells += (size_t)(2 * spans[i] + 1) * (spans[i] >= 0);
    }
    return cells;
}

/* out |= in moved by `by` columns. */
static void or_moved(uint64_t *out, const uint64_t *in, size_t words, long by)
{
    size_t far = (size_t)(by < 0 ? -by : by), jump = far / 64, bit = far % 64;
    for (size_t k = 0; k + jump < words; k++) {
        if (by >= 0) {
            out[k + jump] |= in[k] << bit;
            if (bit && k + jump + 1 < words) out[k + jump + 1] |= in[k] >> (64 - bit);
        } else {
            out[k] |= in[k + jump] >> bit;
            if (bit && k + jump + 1 < words) out[k] |= in[k + jump + 1] << (64 - bit);
        }
    }
}

/* grown |= rows moved by dy rows and dx columns. */
static void or_rows(dscm_skeleton *s, const uint64_t *rows, long dy, long dx)
{
    for (size_t y = 0; y < s->h; y++) {
        long to = (long)y + dy;
        if (to >= 0 && to < (long)s->h)
            or_moved(s->grown + (size_t)to * s->words, rows + y * s->words, s->words, dx);
    }
}

/* From the element's outermost rows inwards: the rows widened by its span grow with it. */
static void grow_bits(dscm_skeleton *s, size_t radius, const int *spans)
{
    int reached = 0;
    memcpy(s->wide, s->bits, s->h * s->words * sizeof *s->bits);
    memset(s->grown, 0, s->h * s->words * sizeof *s->grown);
    for (size_t i = 0; i <= radius; i++) {
        if (spans[i] < 0) continue;
        for (; reached < spans[i]; reached++)
            for (size_t y = 0; y < s->h; y++) {
                or_moved(s->wide + y * s->words, s->bits + y * s->words, s->words, reached + 1);
                or_moved(s->wide + y * s->words, s->bits + y * s->words, s->words, -reached - 1);
            }
        long dy = (long)radius - (long)i;
        or_rows(s, s->wide, dy, 0);
        if (dy) or_rows(s, s->wide, -dy, 0);
    }
    /* Two samples of the published element fall on a pixel at this radius, and rounding let four
     * cells in that exact arithmetic leaves out. */
    static const signed char odd[4][2] = {{-17, 13}, {-13, -17}, {-13, 17}, {17, 13}};
    for (int i = 0; radius == 19 && i < 4; i++) or_rows(s, s->bits, odd[i][0], odd[i][1]);
}

void dscm_skeleton_dilate(dscm_skeleton *s, size_t radius, int grow)
{
    int spans[2 * SIDE_MAX + 1];
    size_t largest = s->h > s->w ? s->h : s->w; /* everything is reached from everywhere */
    if (!radius) return;
    if (radius > largest) radius = largest;
    dscm_skeleton_element(spans, radius);
    memset(s->bits, 0, s->h * s->words * sizeof *s->bits);
    for (size_t y = 0; y < s->h; y++)
        for (size_t x = 0; x < s->w; x++)
            if (!row_of(s, s->pixels, y)[x] != !!grow)
                s->bits[y * s->words + x / 64] |= (uint64_t)1 << x % 64;
    grow_bits(s, radius, spans);
    for (size_t y = 0; y < s->h; y++) {
        uint8_t *row = s->pixels + (y + 1) * (s->w + 2) + 1;
        for (size_t x = 0; x < s->w; x++)
            row[x] = (s->grown[y * s->words + x / 64] >> x % 64 & 1) == (uint64_t) !!grow;
    }
}
