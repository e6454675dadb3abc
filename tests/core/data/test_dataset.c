/* Data sets as people have them: folders per class, archives, IDX under its usual names. */
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/memory.h"
#include "core/data/dataset.h"
#include "core/data/idx.h"
#include "core/data/split.h"
#include "core/image/png.h"
#include "core/io/file.h"
#include "tests/harness.h"

enum { SIDE = 8, CLASSES = 3, EACH = 20 };

static char root[64];

static void make_root(void)
{
    snprintf(root, sizeof root, "/tmp/dscm-set-XXXXXX");
    REQUIRE(mkdtemp(root));
}

static void remove_root(void)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", root);
    CHECK_INT(system(command), 0);
}

static void shell(const char *what)
{
    char command[512];
    snprintf(command, sizeof command, "cd %s && %s", root, what);
    CHECK_INT(system(command), 0);
}

/* A picture whose pixels tell class and number. Folders are made on the way. */
static void put_picture(const char *name, size_t h, size_t w, size_t c, int label, int number)
{
    char path[256];
    uint8_t *pixels = malloc(h * w * c), *png;
    size_t size;
    dscm_error err = {0};
    REQUIRE(pixels);
    for (size_t i = 0; i < h * w * c; i++)
        pixels[i] = (uint8_t)(60 * label + number + (c == 3 && i % 3 == 0 ? 80 : 0));
    const dscm_picture picture = {.h = h, .w = w, .c = c, .pixels = pixels};
    CHECK_INT(dscm_png_encode(&png, &size, &picture, &err), DSCM_OK);
    snprintf(path, sizeof path, "%s/%s", root, name);
    for (char *p = path + strlen(root) + 1; (p = strchr(p, '/')); p++) {
        *p = '\0';
        mkdir(path, 0700);
        *p = '/';
    }
    const dscm_piece piece = {png, size};
    CHECK_INT(dscm_file_replace(path, &piece, 1, &err), DSCM_OK);
    free(png);
    free(pixels);
}

static void put_classes(const char *before, size_t c)
{
    static const char *const names[] = {"cat, small", "dög", "zebra"};
    char name[128];
    for (int k = 0; k < CLASSES; k++)
        for (int i = 0; i < EACH; i++) {
            snprintf(name, sizeof name, "%s%s/%02d.png", before, names[k], i);
            put_picture(name, SIDE, SIDE, c, k, i);
        }
}

static dscm_code open_with(dscm_dataset *set, const char *rest, const char *split,
                           const dscm_dataset_options *o, dscm_error *err)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", root, rest);
    *err = (dscm_error){0};
    return dscm_dataset_read(set, path, split, o, err);
}

static void refused(const char *rest, const char *split, const dscm_dataset_options *o,
                    const char *part)
{
    dscm_dataset set;
    dscm_error err;
    CHECK(open_with(&set, rest, split, o, &err) != DSCM_OK);
    CHECK_HAS(err.message, part);
    CHECK(!set.pixels && !set.labels && !set.names);
}

/* Every image has the pixels of its label. */
static void check_contents(const dscm_dataset *set)
{
    size_t pixels = set->h * set->w * set->c;
    for (size_t i = 0; i < set->count; i++)
        CHECK_INT(set->pixels[i * pixels + 1] / 60, set->labels[i]);
}

static void folder_per_class(void)
{
    dscm_dataset set, other;
    dscm_error err;
    size_t total = 0;
    make_root();
    put_classes("set/", 1);
    CHECK_INT(open_with(&set, "set", "all", NULL, &err), DSCM_OK);
    CHECK_STR(err.message, "");
    CHECK_INT(set.count, CLASSES * EACH);
    CHECK_INT(set.classes, CLASSES);
    CHECK_INT(set.h * 100 + set.w * 10 + set.c, 881);
    CHECK_STR(set.names[0], "cat, small");
    CHECK_STR(set.names[1], "dög");
    check_contents(&set);
    /* The order mixes classes, so that a slice holds several. */
    size_t changes = 0;
    for (size_t i = 1; i < set.count; i++) changes += set.labels[i] != set.labels[i - 1];
    CHECK(changes > CLASSES * EACH / 3);
    static const char *const parts[] = {"train", "dev", "test"};
    for (int i = 0; i < 3; i++) {
        CHECK_INT(open_with(&other, "set", parts[i], NULL, &err), DSCM_OK);
        CHECK_INT(other.count, CLASSES * (i ? EACH / 10 : EACH * 8 / 10));
        total += other.count;
        check_contents(&other);
        dscm_dataset_free(&other);
    }
    CHECK_INT(total, set.count);
    refused("set", "train2", NULL, "no split \"train2\"");
    /* The same set, in a folder of its own, archived. */
    shell("mkdir around && cp -r set around/set && tar czf set.tar.gz around");
    CHECK_INT(open_with(&other, "set.tar.gz", "all", NULL, &err), DSCM_OK);
    CHECK_STR(other.sha256, set.sha256);
    CHECK(memcmp(other.labels, set.labels, set.count) == 0);
    dscm_dataset_free(&other);
    shell("head -c 900 set.tar.gz >cut.tar.gz");
    refused("cut.tar.gz", "all", NULL, "cut.tar.gz");
    dscm_dataset_free(&set);
    remove_root();
}

