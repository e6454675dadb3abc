/* PNG and JPEG files built here by hand: every colour type and depth, limits, damage, bombs; and
 * fitting to a model's size. */
#include <stdbool.h>
#include <time.h>
#include <zlib.h>

#include "core/image/jpeg.h"
#include "core/image/png.h"
#include "core/image/resize.h"
#include "tests/core/image/jpeg_file.h"
#include "tests/core/image/png_file.h"
#include "tests/harness.h"

static const dscm_picture_limits limits = {.side = 512, .pixels = 512 * 512};

/* ---- building PNG files ---- */
static void put_compressed(buffer *b, const char *type, const char *prefix, size_t prefix_size,
                           const void *data, size_t size)
{
    uLongf packed = compressBound(size);
    unsigned char *chunk = malloc(prefix_size + packed);
    if (prefix_size) memcpy(chunk, prefix, prefix_size);
    if (compress2(chunk + prefix_size, &packed, data, size, 9) != Z_OK) abort();
    put_chunk(b, type, chunk, prefix_size + packed);
    free(chunk);
}

typedef struct png_kind {
    uint32_t w, h;
    int depth, type, interlace;
} png_kind;

static void put_head(buffer *b, const png_kind *k)
{
    buffer ihdr = {0};
    put(b, "\x89PNG\r\n\x1a\n", 8);
    put_big(&ihdr, k->w);
    put_big(&ihdr, k->h);
    put_number(&ihdr, (uint64_t)k->depth, 1);
    put_number(&ihdr, (uint64_t)k->type, 1);
    put_number(&ihdr, 0, 2);
    put_number(&ihdr, (uint64_t)k->interlace, 1);
    put_chunk(b, "IHDR", ihdr.bytes, ihdr.size);
    buffer_free(&ihdr);
}

static int samples_of(int type)
{
    return type == 2 ? 3 : type == 4 ? 2 : type == 6 ? 4 : 1;
}

/* Sample c of pixel (x,y), below 2^depth. */
static unsigned sample(const png_kind *k, uint32_t x, uint32_t y, int c)
{
    unsigned v = x * 37 + y * 101 + (unsigned)c * 61;
    return k->depth == 16 ? v * 257 % 65536 : v % (1u << k->depth);
}

/* Rows of one pass, unfiltered. */
static void put_pass(buffer *raw, const png_kind *k, uint32_t x0, uint32_t y0, uint32_t dx,
                     uint32_t dy)
{
    if (x0 >= k->w) return;
    for (uint32_t y = y0; y < k->h; y += dy) {
        unsigned bits = 0, have = 0;
        put_number(raw, 0, 1);
        for (uint32_t x = x0; x < k->w; x += dx)
            for (int c = 0; c < samples_of(k->type); c++) {
                unsigned v = sample(k, x, y, c);
                if (k->depth == 16) put_number(raw, v >> 8, 1);
                if (k->depth >= 8) {
                    put_number(raw, v & 255, 1);
                    continue;
                }
                bits = bits << k->depth | v;
                have += (unsigned)k->depth;
                if (have == 8) put_number(raw, bits & 255, 1);
                if (have == 8) have = 0;
            }
        if (have) put_number(raw, bits << (8 - have) & 255, 1);
    }
}

static buffer build_png(const png_kind *k)
{
    static const uint32_t adam7[7][4] = {{0, 0, 8, 8}, {4, 0, 8, 8}, {0, 4, 4, 8}, {2, 0, 4, 4},
                                         {0, 2, 2, 4}, {1, 0, 2, 2}, {0, 1, 1, 2}};
    buffer b = {0}, raw = {0};
    put_head(&b, k);
    if (k->type == 3) {
        unsigned char palette[768], alpha[256];
        for (int i = 0; i < 256; i++) {
            palette[3 * i] = (unsigned char)i;
            palette[3 * i + 1] = (unsigned char)(255 - i);
            palette[3 * i + 2] = (unsigned char)(3 * i);
            alpha[i] = i == 1 ? 0 : 255;
        }
        put_chunk(&b, "PLTE", palette, (size_t)3 << k->depth);
        put_chunk(&b, "tRNS", alpha, (size_t)1 << k->depth);
    }
    for (int p = 0; k->interlace && p < 7; p++)
        put_pass(&raw, k, adam7[p][0], adam7[p][1], adam7[p][2], adam7[p][3]);
    if (!k->interlace) put_pass(&raw, k, 0, 0, 1, 1);
    put_compressed(&b, "IDAT", NULL, 0, raw.bytes, raw.size);
    put_chunk(&b, "IEND", NULL, 0);
    buffer_free(&raw);
    return b;
}

