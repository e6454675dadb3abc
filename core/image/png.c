#include "core/image/png.h"
#include "core/image/check.h"
#include "core/image/orient.h"

#include <png.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* State of one call; on the heap because locals do not survive longjmp reliably. */
typedef struct png_state {
    png_structp png;
    png_infop info;
    const uint8_t *in; /* reading */
    size_t in_size, in_at, idat_end;
    uint8_t *out; /* writing */
    size_t out_size, out_capacity;
    uint8_t *rgba;   /* (H,W,4) */
    png_bytep *rows; /* (H) into rgba */
    char message[128];
    bool no_memory; /* an allocation of libpng failed while reading */
} png_state;

static png_voidp on_malloc(png_structp png, png_alloc_size_t size)
{
    png_state *s = png_get_mem_ptr(png);
    void *block = malloc(size);
    if (!block) s->no_memory = true;
    return block;
}

static void on_free(png_structp png, png_voidp block)
{
    (void)png;
    free(block);
}

static void on_error(png_structp png, png_const_charp message)
{
    png_state *s = png_get_error_ptr(png);
    snprintf(s->message, sizeof(s->message), "%s", message);
    /* Not png_jmpbuf(): while libpng is still creating its struct that macro replaces its jump
     * buffer, fails and calls this function again. */
    png_longjmp(png, 1);
}

static void on_read(png_structp png, png_bytep data, png_size_t size)
{
    png_state *s = png_get_io_ptr(png);
    if (size > s->in_size - s->in_at) png_error(png, "the file ends too early");
    memcpy(data, s->in + s->in_at, size);
    s->in_at += size;
}

static void on_write(png_structp png, png_bytep data, png_size_t size)
{
    png_state *s = png_get_io_ptr(png);
    if (size > s->out_capacity - s->out_size) {
        size_t capacity = 2 * s->out_capacity + size + 1024;
        uint8_t *grown = realloc(s->out, capacity);
        if (!grown) png_error(png, "out of memory");
        s->out = grown;
        s->out_capacity = capacity;
    }
    memcpy(s->out + s->out_size, data, size);
    s->out_size += size;
}

static void on_flush(png_structp png)
{
    (void)png;
}

static void state_free(png_state *s)
{
    if (!s) return;
    free(s->out);
    free(s->rgba);
    free(s->rows);
    free(s);
}

static uint32_t be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

bool dscm_png_is(const void *bytes, size_t size)
{
    static const uint8_t signature[8] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
    return size >= 8 && memcmp(bytes, signature, 8) == 0;
}

dscm_code dscm_png_header(const uint8_t *p, size_t size, size_t *h, size_t *w, dscm_error *err)
{
    if (size < 33 || be32(p + 8) != 13 || memcmp(p + 12, "IHDR", 4) != 0)
        return dscm_fail(err, DSCM_E_FORMAT, "the PNG file has no complete header");
    *w = be32(p + 16);
    *h = be32(p + 20);
    return DSCM_OK;
}

/* The header by hand: nothing is believed or allocated before this passes. */
static dscm_code check_header(const uint8_t *p, size_t size, const dscm_picture_limits *limits,
                              dscm_error *err)
{
    if (!dscm_png_is(p, size)) return dscm_fail(err, DSCM_E_FORMAT, "the data is not a PNG file");
    size_t w, h;
    dscm_code code = dscm_png_header(p, size, &h, &w, err);
    if (code != DSCM_OK) return code;
    if (w == 0 || h == 0 || w > 0x7fffffff || h > 0x7fffffff)
        return dscm_fail(err, DSCM_E_FORMAT, "the PNG header gives the size %zux%zu", w, h);
    return dscm_picture_fits(h, w, limits, err);
}

/* Text and profiles may expand a thousandfold: skipped without being looked at. libpng holds its
 * limit of memory against the length of skipped chunks too, and drawing programs write private ones
 * of megabytes: the limit is the file, whose own size the caller has bounded. */