static void folders_per_split(void)
{
    dscm_dataset set;
    dscm_error err;
    make_root();
    put_classes("set/train/", 3);
    put_picture("set/val/zebra/a.png", SIDE, SIDE, 3, 2, 1);
    CHECK_INT(open_with(&set, "set", "train[50%:]", NULL, &err), DSCM_OK);
    CHECK_INT(set.count, CLASSES * EACH / 2);
    CHECK_INT(set.c, 3);
    dscm_dataset_free(&set);
    CHECK_INT(open_with(&set, "set", "dev", NULL, &err), DSCM_OK); /* another name of val */
    CHECK_INT(set.count, 1);
    CHECK_INT(set.labels[0], 2); /* a class has one number in every split */
    CHECK_INT(set.classes, CLASSES);
    dscm_dataset_free(&set);
    CHECK_INT(open_with(&set, "set", "all[:5]", NULL, &err), DSCM_OK);
    CHECK_INT(set.count, 5);
    dscm_dataset_free(&set);
    refused("set", "test", NULL, "there are train (60), val (1)");
    refused("set", "train[90%:90.1%]", NULL, "leaves none of 60");
    remove_root();
}

/* Each image has the name of a file in the folder of its class; `left_out` is no image's. */
static void check_files(const dscm_dataset *set, const char *left_out)
{
    REQUIRE(set->files != NULL);
    CHECK(set->files_count >= set->count);
    for (size_t i = 0; i < set->count; i++) {
        const char *name = set->files[set->rows[i]], *class = set->names[set->labels[i]];
        CHECK(strncmp(name, class, strlen(class)) == 0 && name[strlen(class)] == '/');
        CHECK(strcmp(name, left_out) != 0);
        for (size_t k = 0; k < i; k++) CHECK(strcmp(name, set->files[set->rows[k]]) != 0);
    }
}

static void names_of_files(void)
{
    dscm_dataset set;
    dscm_error err;
    char folder[128];
    make_root();
    snprintf(folder, sizeof folder, "%s/kept", root);
    const dscm_dataset_options o = {.files = true, .cache = folder};
    put_classes("set/", 1);
    shell("echo no picture >set/zebra/bad.png");
    CHECK_INT(open_with(&set, "set", "all", &o, &err), DSCM_OK);
    CHECK_INT(set.facts.unreadable, 1);
    check_files(&set, "zebra/bad.png");
    check_contents(&set);
    dscm_dataset_free(&set);
    shell("rm set/zebra/bad.png");
    for (int cached = 0; cached < 2; cached++) {
        CHECK_INT(open_with(&set, "set", "all[10:30]", &o, &err), DSCM_OK);
        CHECK_INT(set.facts.cached, cached);
        CHECK_INT(set.count, 20);
        check_files(&set, "");
        dscm_dataset_free(&set);
    }
    remove_root();
}

static void sizes_and_faults(void)
{
    dscm_dataset set;
    dscm_error err;
    char text[2000];
    const dscm_dataset_options wide = {.h = 4, .w = 6, .threads = 2};
    make_root();
    put_classes("set/", 1);
    put_picture("set/zebra/large.png", 24, 16, 1, 2, 5);
    refused("set", "all", NULL, "pictures of different sizes");
    CHECK_INT(open_with(&set, "set", "all", &wide, &err), DSCM_OK);
    CHECK_INT(set.h * 10 + set.w, 46);
    CHECK_INT(set.facts.resized, set.count);
    dscm_dataset_free(&set);
    shell("echo no picture >set/zebra/large.png"); /* one in sixty-one is left out, and told */
    CHECK_INT(open_with(&set, "set", "all", NULL, &err), DSCM_OK);
    CHECK_INT(set.count, CLASSES * EACH);
    check_contents(&set);
    dscm_dataset_describe(&set, text, sizeof text);
    CHECK_HAS(text, "60 images of 8x8 pixels, grey");
    CHECK_HAS(text, "cat, small 20, dög 20, zebra 20");
    CHECK_HAS(text, "1 unreadable and left out, the first: zebra/large.png: neither a PNG");
    dscm_dataset_free(&set);
    shell("echo no picture >set/zebra/small.png");
    refused("set", "all", NULL, "2 of 62 pictures cannot be read");
    shell("mkdir flat empty && cp set/dög/*.png flat");
    refused("flat", "all", NULL, "a folder per class is needed");
    refused("empty", "train", NULL, "it is empty");
    shell("mkdir flat/more && cp set/dög/*.png flat/more");
    refused("flat", "all", NULL, "lies in no folder of a class");
    refused("nowhere", "train", NULL, "no such file or folder");
    refused("set", "all[a:b]", NULL, "must be NAME, NAME[FIRST:END]");
    remove_root();
}