/* What pixel (x,y) must become on the background, by the rules of core/image/png.h. */
static void expected(const png_kind *k, uint32_t x, uint32_t y, unsigned background,
                     unsigned rgb[3])
{
    unsigned v[4] = {0, 0, 0, 255};
    int colours = k->type == 2 || k->type == 6 ? 3 : 1;
    for (int c = 0; c < samples_of(k->type); c++) {
        unsigned s = sample(k, x, y, c);
        unsigned eight = k->depth == 16  ? (s * 255 + 32895) >> 16
                         : k->depth == 8 ? s
                                         : s * 255 / ((1u << k->depth) - 1);
        v[c < colours ? c : 3] = eight;
    }
    if (colours == 1) v[1] = v[2] = v[0];
    if (k->type == 3) {
        unsigned i = sample(k, x, y, 0);
        v[0] = i;
        v[1] = 255 - i;
        v[2] = 3 * i % 256;
        v[3] = i == 1 ? 0 : 255;
    }
    for (int c = 0; c < 3; c++) rgb[c] = (v[c] * v[3] + background * (255 - v[3]) + 127) / 255;
}

static void check_png(const png_kind *k, unsigned background)
{
    buffer b = build_png(k);
    for (size_t channels = 1; channels <= 3; channels += 2) {
        dscm_picture out = {0};
        dscm_error err = {0};
        CHECK_INT(
            dscm_png_decode(&out, b.bytes, b.size, channels, (uint8_t)background, &limits, &err),
            DSCM_OK);
        CHECK_STR(err.message, "");
        REQUIRE(out.pixels && out.w == k->w && out.h == k->h);
        for (uint32_t y = 0; y < k->h; y++)
            for (uint32_t x = 0; x < k->w; x++) {
                unsigned rgb[3];
                expected(k, x, y, background, rgb);
                const uint8_t *p = out.pixels + (y * k->w + x) * channels;
                if (channels == 3)
                    for (int c = 0; c < 3; c++) CHECK_INT(p[c], rgb[c]);
                else
                    CHECK_NEAR(p[0], .2126 * rgb[0] + .7152 * rgb[1] + .0722 * rgb[2], .51);
            }
        dscm_picture_free(&out);
    }
    buffer_free(&b);
}

static void every_png_kind(void)
{
    static const int kinds[][2] = {{0, 1}, {0, 2}, {0, 4}, {0, 8}, {0, 16}, {2, 8}, {2, 16}, {3, 1},
                                   {3, 2}, {3, 4}, {3, 8}, {4, 8}, {4, 16}, {6, 8}, {6, 16}};
    for (size_t i = 0; i < TEST_COUNT(kinds); i++)
        for (int interlace = 0; interlace < 2; interlace++) {
            png_kind k = {13, 9, kinds[i][1], kinds[i][0], interlace};
            check_png(&k, 0);
            check_png(&k, 255);
            k.w = k.h = 1;
            check_png(&k, 128);
        }
}

