#include "core/image/blocks.h"

#include <math.h>

void dscm_block_statistics(float *out, const uint8_t *pixels, size_t h, size_t w, size_t c)
{
    const size_t side = DSCM_BLOCKS_SIDE;
    for (size_t b = 0; b < side * side; b++) {
        size_t top = b / side * h / side, bottom = (b / side + 1) * h / side;
        size_t left = b % side * w / side, right = (b % side + 1) * w / side;
        double sum = 0, squares = 0, n = (double)((bottom - top) * (right - left));
        for (size_t y = top; y < bottom; y++)
            for (size_t x = left; x < right; x++) {
                double grey = 0;
                for (size_t k = 0; k < c; k++) grey += pixels[(y * w + x) * c + k];
                grey /= (double)c;
                sum += grey;
                squares += grey * grey;
            }
        double mean = n > 0 ? sum / n : 0;
        out[b] = (float)mean;
        out[side * side + b] = n > 0 ? (float)sqrt(fmax(squares / n - mean * mean, 0)) : 0;
    }
}