/* Pictures in one folder, their classes in a CSV file beside it or around it.
 */
static void csv_of_classes(void)
{
    dscm_dataset set;
    dscm_error err;
    char text[2000];
    make_root();
    put_classes("set/", 1);
    shell("mkdir -p flat/pictures && cd set && for c in *; do for f in "
          "\"$c\"/*.png; do"
          " cp \"$f\" ../flat/pictures/$(echo \"$c\" | tr -d ' ,ö')-${f##*/}; "
          "done; done");
    shell("cd flat && (printf 'file,age,class\\r\\n'; for f in pictures/*.png; "
          "do b=${f##*/};"
          " printf '%s,3,\"%s, x\"\\r\\n' $b ${b%%-*}; done) >labels.csv");
    if (open_with(&set, "flat", "all", NULL, &err) != DSCM_OK) TEST_FAIL_("%s", err.message);
    CHECK_INT(set.count, CLASSES * EACH);
    CHECK_INT(set.classes, CLASSES);
    REQUIRE(set.names != NULL);
    CHECK_STR(set.names[CLASSES - 1], "zebra, x");
    size_t counts[CLASSES] = {0};
    for (size_t i = 0; i < set.count; i++) counts[set.labels[i]]++;
    for (size_t k = 0; k < CLASSES; k++) CHECK_INT(counts[k], EACH);
    dscm_dataset_describe(&set, text, sizeof text);
    CHECK_HAS(text, "pictures and a CSV file");
    dscm_dataset_free(&set);
    /* Names relative to the data set, and one picture that is not listed. */
    shell("cd flat && sed -i -e '2,$s#^#pictures/#' -e '$d' labels.csv && mv "
          "labels.csv some.csv");
    CHECK_INT(open_with(&set, "flat", "all", NULL, &err), DSCM_OK);
    CHECK_INT(set.count, CLASSES * EACH - 1);
    dscm_dataset_describe(&set, text, sizeof text);
    CHECK_HAS(text, "1 pictures have no line in the CSV file");
    dscm_dataset_free(&set);
    shell("tar -C flat -cf flat.tar .");
    CHECK_INT(open_with(&set, "flat.tar", "train", NULL, &err), DSCM_OK);
    dscm_dataset_free(&set);
    shell("cd flat && cp some.csv kept && echo 'nowhere.png,3,dog' >>some.csv");
    refused("flat", "all", NULL, "no picture \"nowhere.png\"");
    shell("cd flat && cp kept some.csv && sed -n 2p kept >>some.csv");
    refused("flat", "all", NULL, "a second line for");
    shell("cd flat && sed 's/, x\"/\"/; 3s/\"[a-z]*\"//' kept >some.csv");
    refused("flat", "all", NULL, "line 3: the column class is empty");
    shell("cd flat && sed '1s/class/kind/' kept >some.csv");
    refused("flat", "all", NULL, "which of its 3 columns is the class?");
    shell("cd flat && sed '1s/file/name/' kept >some.csv");
    refused("flat", "all", NULL, "no column \"file\"");
    /* Two, neither of which is labels.csv. */
    shell("cd flat && cp kept other.csv && mv pictures/*.png .");
    refused("flat", "all", NULL, "or labels.csv with the columns file and class");
    remove_root();
}