static void check_refused(const buffer *b, size_t size, dscm_code code, const char *part)
{
    dscm_picture out = {0};
    dscm_error err = {0};
    unsigned char *copy = malloc(size ? size : 1); /* exact size: ASan guards its end */
    if (size) memcpy(copy, b->bytes, size);
    dscm_code got = dscm_jpeg_is(copy, size)
                        ? dscm_jpeg_decode(&out, copy, size, 3, 0, &limits, &err)
                        : dscm_png_decode(&out, copy, size, 3, 0, &limits, &err);
    CHECK_INT(got, code);
    CHECK(out.pixels == NULL);
    CHECK_HAS(err.message, part);
    dscm_picture_free(&out);
    free(copy);
}

static void damaged_png(void)
{
    const png_kind k = {13, 9, 8, 2, 0};
    buffer b = build_png(&k);
    for (size_t cut = 0; cut < b.size; cut++)
        check_refused(&b, cut, DSCM_E_FORMAT, cut < 8 ? "not a PNG" : "PNG");
    b.bytes[b.size - 20] ^= 1; /* checksum of IDAT */
    check_refused(&b, b.size, DSCM_E_FORMAT, "damaged");
    buffer_free(&b);
    const png_kind odd[] = {{4, 4, 3, 0, 0}, {4, 4, 8, 5, 0}, {4, 4, 16, 3, 0}, {4, 4, 8, 2, 2}};
    for (size_t i = 0; i < TEST_COUNT(odd); i++) {
        buffer head = {0};
        put_head(&head, &odd[i]);
        put_chunk(&head, "IEND", NULL, 0);
        check_refused(&head, head.size, DSCM_E_FORMAT, "damaged");
        buffer_free(&head);
    }
}

/* Files that would unfold to gigabytes if they were believed. */
static void png_bombs(void)
{
    const png_kind sizes[] = {
        {513, 1, 8, 0, 0}, {1, 513, 8, 0, 0}, {0x7fffffff, 0x7fffffff, 16, 6, 0}};
    for (size_t i = 0; i < TEST_COUNT(sizes); i++) {
        buffer head = {0};
        put_head(&head, &sizes[i]);
        check_refused(&head, head.size, DSCM_E_LIMIT, "at most 512");
        buffer_free(&head);
    }
    const png_kind zero = {0, 4, 8, 0, 0};
    buffer head = {0};
    put_head(&head, &zero);
    check_refused(&head, head.size, DSCM_E_FORMAT, "size 0x4");
    buffer_free(&head);

    const png_kind k = {4, 4, 8, 0, 0};
    size_t blanks = (size_t)16 << 20;
    char *text = calloc(1, blanks);
    /* more image data than the header's pixels */
    buffer long_data = {0};
    put_head(&long_data, &k);
    put_compressed(&long_data, "IDAT", NULL, 0, text, blanks);
    put_chunk(&long_data, "IEND", NULL, 0);
    check_refused(&long_data, long_data.size, DSCM_E_FORMAT, "damaged");
    free(text);
    buffer_free(&long_data);
}

/* 4 GiB of zeros in 4 MiB: a block that stands for itself, as often as it takes. */
static buffer packed_zeros(void)
{
    enum { BLOCK = 1 << 20, TIMES = 4096 };
    buffer out = {0};
    unsigned char *zeros = calloc(1, BLOCK), packed[8192];
    z_stream z = {0};
    if (!zeros || deflateInit(&z, 9) != Z_OK) abort();
    for (int i = 0; i < 2; i++) { /* the first one begins with the head of the stream */
        z.next_in = zeros;
        z.avail_in = BLOCK;
        z.next_out = packed;
        z.avail_out = sizeof packed;
        if (deflate(&z, Z_FULL_FLUSH) != Z_OK || !z.avail_out) abort();
        for (int k = 0; k < (i ? TIMES : 1); k++) put(&out, packed, sizeof packed - z.avail_out);
    }
    deflateEnd(&z);
    free(zeros);
    return out;
}

