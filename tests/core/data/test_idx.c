/* IDX files: real data, round trips, and every kind of lie. */
#include <malloc.h>
#include <unistd.h>
#include <zlib.h>

#include "core/base/memory.h"
#include "core/data/dataset.h"
#include "core/data/idx.h"
#include "core/io/file.h"
#include "tests/core/io/archive.h"
#include "tests/harness.h"

#define FASHION "/usr/share/datasets/fashion-mnist"

/* The engine's memory comes from here; what a lie costs is looked at. */
static size_t largest;

void *aligned_alloc(size_t align, size_t size)
{
    if (size > largest) largest = size;
    return memalign(align, size);
}

static void put_header(buffer *b, int dims, const uint32_t *sizes)
{
    const unsigned char magic[4] = {0, 0, 8, (unsigned char)dims};
    put(b, magic, 4);
    for (int d = 0; d < dims; d++)
        for (int i = 3; i >= 0; i--) put_number(b, sizes[d] >> (8 * i), 1);
}

static buffer gzip(const buffer *in)
{
    buffer out = {0};
    z_stream z = {0};
    if (deflateInit2(&z, 9, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY) != Z_OK) abort();
    size_t bound = deflateBound(&z, in->size);
    out.bytes = malloc(bound);
    z.next_in = in->bytes;
    z.avail_in = (uInt)in->size;
    z.next_out = out.bytes;
    z.avail_out = (uInt)bound;
    if (deflate(&z, Z_FINISH) != Z_STREAM_END) abort();
    out.size = z.total_out;
    deflateEnd(&z);
    return out;
}

static void check_refused(const buffer *b, size_t size, const char *part)
{
    dscm_idx idx;
    dscm_error err = {0};
    unsigned char *copy = malloc(size ? size : 1); /* exact size: ASan guards its end */
    if (size) memcpy(copy, b->bytes, size);
    CHECK(dscm_idx_read_memory(&idx, copy, size, "x-idx", &err) != DSCM_OK);
    CHECK(idx.data == NULL);
    CHECK_HAS(err.message, "x-idx");
    CHECK_HAS(err.message, part);
    free(copy);
}

static void lies(void)
{
    const uint32_t small[3] = {2, 3, 4}, large[3] = {60000, 28, 1000};
    const uint32_t huge[4] = {0xffffffffu, 0xffffffffu, 0xffffffffu, 0xffffffffu};
    unsigned char pixels[24];
    for (int i = 0; i < 24; i++) pixels[i] = (unsigned char)(i * i);
    buffer b = {0};
    put_header(&b, 3, small);
    put(&b, pixels, sizeof pixels);
    dscm_idx idx;
    dscm_error err = {0};
    CHECK_INT(dscm_idx_read_memory(&idx, b.bytes, b.size, "x-idx", &err), DSCM_OK);
    CHECK_INT(idx.count, 24);
    CHECK(memcmp(idx.data, pixels, 24) == 0);
    dscm_idx_free(&idx);
    for (size_t cut = 0; cut < b.size; cut++) check_refused(&b, cut, "");
    buffer z = gzip(&b);
    CHECK_INT(dscm_idx_read_memory(&idx, z.bytes, z.size, "x-idx", &err), DSCM_OK);
    CHECK(memcmp(idx.data, pixels, 24) == 0);
    dscm_idx_free(&idx);
    for (size_t cut = 0; cut < z.size; cut++) check_refused(&z, cut, "");
    z.bytes[z.size - 6] ^= 1; /* checksum of the content */
    check_refused(&z, z.size, "damaged");
    buffer_free(&z);
    put_text(&b, "x");
    check_refused(&b, b.size, "too long");
    z = gzip(&b);
    check_refused(&z, z.size, "too long");
    buffer_free(&z);
    buffer_free(&b);

    put_header(&b, 3, large); /* promises 1.7 GB in a few bytes */
    check_refused(&b, b.size, "cut off");
    z = gzip(&b);
    largest = 0;
    check_refused(&z, z.size, "cut off");
    CHECK(largest < 1 << 20);
    buffer_free(&z);
    buffer_free(&b);
    put_header(&b, 4, huge);
    check_refused(&b, b.size, "2 GiB");
    b.bytes[2] = 13; /* floats */
    check_refused(&b, b.size, "unsigned bytes");
    buffer_free(&b);
}

/* No image is a file as good as any other; a data set needs some. */
static void no_images(void)
{
    const uint32_t sizes[3] = {0, 28, 28};
    buffer b = {0};
    put_header(&b, 3, sizes);
    for (int packed = 0; packed < 2; packed++) {
        buffer z = packed ? gzip(&b) : b;
        dscm_idx idx;
        dscm_error err = {0};
        CHECK_INT(dscm_idx_read_memory(&idx, z.bytes, z.size, "x-idx", &err), DSCM_OK);
        CHECK_STR(err.message, "");
        CHECK_INT(idx.count, 0);
        CHECK_INT(idx.dims[2], 28);
        dscm_idx_free(&idx);
        for (size_t cut = 0; cut < z.size; cut++) check_refused(&z, cut, "");
        if (packed) {
            z.bytes[z.size - 6] ^= 1; /* checksum of the content */
            check_refused(&z, z.size, "damaged");
            buffer_free(&z);
        }
    }
    put_text(&b, "x");
    check_refused(&b, b.size, "too long");
    buffer z = gzip(&b);
    check_refused(&z, z.size, "too long");
    buffer_free(&z);
    buffer_free(&b);
}