static void cache(void)
{
    dscm_dataset first, again;
    dscm_error err;
    char folder[128];
    make_root();
    snprintf(folder, sizeof folder, "%s/kept/deep", root);
    const dscm_dataset_options o = {.cache = folder};
    put_classes("set/", 3);
    CHECK_INT(open_with(&first, "set", "all", &o, &err), DSCM_OK);
    CHECK(!first.facts.cached);
    CHECK_INT(open_with(&again, "set", "all", &o, &err), DSCM_OK);
    CHECK(again.facts.cached);
    CHECK_STR(again.sha256, first.sha256);
    CHECK(memcmp(again.labels, first.labels, first.count) == 0);
    CHECK_INT(again.facts.coloured, first.facts.coloured);
    dscm_dataset_free(&again);
    shell("for f in kept/deep/*; do printf x | dd of=$f bs=1 seek=300 conv=notrunc 2>/dev/null; "
          "done");
    CHECK_INT(open_with(&again, "set", "all", &o, &err), DSCM_OK); /* damaged: decoded anew */
    CHECK(!again.facts.cached);
    CHECK_STR(again.sha256, first.sha256);
    dscm_dataset_free(&again);
    put_picture("set/zebra/new.png", SIDE, SIDE, 3, 2, 7);
    CHECK_INT(open_with(&again, "set", "all", &o, &err), DSCM_OK); /* another set */
    CHECK_INT(again.count, first.count + 1);
    dscm_dataset_free(&again);
    dscm_dataset_free(&first);
    remove_root();
}

/* ---- IDX ---- */
static void put_idx(const char *name, int ndim, const size_t *dims, const uint8_t *bytes)
{
    char path[256];
    dscm_error err = {0};
    dscm_idx idx = {.ndim = ndim, .count = 1, .data = (uint8_t *)(uintptr_t)bytes};
    for (int d = 0; d < ndim; d++) idx.count *= idx.dims[d] = dims[d];
    snprintf(path, sizeof path, "%s/%s", root, name);
    CHECK_INT(dscm_idx_write(&idx, path, &err), DSCM_OK);
}

static void idx_names(void)
{
    static const char *const images[] = {"train-images-idx3-ubyte", "train-images.idx3-ubyte.gz",
                                         "train-images-idx4-ubyte", "train_images.idx3"};
    static const char *const labels[] = {"train-labels-idx1-ubyte.gz", "train-labels.idx1-ubyte",
                                         "train-labels-idx1-ubyte", "train_labels.idx1"};
    const size_t dims[] = {6, 4, 4, 3}, first[] = {6, 3, 4, 4}, count[] = {6};
    const uint8_t classes[6] = {1, 2, 3, 1, 2, 3};
    uint8_t pixels[6 * 48];
    dscm_error err;
    for (size_t i = 0; i < sizeof pixels; i++) pixels[i] = (uint8_t)(7 * i);
    for (size_t i = 0; i < TEST_COUNT(images); i++) {
        dscm_dataset set;
        make_root();
        put_idx(images[i], 4, dims, pixels);
        refused("", "train", NULL, "train-labels-idx1-ubyte[.gz] are not");
        put_idx(labels[i], 1, count, classes);
        CHECK_INT(open_with(&set, "", "train[1:3]", NULL, &err), DSCM_OK);
        CHECK_STR(err.message, "");
        CHECK_INT(set.count, 2);
        CHECK(set.pixels && memcmp(set.pixels, pixels + 48, 96) == 0);
        dscm_dataset_free(&set);
        remove_root();
    }
    make_root();
    put_idx("train-images-idx4-ubyte", 4, first, pixels);
    put_idx("train-labels-idx1-ubyte", 1, count, classes);
    refused("", "train", NULL, "channels are last");
    remove_root();
}

/* gzip files one after another are one file. */
static void gzip_members(void)
{
    const size_t dims[] = {3, 20, 30};
    uint8_t pixels[1800];
    char path[256];
    dscm_idx idx;
    dscm_error err = {0};
    for (size_t i = 0; i < sizeof pixels; i++) pixels[i] = (uint8_t)(i * i);
    make_root();
    put_idx("a", 3, dims, pixels);
    static const char *const cuts[] = {"3", "16", "999", "1815", "1816"};
    for (size_t i = 0; i < TEST_COUNT(cuts); i++) {
        char command[200];
        snprintf(command, sizeof command,
                 "(head -c %s a | gzip; tail -c +$((%s + 1)) a | gzip) >b.gz", cuts[i], cuts[i]);
        shell(command);
        snprintf(path, sizeof path, "%s/b.gz", root);
        CHECK_INT(dscm_idx_read(&idx, path, &err), DSCM_OK);
        CHECK_STR(err.message, "");
        CHECK(idx.data && memcmp(idx.data, pixels, sizeof pixels) == 0);
        dscm_idx_free(&idx);
    }
    shell("(gzip <a; printf x | gzip) >b.gz");
    CHECK(dscm_idx_read(&idx, path, &err) != DSCM_OK);
    CHECK_HAS(err.message, "too long");
    remove_root();
}