static void set_limits(png_structp png, size_t file_size, const dscm_picture_limits *limits)
{
    static const png_byte skipped[] = "iCCP\0zTXt\0iTXt\0tEXt\0eXIf\0sPLT\0gAMA\0cHRM\0sRGB\0pHYs\0"
                                      "tIME\0bKGD\0hIST\0sBIT\0oFFs\0pCAL\0sCAL";
    png_set_user_limits(png, (png_uint_32)limits->side, (png_uint_32)limits->side);
    png_set_chunk_cache_max(png, 64);
    png_set_chunk_malloc_max(png, file_size);
    png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, NULL, 0);
    png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, skipped, (int)(sizeof(skipped) / 5));
}

/* Returns how often the rows are gone over. */
static int set_rgba(png_state *s)
{
    png_set_expand(s->png);
    png_set_scale_16(s->png);
    png_set_gray_to_rgb(s->png);
    png_set_add_alpha(s->png, 0xff, PNG_FILLER_AFTER);
    int passes = png_set_interlace_handling(s->png);
    png_read_update_info(s->png, s->info);
    return passes;
}

/* Where the run of IDAT chunks ends, as far as the file reaches. */
static size_t find_idat_end(const uint8_t *p, size_t size)
{
    size_t at = 8, end = 8; /* behind the signature */
    while (size - at >= 12) {
        size_t whole = (size_t)be32(p + at) + 12;
        bool idat = memcmp(p + at + 4, "IDAT", 4) == 0;
        if (!idat && end > 8) break;
        if (whole > size - at) return size;
        at += whole;
        if (idat) end = at;
    }
    return end;
}

/* By the file's eXIf chunk, wherever it stands; frames and checksums are libpng's to check. */
static int find_orientation(const uint8_t *p, size_t size)
{
    size_t at = 8;
    while (size - at >= 12) {
        size_t length = be32(p + at);
        if (length > size - at - 12) break;
        int found =
            memcmp(p + at + 4, "eXIf", 4) == 0 ? dscm_exif_orientation(p + at + 8, length) : 0;
        if (found) return found;
        at += length + 12;
    }
    return 1;
}

/* With the last row libpng unfolds all compressed data that is left, a thousandfold of megabytes, only
 * to call it an error: no more may be left than that row can take. */
static void check_rest(png_state *s, size_t packed_row)
{
    size_t most = 2 * packed_row + 4096; /* and the end of the stream, and empty chunks */
    if (s->idat_end > s->in_at && s->idat_end - s->in_at > most)
        png_error(s->png, "IDAT: Too much image data");
}

static void read_rows(png_state *s, size_t h, int passes, size_t packed_row)
{
    for (int pass = 0; pass < passes; pass++)
        for (size_t y = 0; y < h; y++) {
            if (pass + 1 == passes && y + 1 == h) check_rest(s, packed_row);
            png_read_row(s->png, s->rows[y], NULL);
        }
}

/* Everything that may longjmp on reading; true when s->rgba holds the image. */
static bool read_rgba(png_state *s, const dscm_picture_limits *limits)
{
    if (setjmp(png_jmpbuf(s->png))) return false;
    set_limits(s->png, s->in_size, limits);
    png_set_read_fn(s->png, s, on_read);
    png_read_info(s->png, s->info);
    size_t packed_row = png_get_rowbytes(s->png, s->info);
    int passes = set_rgba(s);
    size_t w = png_get_image_width(s->png, s->info), h = png_get_image_height(s->png, s->info);
    if (png_get_rowbytes(s->png, s->info) != w * 4) png_error(s->png, "unexpected row size");
    s->rgba = malloc(h * w * 4);
    s->rows = malloc(h * sizeof(*s->rows));
    s->no_memory = !s->rgba || !s->rows;
    if (s->no_memory) png_error(s->png, "out of memory");
    for (size_t y = 0; y < h; y++) s->rows[y] = s->rgba + y * w * 4;
    read_rows(s, h, passes, packed_row);
    png_read_end(s->png, s->info); /* without info, critical chunks would pass unread */
    return true;
}

static uint8_t over(uint8_t value, uint8_t alpha, uint8_t background)
{
    return (uint8_t)((value * alpha + background * (255 - alpha) + 127) / 255);
}