/* Deflate shrinks zeros about 1030-fold: the most that a header may promise of a file's size. */
static void black_images(void)
{
    const uint32_t sizes[3] = {10000, 28, 28};
    static unsigned char zeros[10000 * 28 * 28];
    buffer b = {0};
    dscm_idx idx;
    dscm_error err = {0};
    put_header(&b, 3, sizes);
    put(&b, zeros, sizeof zeros);
    buffer z = gzip(&b);
    CHECK(b.size / z.size > 1010);
    CHECK_INT(dscm_idx_read_memory(&idx, z.bytes, z.size, "x-idx", &err), DSCM_OK);
    CHECK_INT(idx.count, sizeof zeros);
    dscm_idx_free(&idx);
    buffer_free(&z);
    buffer_free(&b);
}

/* Writes a file of a data set below `dir`. */
static void write_part(const char *dir, const char *name, int ndim, const size_t *dims)
{
    static uint8_t bytes[64];
    char path[128];
    dscm_error err = {0};
    dscm_idx idx = {.ndim = ndim, .count = 1, .data = bytes};
    for (int d = 0; d < ndim; d++) idx.count *= idx.dims[d] = dims[d];
    snprintf(path, sizeof path, "%s/train-%s-idx%d-ubyte", dir, name, name[0] == 'i' ? 3 : 1);
    CHECK_INT(dscm_idx_write(&idx, path, &err), DSCM_OK);
}

/* The folder that write_part filled. */
static void remove_parts(const char *dir)
{
    char path[128];
    snprintf(path, sizeof path, "%s/train-images-idx3-ubyte", dir);
    unlink(path);
    snprintf(path, sizeof path, "%s/train-labels-idx1-ubyte", dir);
    unlink(path);
    rmdir(dir);
}

/* As many labels as images; a fourth dimension is the channels. */
static void data_sets(void)
{
    static const struct {
        int ndim;
        size_t images[4], labels[2];
        int label_dims;
        const char *fault; /* NULL: good */
    } sets[] = {{3, {3, 2, 4}, {3}, 1, NULL},
                {4, {3, 2, 2, 3}, {3}, 1, NULL},
                {3, {3, 2, 4}, {2}, 1, "labels-idx1-ubyte: 2 labels for the 3 images of"},
                {3, {3, 2, 4}, {4}, 1, "labels-idx1-ubyte: 4 labels for the 3 images of"},
                {3, {3, 2, 4}, {3, 1}, 2, "labels-idx1-ubyte: 2 dimensions; labels have 1"},
                {2, {3, 8}, {3}, 1, "images-idx3-ubyte: 2 dimensions; images have 3"},
                {3, {0, 2, 4}, {0}, 1, "images-idx3-ubyte: holds no images (0 of 2x4); at least 1"},
                {3, {3, 0, 4}, {3}, 1, "images-idx3-ubyte: holds no images (3 of 0x4)"}};
    char dir[] = "/tmp/dscm-data-XXXXXX";
    REQUIRE(mkdtemp(dir));
    for (size_t i = 0; i < TEST_COUNT(sets); i++) {
        dscm_dataset set;
        dscm_error err = {0};
        write_part(dir, "images", sets[i].ndim, sets[i].images);
        write_part(dir, "labels", sets[i].label_dims, sets[i].labels);
        dscm_code code = dscm_dataset_open(&set, dir, "train", &err);
        CHECK_INT(code, sets[i].fault ? DSCM_E_MISMATCH : DSCM_OK);
        if (sets[i].fault) CHECK_HAS(err.message, dir);
        if (sets[i].fault) CHECK_HAS(err.message, sets[i].fault);
        if (code == DSCM_OK) CHECK_INT(set.c, sets[i].ndim == 4 ? 3 : 1);
        dscm_dataset_free(&set);
    }
    remove_parts(dir);
}