/* ---- labels ---- */
static void label_faults(void)
{
    static uint8_t pixels[6] = {1, 2, 3, 4, 5, 6}, from_one[6] = {1, 2, 3, 1, 2, 3}, one[6],
                   gap[6] = {0, 2, 0, 2, 0, 2}, good[6] = {0, 1, 2, 0, 1, 2};
    const struct {
        uint8_t *labels;
        size_t classes, stated;
        const char *part;
    } sets[] = {{from_one, 4, 0, "no image has label 0 (labels begin later)"},
                {one, 1, 0, "all 6 images have one class"},
                {gap, 3, 0, "no image has label 1; --relabel"},
                {gap, 3, 3, NULL},
                {good, 3, 0, NULL},
                {good, 3, 2, "label 2 occurs, --classes is 2"}};
    for (size_t i = 0; i < TEST_COUNT(sets); i++) {
        const dscm_dataset set = {.count = 6,
                                  .h = 1,
                                  .w = 1,
                                  .c = 1,
                                  .pixels = pixels,
                                  .labels = sets[i].labels,
                                  .classes = sets[i].classes};
        dscm_error err = {0};
        dscm_code code = dscm_dataset_check_classes(&set, sets[i].stated, &err);
        CHECK_INT(code == DSCM_OK, sets[i].part == NULL);
        if (sets[i].part) CHECK_HAS(err.message, sets[i].part);
    }
}

static void relabelled(void)
{
    const size_t dims[] = {6, 1, 1}, count[] = {6};
    const uint8_t labels[6] = {1, 5, 7, 1, 5, 7}, pixels[6] = {9, 9, 1, 2, 3, 4};
    const dscm_dataset_options o = {.relabel = true};
    dscm_dataset set;
    dscm_error err;
    make_root();
    put_idx("dev-images-idx3-ubyte", 3, dims, pixels);
    put_idx("dev-labels-idx1-ubyte", 1, count, labels);
    CHECK_INT(open_with(&set, "", "dev", &o, &err), DSCM_OK);
    CHECK_INT(set.classes, 3);
    CHECK_INT(set.labels[0] * 100 + set.labels[1] * 10 + set.labels[2], 12);
    CHECK_INT(set.facts.repeated, 1);
    CHECK_INT(dscm_dataset_shared(&set, &set), 1);
    CHECK_INT(set.facts.low * 10 + set.facts.high, 19);
    dscm_dataset_free(&set);
    remove_root();
}

static void slices(void)
{
    static const struct {
        const char *text;
        size_t count;
        uint32_t first;
    } good[] = {{"x", 10, 0},    {"x[2:5]", 3, 2},    {"x[:7]", 7, 0},   {"x[6:]", 4, 6},
                {"x[:]", 10, 0}, {"x[0%:50%]", 5, 0}, {"x[50%:]", 5, 4}, {"x[:100%]", 10, 0}};
    static const char *const bad[] = {"",         "[1:2]",      "x[1]",      "x[1:2", "x[1:2]y",
                                      "x[1.5:2]", "x[10%:3]",   "x[:101%]",  "x[a:]", "x[:-5%]",
                                      "x[-1:]",   "x[60%:60%]", "x[1.2.3%:]"};
    const uint8_t labels[10] = {0, 0, 0, 0, 1, 0, 1, 0, 1, 1}; /* 6 and 4 */
    for (size_t i = 0; i < TEST_COUNT(good); i++) {
        dscm_split split;
        uint32_t out[10];
        dscm_error err = {0};
        CHECK_INT(dscm_split_parse(&split, good[i].text, &err), DSCM_OK);
        CHECK_STR(err.message, "");
        CHECK_INT(dscm_split_select(&split, labels, 10, out), good[i].count);
        if (i < 5) CHECK_INT(out[0], good[i].first);
    }
    for (size_t i = 0; i < TEST_COUNT(bad); i++) {
        dscm_split split;
        dscm_error err = {0};
        CHECK_INT(dscm_split_parse(&split, bad[i], &err), DSCM_E_INVALID);
        CHECK_HAS(err.message, "split");
    }
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {{"folder_per_class", folder_per_class},
                                      {"folders_per_split", folders_per_split},
                                      {"names_of_files", names_of_files},
                                      {"sizes_and_faults", sizes_and_faults},
                                      {"cache", cache},
                                      {"csv_of_classes", csv_of_classes},
                                      {"idx_names", idx_names},
                                      {"gzip_members", gzip_members},
                                      {"label_faults", label_faults},
                                      {"relabelled", relabelled},
                                      {"slices", slices}};
    return test_main(argc, argv, cases, TEST_COUNT(cases));
}