/* What follows the last row is not unfolded: neither in one chunk nor in many. */
static void png_bomb_behind_the_rows(void)
{
    const png_kind k = {4, 4, 8, 0, 0};
    buffer data = packed_zeros();
    for (size_t piece = 1024; piece <= data.size; piece = piece == 1024 ? data.size : piece + 1) {
        buffer b = {0};
        put_head(&b, &k);
        for (size_t at = 0; at + piece <= data.size; at += piece)
            put_chunk(&b, "IDAT", data.bytes + at, piece);
        put_chunk(&b, "IEND", NULL, 0);
        clock_t start = clock();
        check_refused(&b, b.size, DSCM_E_FORMAT, "Too much image data");
        CHECK((double)(clock() - start) / CLOCKS_PER_SEC < 1);
        buffer_free(&b);
    }
    buffer_free(&data);
}

/* The sound file with `count` copies of a chunk behind its header, or before its end. */
static buffer with_chunk(const buffer *sound, const buffer *chunk, int count, bool at_end)
{
    size_t at = at_end ? sound->size - 12 : 33;
    buffer b = {0};
    put(&b, sound->bytes, at);
    for (int i = 0; i < count; i++) put(&b, chunk->bytes, chunk->size);
    put(&b, sound->bytes + at, sound->size - at);
    return b;
}

/* In either place the picture is what it is without the chunk. */
static void check_skipped(const buffer *sound, const buffer *chunk, int count)
{
    dscm_picture want = {0}, out = {0};
    dscm_error err = {0};
    CHECK_INT(dscm_png_decode(&want, sound->bytes, sound->size, 1, 0, &limits, &err), DSCM_OK);
    for (int at_end = 0; at_end < 2; at_end++) {
        buffer b = with_chunk(sound, chunk, count, at_end);
        CHECK_INT(dscm_png_decode(&out, b.bytes, b.size, 1, 0, &limits, &err), DSCM_OK);
        CHECK_STR(err.message, "");
        CHECK(out.pixels && memcmp(out.pixels, want.pixels, want.w * want.h) == 0);
        dscm_picture_free(&out);
        buffer_free(&b);
    }
    dscm_picture_free(&want);
}

/* Text, profiles and private data are skipped unread: what they unfold to costs nothing, and what
 * they hold cannot spoil a sound picture. */
static void png_skipped_chunks(void)
{
    static const struct {
        const char *type, *prefix;
        size_t prefix_size;
    } packed[] = {{"zTXt", "a\0\0", 3}, {"iCCP", "a\0\0", 3}, {"iTXt", "a\0\1\0\0\0", 6}};
    static const char *const types[] = {"zTXt", "iCCP", "iTXt", "tEXt", "eXIf", "sPLT",
                                        "gAMA", "cHRM", "pHYs", "tIME", "prVW"};
    static const size_t lengths[] = {0, 1, 5000, (size_t)3 << 20};
    const png_kind k = {4, 4, 8, 0, 0};
    buffer sound = build_png(&k);
    size_t blanks = (size_t)16 << 20;
    char *data = calloc(1, blanks);
    clock_t start = clock();
    for (size_t i = 0; i < TEST_COUNT(packed); i++) { /* 640 MiB each, if they were unfolded */
        buffer bomb = {0};
        put_compressed(&bomb, packed[i].type, packed[i].prefix, packed[i].prefix_size, data,
                       blanks);
        clock_t packing = clock() - start;
        check_skipped(&sound, &bomb, 40);
        start += packing;
        buffer_free(&bomb);
    }
    double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
    CHECK(seconds < 1.5);       /* unfolding 3.75 GiB takes longer on any machine */
    memset(data, 0xa5, blanks); /* no compressed data, no keyword, no sensible values */
    for (size_t i = 0; i < TEST_COUNT(types); i++)
        for (size_t n = 0; n < TEST_COUNT(lengths); n++) {
            buffer chunk = {0};
            put_chunk(&chunk, types[i], data, lengths[n]);
            check_skipped(&sound, &chunk, 1);
            buffer_free(&chunk);
        }
    free(data);
    buffer_free(&sound);
}