static void splits_are_sliced_in_file_order(void)
{
    static const struct {
        const char *split;
        size_t first, count; /* count 0: refused */
        const char *fault;
    } slices[] = {{"train[0:2]", 0, 2, NULL},
                  {"train[1:]", 1, 4, NULL},
                  {"train[:3]", 0, 3, NULL},
                  {"train[4:5]", 4, 1, NULL},
                  {"train[:]", 0, 5, NULL},
                  {"train[2:6]", 0, 0, "there are 5 images, 0..4"},
                  {"train[5:]", 0, 0, "there are 5 images, 0..4"},
                  {"train[0:18446744073709551615]", 0, 0, "there are 5 images, 0..4"},
                  {"train[0:99999999999999999999]", 0, 0, "there are 5 images, 0..4"},
                  {"train[3:3]", 0, 0, "FIRST below END"},
                  {"train[3:1]", 0, 0, "FIRST below END"},
                  {"train[-1:3]", 0, 0, "NAME[FIRST:END]"},
                  {"train[1:3", 0, 0, "NAME[FIRST:END]"},
                  {"train[1:3]x", 0, 0, "NAME[FIRST:END]"},
                  {"train[]", 0, 0, "NAME[FIRST:END]"}};
    char dir[] = "/tmp/dscm-data-XXXXXX";
    REQUIRE(mkdtemp(dir));
    write_part(dir, "images", 3, (const size_t[]){5, 2, 1});
    write_part(dir, "labels", 1, (const size_t[]){5});
    dscm_dataset whole;
    dscm_error err = {0};
    REQUIRE(dscm_dataset_open(&whole, dir, "train", &err) == DSCM_OK);
    for (size_t i = 0; i < TEST_COUNT(slices); i++) {
        dscm_dataset set;
        err = (dscm_error){0};
        dscm_code code = dscm_dataset_open(&set, dir, slices[i].split, &err);
        CHECK_INT(code, slices[i].count ? DSCM_OK : DSCM_E_INVALID);
        CHECK_INT(set.count, slices[i].count);
        if (slices[i].fault) CHECK_HAS(err.message, slices[i].split);
        if (slices[i].fault) CHECK_HAS(err.message, slices[i].fault);
        if (code == DSCM_OK) {
            CHECK(memcmp(set.pixels, whole.pixels + 2 * slices[i].first, 2 * set.count) == 0);
            CHECK(memcmp(set.labels, whole.labels + slices[i].first, set.count) == 0);
            CHECK((strcmp(set.sha256, whole.sha256) == 0) == (set.count == whole.count));
        }
        dscm_dataset_free(&set);
    }
    dscm_dataset_free(&whole);
    remove_parts(dir);
}

static void written_files(void)
{
    static const char *const names[] = {"/tmp/dscm-idx-%d-idx3-ubyte",
                                        "/tmp/dscm-idx-%d-idx3-ubyte.gz"};
    uint8_t pixels[2 * 5 * 7];
    for (size_t i = 0; i < sizeof pixels; i++) pixels[i] = (uint8_t)(37 * i);
    const dscm_idx idx = {.dims = {2, 5, 7}, .ndim = 3, .count = sizeof pixels, .data = pixels};
    for (int i = 0; i < 2; i++) {
        char path[64];
        dscm_idx back;
        dscm_error err = {0};
        snprintf(path, sizeof path, i ? names[1] : names[0], (int)getpid());
        CHECK_INT(dscm_idx_write(&idx, path, &err), DSCM_OK);
        CHECK_INT(dscm_idx_read(&back, path, &err), DSCM_OK);
        CHECK_INT(back.dims[2], 7);
        CHECK(back.data && memcmp(back.data, pixels, sizeof pixels) == 0);
        dscm_idx_free(&back);
        unlink(path);
        CHECK_INT(dscm_idx_read(&back, path, &err), DSCM_E_NOT_FOUND);
        CHECK_HAS(err.message, path);
    }
}

static void real_data(void)
{
    dscm_dataset set;
    dscm_error err = {0};
    if (access(FASHION, R_OK) != 0) TEST_SKIP("dataset-fashion-mnist is not installed");
    CHECK_INT(dscm_dataset_open(&set, FASHION, "t10k", &err), DSCM_OK);
    CHECK_STR(err.message, "");
    CHECK_INT(set.count, 10000);
    CHECK_INT(set.h * set.w * set.c, 784);
    size_t classes[10] = {0};
    for (size_t i = 0; i < set.count; i++) classes[set.labels[i] % 10]++;
    for (int i = 0; i < 10; i++) CHECK_INT(classes[i], 1000);
    CHECK_INT(strlen(set.sha256), 64);
    dscm_dataset_free(&set);
    CHECK(dscm_dataset_open(&set, FASHION, "nosuch", &err) != DSCM_OK);
    CHECK_HAS(err.message, "nosuch");
}

static void pixel_values(void)
{
    uint8_t all[256], back[256];
    float values[256];
    for (int i = 0; i < 256; i++) all[i] = (uint8_t)i;
    dscm_pixels_to_float(values, all, 256);
    CHECK_NEAR(values[0], -1, 0);
    CHECK_NEAR(values[255], 1, 0);
    dscm_pixels_from_float(back, values, 256);
    CHECK(memcmp(all, back, 256) == 0);
    const float odd[5] = {-2, 2, NAN, INFINITY, 1.003f};
    const uint8_t want[5] = {0, 255, 0, 255, 255};
    dscm_pixels_from_float(back, odd, 5);
    CHECK(memcmp(back, want, 5) == 0);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        {"lies", lies},
        {"no_images", no_images},
        {"black_images", black_images},
        {"data_sets", data_sets},
        {"splits_are_sliced_in_file_order", splits_are_sliced_in_file_order},
        {"written_files", written_files},
        {"real_data", real_data},
        {"pixel_values", pixel_values}};
    return test_main(argc, argv, cases, TEST_COUNT(cases));
}