static void convert(uint8_t *out, const uint8_t *rgba, size_t count, size_t channels,
                    uint8_t background)
{
    for (size_t i = 0; i < count; i++, rgba += 4) {
        uint8_t rgb[3];
        for (int k = 0; k < 3; k++) rgb[k] = over(rgba[k], rgba[3], background);
        if (channels == 3) {
            memcpy(out + 3 * i, rgb, 3);
            continue;
        }
        out[i] = (uint8_t)((2126u * rgb[0] + 7152u * rgb[1] + 722u * rgb[2] + 5000u) / 10000u);
    }
}

dscm_code dscm_png_decode(dscm_picture *out, const void *bytes, size_t size, size_t channels,
                          uint8_t background, const dscm_picture_limits *limits, dscm_error *err)
{
    *out = (dscm_picture){.c = channels};
    dscm_code code = check_header(bytes, size, limits, err);
    if (code) return code;
    png_state *s = calloc(1, sizeof(*s));
    if (!s) return dscm_fail(err, DSCM_E_MEMORY, "no memory to read a PNG file");
    s->in = bytes;
    s->in_size = size;
    s->idat_end = find_idat_end(bytes, size);
    s->png = png_create_read_struct_2(PNG_LIBPNG_VER_STRING, s, on_error, on_error, s, on_malloc,
                                      on_free);
    s->info = s->png ? png_create_info_struct(s->png) : NULL;
    bool good = s->info && read_rgba(s, limits);
    if (good) {
        out->w = png_get_image_width(s->png, s->info);
        out->h = png_get_image_height(s->png, s->info);
        out->pixels = malloc(out->h * out->w * channels);
        if (out->pixels) convert(out->pixels, s->rgba, out->h * out->w, channels, background);
    }
    if (good && !out->pixels)
        code = dscm_fail(err, DSCM_E_MEMORY, "no memory for an image");
    else if (good)
        code = dscm_picture_turn(out, find_orientation(bytes, size), err);
    else if (s->no_memory || !s->info)
        code = dscm_fail(err, DSCM_E_MEMORY, "no memory to read a PNG file");
    else
        code = dscm_fail(err, DSCM_E_FORMAT, "the PNG file is damaged: %s", s->message);
    if (code != DSCM_OK) dscm_picture_free(out);
    png_destroy_read_struct(&s->png, &s->info, NULL);
    state_free(s);
    return code;
}

/* Warnings of a writer are left alone: it warns of short memory out of the midst of zlib, which has to
 * come back to tidy up, and tells the failure as an error afterwards. */
static void on_warning(png_structp png, png_const_charp message)
{
    (void)png, (void)message;
}

static bool write_rows(png_state *s, const dscm_picture *picture)
{
    if (setjmp(png_jmpbuf(s->png))) return false;
    png_set_write_fn(s->png, s, on_write, on_flush);
    png_set_IHDR(s->png, s->info, (png_uint_32)picture->w, (png_uint_32)picture->h, 8,
                 picture->c == 1 ? PNG_COLOR_TYPE_GRAY : PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE,
                 PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_set_compression_level(s->png, 6);
    png_write_info(s->png, s->info);
    for (size_t y = 0; y < picture->h; y++)
        png_write_row(s->png, picture->pixels + y * picture->w * picture->c);
    png_write_end(s->png, s->info);
    return true;
}

dscm_code dscm_png_encode(uint8_t **png, size_t *size, const dscm_picture *picture, dscm_error *err)
{
    *png = NULL;
    *size = 0;
    png_state *s = calloc(1, sizeof(*s));
    if (!s) return dscm_fail(err, DSCM_E_MEMORY, "no memory to write a PNG file");
    s->png = png_create_write_struct(PNG_LIBPNG_VER_STRING, s, on_error, on_warning);
    s->info = s->png ? png_create_info_struct(s->png) : NULL;
    dscm_code code = DSCM_OK;
    if (s->info && write_rows(s, picture)) {
        *png = s->out;
        *size = s->out_size;
        s->out = NULL;
    } else {
        code = dscm_fail(err, DSCM_E_MEMORY, "the PNG file could not be written: %s", s->message);
    }
    png_destroy_write_struct(&s->png, &s->info);
    state_free(s);
    return code;
}