/* Of a skipped chunk the frame is still checked: length, checksum, and that it may be skipped. */
static void png_broken_chunks(void)
{
    const png_kind k = {4, 4, 8, 0, 0};
    buffer sound = build_png(&k);
    for (int fault = 0; fault < 3; fault++)
        for (int at_end = 0; at_end < 2; at_end++) {
            buffer chunk = {0};
            put_chunk(&chunk, fault == 2 ? "PrVW" : "zTXt", "a\0\0xyz", 6);
            if (fault == 0) chunk.bytes[chunk.size - 1] ^= 1;
            if (fault == 1) chunk.bytes[1] = 1; /* 65,542 bytes long, it says */
            buffer b = with_chunk(&sound, &chunk, 1, at_end);
            check_refused(&b, b.size, DSCM_E_FORMAT, "damaged");
            buffer_free(&b);
            buffer_free(&chunk);
        }
    buffer_free(&sound);
}

static void png_round_trip(void)
{
    for (size_t channels = 1; channels <= 3; channels += 2) {
        uint8_t pixels[7 * 5 * 3];
        for (size_t i = 0; i < sizeof pixels; i++) pixels[i] = (uint8_t)(i * 29);
        const dscm_picture in = {.h = 7, .w = 5, .c = channels, .pixels = pixels};
        uint8_t *a = NULL, *b = NULL;
        size_t a_size = 0, b_size = 0;
        dscm_picture out = {0};
        dscm_error err = {0};
        CHECK_INT(dscm_png_encode(&a, &a_size, &in, &err), DSCM_OK);
        CHECK_INT(dscm_png_encode(&b, &b_size, &in, &err), DSCM_OK);
        CHECK(a && b && a_size == b_size && memcmp(a, b, a_size) == 0);
        CHECK_INT(dscm_png_decode(&out, a, a_size, channels, 0, &limits, &err), DSCM_OK);
        CHECK(out.pixels && memcmp(out.pixels, pixels, 35 * channels) == 0);
        dscm_picture_free(&out);
        free(a);
        free(b);
    }
}

/* ---- JPEG ---- */
static void half_dark_half_blue(const jpeg_plan *plan, unsigned y, unsigned char *out)
{
    for (unsigned x = 0; x < plan->w; x++) {
        out[3 * x] = out[3 * x + 1] = x < plan->w / 2 ? 40 : 200;
        out[3 * x + 2] = y < plan->h / 2 ? 255 : 0;
    }
}

/* w x h, left half dark, upper half blue; with an EXIF orientation unless 0; in one scan unless
 * `scans` tells more. */
static buffer build_jpeg_of(unsigned w, unsigned h, int orientation, bool big_endian,
                            const jpeg_scan_info *scans, int count)
{
    unsigned char exif[32] = "Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0";
    static const unsigned char big[] = "Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0";
    exif[24] = (unsigned char)orientation;
    if (big_endian) {
        memcpy(exif, big, 25);
        exif[25] = (unsigned char)orientation;
    }
    return jpeg_file(&(jpeg_plan){.w = w,
                                  .h = h,
                                  .channels = 3,
                                  .row = half_dark_half_blue,
                                  .segments = (const unsigned char *const[]){exif},
                                  .sizes = (const size_t[]){sizeof exif},
                                  .segments_count = orientation != 0,
                                  .scans = scans,
                                  .scans_count = count});
}

static buffer build_jpeg(unsigned w, unsigned h, int orientation, bool big_endian)
{
    return build_jpeg_of(w, h, orientation, big_endian, NULL, 0);
}

/* Orientation n: where the stored top left corner (dark, blue) is seen, and whether the sides are
 * exchanged (EXIF 2.3, 4.6.4). */
static void jpeg_orientations(void)
{
    static const int at_right[9] = {0, 0, 1, 1, 0, 0, 1, 1, 0};
    static const int at_bottom[9] = {0, 0, 0, 1, 1, 0, 0, 1, 1};
    for (int n = 0; n <= 8; n++)
        for (int endian = 0; endian < 2; endian++) {
            buffer b = build_jpeg(64, 32, n, endian);
            dscm_picture out = {0};
            dscm_error err = {0};
            CHECK_INT(dscm_jpeg_decode(&out, b.bytes, b.size, 3, 0, &limits, &err), DSCM_OK);
            CHECK_STR(err.message, "");
            REQUIRE(out.pixels != NULL);
            CHECK_INT(out.w, n >= 5 ? 32 : 64);
            CHECK_INT(out.h, n >= 5 ? 64 : 32);
            size_t x = at_right[n] ? out.w - 3 : 2, y = at_bottom[n] ? out.h - 3 : 2;
            const uint8_t *p = out.pixels + (y * out.w + x) * 3;
            CHECK_NEAR(p[0], 40, 6);
            CHECK_NEAR(p[2], 255, 6);
            const uint8_t *q = out.pixels + ((out.h - 1 - y) * out.w + (out.w - 1 - x)) * 3;
            CHECK_NEAR(q[0], 200, 6);
            CHECK_NEAR(q[2], 0, 6);
            dscm_picture_free(&out);
            buffer_free(&b);
        }
}

static void damaged_jpeg(void)
{
    buffer b = build_jpeg(64, 32, 6, false);
    for (size_t cut = 3; cut < b.size - 2; cut++) check_refused(&b, cut, DSCM_E_FORMAT, "JPEG");
    buffer_free(&b);
    b = build_jpeg(64, 32, 0, false);
    for (size_t i = 2; i + 9 < b.size; i++)
        if (b.bytes[i] == 0xff && b.bytes[i + 1] == 0xc0) { /* height and width of the frame */
            memset(b.bytes + i + 5, 0x10, 4);
            break;
        }
    check_refused(&b, b.size, DSCM_E_LIMIT, "at most 512");
    buffer_free(&b);
}

/* A progressive file whose last scan, a few bytes, comes 20,000 times: each costs a pass over the
 * whole picture, and nothing in the file is wrong. */
static void jpeg_bomb_of_scans(void)
{
    static const jpeg_scan_info script[] = {{3, {0, 1, 2}, 0, 0, 0, 0},
                                            {1, {0}, 1, 63, 0, 0},
                                            {1, {1}, 1, 63, 0, 0},
                                            {1, {2}, 1, 63, 0, 0}};
    buffer sound = build_jpeg_of(512, 512, 0, false, script, 4), bomb = {0};
    size_t scan = sound.size - 2; /* in front of the end mark */
    while (scan && !(sound.bytes[scan] == 0xff && sound.bytes[scan + 1] == 0xda)) scan--;
    dscm_picture out = {0};
    dscm_error err = {0};
    CHECK_INT(dscm_jpeg_decode(&out, sound.bytes, sound.size, 3, 0, &limits, &err), DSCM_OK);
    dscm_picture_free(&out);
    /* 100 scans are accepted, 101 are not. */
    for (int copies = 97; copies <= 98; copies++) {
        buffer edge = {0};
        put(&edge, sound.bytes, scan);
        for (int i = 0; i < copies; i++) put(&edge, sound.bytes + scan, sound.size - 2 - scan);
        put(&edge, "\xff\xd9", 2);
        err = (dscm_error){0};
        CHECK_INT(dscm_jpeg_decode(&out, edge.bytes, edge.size, 3, 0, &limits, &err),
                  copies == 97 ? DSCM_OK : DSCM_E_FORMAT);
        dscm_picture_free(&out);
        buffer_free(&edge);
    }
    put(&bomb, sound.bytes, scan);
    for (int i = 0; i < 20000; i++) put(&bomb, sound.bytes + scan, sound.size - 2 - scan);
    put(&bomb, "\xff\xd9", 2);
    clock_t start = clock();
    check_refused(&bomb, bomb.size, DSCM_E_FORMAT, "scans");
    CHECK((double)(clock() - start) / CLOCKS_PER_SEC < 1);
    buffer_free(&sound);
    buffer_free(&bomb);
}

/* Reduced decoding keeps at least twice the wanted side. */
static void reduced_jpeg(void)
{
    buffer b = build_jpeg(512, 256, 0, false);
    dscm_picture out = {0};
    dscm_error err = {0};
    CHECK_INT(dscm_jpeg_decode(&out, b.bytes, b.size, 1, 32, &limits, &err), DSCM_OK);
    CHECK_INT(out.w, 128);
    CHECK_INT(out.h, 64);
    dscm_picture_free(&out);
    buffer_free(&b);
}

/* ---- fitting ---- */
static void area_average(void)
{
    uint8_t in[6 * 9], out[6 * 9];
    dscm_error err = {0};
    for (size_t i = 0; i < sizeof in; i++) in[i] = (uint8_t)(i * 47);
    const dscm_picture picture = {.h = 6, .w = 9, .c = 1, .pixels = in};
    static const size_t sizes[][2] = {{6, 9}, {3, 3}, {2, 4}, {5, 7}, {1, 1}};
    for (size_t s = 0; s < TEST_COUNT(sizes); s++) {
        size_t oh = sizes[s][0], ow = sizes[s][1];
        CHECK_INT(dscm_resize_area(out, oh, ow, &picture, &err), DSCM_OK);
        for (size_t y = 0; y < oh; y++)
            for (size_t x = 0; x < ow; x++) {
                double sum = 0, top = 6.0 * (double)y / (double)oh,
                       left = 9.0 * (double)x / (double)ow;
                double bottom = top + 6.0 / (double)oh, right = left + 9.0 / (double)ow;
                for (size_t i = 0; i < 6; i++)
                    for (size_t k = 0; k < 9; k++) {
                        double dy = fmin(bottom, (double)i + 1) - fmax(top, (double)i);
                        double dx = fmin(right, (double)k + 1) - fmax(left, (double)k);
                        if (dy > 0 && dx > 0) sum += dy * dx * in[i * 9 + k];
                    }
                CHECK_NEAR(out[y * ow + x], sum / ((bottom - top) * (right - left)), .51);
            }
    }
}

static void fit_and_crop(void)
{
    uint8_t in[8 * 16], out[4 * 4];
    dscm_error err = {0};
    for (size_t i = 0; i < sizeof in; i++) in[i] = i % 16 < 8 ? 100 : 200;
    const dscm_picture wide = {.h = 8, .w = 16, .c = 1, .pixels = in};
    static const uint8_t fitted[16] = {7,   7,   7,   7,   100, 100, 200, 200,
                                       100, 100, 200, 200, 7,   7,   7,   7};
    CHECK_INT(dscm_resize_fit(out, 4, 4, &wide, 7, &err), DSCM_OK);
    CHECK(memcmp(out, fitted, 16) == 0);
    CHECK_INT(dscm_resize_crop(out, 4, 4, &wide, &err), DSCM_OK);
    for (int i = 0; i < 16; i++) CHECK_INT(out[i], i % 4 < 2 ? 100 : 200);
    const dscm_picture dot = {.h = 1, .w = 1, .c = 1, .pixels = in};
    CHECK_INT(dscm_resize_crop(out, 4, 4, &dot, &err), DSCM_OK);
    for (int i = 0; i < 16; i++) CHECK_INT(out[i], 100);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {{"every_png_kind", every_png_kind},
                                      {"damaged_png", damaged_png},
                                      {"png_bombs", png_bombs},
                                      {"png_bomb_behind_the_rows", png_bomb_behind_the_rows},
                                      {"png_skipped_chunks", png_skipped_chunks},
                                      {"png_broken_chunks", png_broken_chunks},
                                      {"png_round_trip", png_round_trip},
                                      {"jpeg_orientations", jpeg_orientations},
                                      {"damaged_jpeg", damaged_jpeg},
                                      {"jpeg_bomb_of_scans", jpeg_bomb_of_scans},
                                      {"reduced_jpeg", reduced_jpeg},
                                      {"area_average", area_average},
                                      {"fit_and_crop", fit_and_crop}};
    return test_main(argc, argv, cases, TEST_COUNT(cases));
}
