/* PyTorch files: real ones (data/, written by make_fixtures.py) and ones built here with faults. */
#include "core/io/choose.h"
#include "core/io/tensors.h"
#include "tests/core/io/archive.h"
#include "tests/harness.h"

#include "core/base/memory.h"
#include "core/io/file.h"

static dscm_tensors *open_data(const char *name)
{
    char path[256];
    dscm_tensors *set = NULL;
    dscm_error err = {0};
    snprintf(path, sizeof path, "tests/core/io/data/%s", name);
    if (dscm_tensors_open(&set, path, &err) != DSCM_OK) TEST_FAIL_("%s", err.message);
    return set;
}

static double pattern(size_t i)
{
    return (double)(7 * i % 23) - 11;
}

static void check_values(const dscm_tensors *set, const char *name, size_t count,
                         double (*want)(size_t i))
{
    const dscm_tensor_info *info = dscm_tensors_find(set, name);
    double values[64];
    float floats[64];
    dscm_error err = {0};
    REQUIRE(info != NULL);
    CHECK_INT(info->count, count);
    REQUIRE(info->count <= 64);
    CHECK_INT(dscm_tensors_read_f64(set, info, values, &err), DSCM_OK);
    CHECK_INT(dscm_tensors_read_f32(set, info, floats, &err), DSCM_OK);
    for (size_t i = 0; i < info->count; i++) {
        CHECK_NEAR(values[i], want(i), 0);
        CHECK_NEAR(floats[i], want(i), 0);
    }
}

static double magnitude(size_t i)
{
    return fabs(pattern(i));
}

static double truth(size_t i)
{
    return pattern(i) != 0;
}

static void types(void)
{
    dscm_tensors *set = open_data("types.pt");
    REQUIRE(set != NULL);
    static const char *const exact[] = {"f16", "bf16", "f32", "f64", "i64", "i32", "i16", "i8"};
    for (size_t i = 0; i < TEST_COUNT(exact); i++) check_values(set, exact[i], 15, pattern);
    check_values(set, "u8", 15, magnitude);
    check_values(set, "bool", 15, truth);
    check_values(set, "scalar", 1, pattern);
    check_values(set, "empty", 0, pattern);
    check_values(set, "deep", 24, pattern);
    CHECK_INT(dscm_tensors_find(set, "scalar")->ndim, 0);
    CHECK_INT(dscm_tensors_find(set, "deep")->ndim, 5);
    CHECK_INT(dscm_tensors_find(set, "bf16")->dtype, DSCM_BF16);
    CHECK_INT(dscm_tensors_count(set), 13);
    dscm_tensors_free(set);
}

/* base is (4,6), element (r,c) = pattern(6 r + c) */
static double of_rows(size_t i)
{
    return pattern(6 + i);
}
static double of_transposed(size_t i)
{
    return pattern(6 * (i % 4) + i / 4);
}
static double of_column(size_t i)
{
    return pattern(6 * i + 2);
}
static double of_strided(size_t i)
{
    return pattern(12 * (i / 3) + 1 + 2 * (i % 3));
}
static double of_repeated(size_t i)
{
    return pattern(i % 6);
}

static void views(void)
{
    dscm_tensors *set = open_data("views.pt");
    REQUIRE(set != NULL);
    check_values(set, "base", 24, pattern);
    check_values(set, "rows", 12, of_rows);
    check_values(set, "transposed", 24, of_transposed);
    check_values(set, "column", 4, of_column);
    check_values(set, "strided", 6, of_strided);
    check_values(set, "repeated", 18, of_repeated);
    dscm_tensors_free(set);
}

static void nested(void)
{
    dscm_tensors *set = open_data("nested.pt");
    REQUIRE(set != NULL);
    check_values(set, "0.weight", 6, pattern); /* below "state_dict" without prefix */
    check_values(set, "1.bias", 2, pattern);
    check_values(set, "ema.0.weight", 6, pattern); /* torch.nn.Parameter */
    CHECK_INT(dscm_tensors_count(set), 8);
    dscm_tensors_free(set);
}

/* A file that opens; NULL after a failed check. */
static dscm_tensors *open_sound(const buffer *file, const char *name)
{
    dscm_tensors *set = NULL;
    dscm_error err = {0};
    CHECK_INT(dscm_tensors_open_memory(&set, file->bytes, file->size, name, &err), DSCM_OK);
    CHECK_STR(err.message, "");
    return set;
}

/* Opening fails with a message that names the file and holds `part`. */
static void check_refused(const void *bytes, size_t size, const char *part)
{
    dscm_tensors *set = NULL;
    dscm_error err = {0};
    /* A block of the exact size: reading past the end is an error under ASan. */
    unsigned char *copy = malloc(size ? size : 1);
    if (size) memcpy(copy, bytes, size);
    CHECK(dscm_tensors_open_memory(&set, copy, size, "net.pt", &err) != DSCM_OK);
    CHECK(set == NULL);
    CHECK_HAS(err.message, "net.pt");
    CHECK_HAS(err.message, part);
    dscm_tensors_free(set);
    free(copy);
}

static void refused_files(void)
{
    unsigned char *bytes;
    size_t size;
    dscm_error err = {0};
    REQUIRE(dscm_file_read("tests/core/io/data/legacy.pt", 1 << 20, &bytes, &size, &err) ==
            DSCM_OK);
    check_refused(bytes, size, "before 1.6");
    dscm_free(bytes);
    REQUIRE(dscm_file_read("tests/core/io/data/hostile.pt", 1 << 20, &bytes, &size, &err) ==
            DSCM_OK);
    check_refused(bytes, size, "print");
    dscm_free(bytes);
    check_refused("", 0, "cut off");
    check_refused("PK\3\4", 4, "too short");
}

static void every_truncation(void)
{
    unsigned char *bytes;
    size_t size;
    dscm_error err = {0};
    REQUIRE(dscm_file_read("tests/core/io/data/views.pt", 1 << 20, &bytes, &size, &err) == DSCM_OK);
    for (size_t cut = 0; cut < size; cut++) check_refused(bytes, cut, "net.pt");
    dscm_free(bytes);
}

/* A changed byte is found, or it is in a part that holds no content (padding, dates, flags). */
static void every_damaged_byte(void)
{
    unsigned char *bytes;
    size_t size, found = 0;
    dscm_error err = {0};
    REQUIRE(dscm_file_read("tests/core/io/data/views.pt", 1 << 20, &bytes, &size, &err) == DSCM_OK);
    dscm_tensors *sound = NULL;
    REQUIRE(dscm_tensors_open_memory(&sound, bytes, size, "net.pt", &err) == DSCM_OK);
    const dscm_tensor_info *base = dscm_tensors_find(sound, "base");
    float want[24], got[24];
    CHECK_INT(dscm_tensors_read_f32(sound, base, want, &err), DSCM_OK);
    dscm_tensors_free(sound);
    for (size_t at = 0; at < size; at++) {
        dscm_tensors *set = NULL;
        err = (dscm_error){0};
        bytes[at] ^= 0x55;
        if (dscm_tensors_open_memory(&set, bytes, size, "net.pt", &err) == DSCM_OK) {
            base = dscm_tensors_find(set, "base");
            if (base && base->count == 24) {
                CHECK_INT(dscm_tensors_read_f32(set, base, got, &err), DSCM_OK);
                CHECK(memcmp(got, want, sizeof got) == 0);
            } else {
                TEST_FAIL_("byte %zu: tensor lost", at);
            }
        } else {
            found++;
        }
        dscm_tensors_free(set);
        bytes[at] ^= 0x55;
    }
    CHECK(found > 300);
    dscm_free(bytes);
}

/* ---- zip faults ---- */
static buffer sound_pickle(void)
{
    buffer p = {0};
    put_text(&p, "\x80\x02}(");
    pickle_tensor(&p, "w", "0", 8, 2, 3, 2);
    put_text(&p, "u.");
    return p;
}

static double two_apart(size_t i)
{
    return 2 + 2 * (double)i;
}

static void sound_zip(void)
{
    static const float floats[8] = {0, 1, 2, 3, 4, 5, 6, 7};
    buffer p = sound_pickle();
    for (int kind = 0; kind < 3; kind++) {
        const entry entries[] = {
            {.name = "a/data.pkl", .bytes = p.bytes, .size = p.size, .zip64 = kind == 1},
            {.name = "a/data/0", .bytes = floats, .size = sizeof floats, .zip64 = kind == 1},
            {.name = "a/byteorder", .bytes = "little", .size = 6}};
        buffer zip = build_zip(entries, 3, kind == 2);
        dscm_tensors *set = open_sound(&zip, "net.pt");
        if (set) check_values(set, "w", 3, two_apart);
        dscm_tensors_free(set);
        buffer_free(&zip);
    }
    buffer_free(&p);
}

static void zip_faults(void)
{
    static const float floats[8];
    buffer p = sound_pickle();
    const struct {
        entry storage, extra;
        const char *part;
    } faults[] = {
        {{.method = 8}, {0}, "compressed"},
        {{.claim_size = 1 << 20}, {0}, "contradicts"},
        {{.claim_size = (uint64_t)1 << 62, .zip64 = true}, {0}, "contradicts"},
        {{.move = -1}, {0}, "outside"},
        {{.move = 1 << 20}, {0}, "outside"},
        {{.move = INT64_MAX, .zip64 = true}, {0}, "outside"},
        {{.flip_crc = 1}, {0}, "damaged"},
        {{.name = "a/data/1"}, {0}, "storage data/0 is missing"},
        {{0}, {.name = "a/data/0", .bytes = floats, .size = 4}, "appears twice"},
        {{0}, {.name = "a/byteorder", .bytes = "big", .size = 3}, "little-endian"},
    };
    for (size_t i = 0; i < TEST_COUNT(faults); i++) {
        entry entries[3] = {{.name = "a/data.pkl", .bytes = p.bytes, .size = p.size},
                            faults[i].storage,
                            faults[i].extra};
        if (!entries[1].name) entries[1].name = "a/data/0";
        entries[1].bytes = floats;
        entries[1].size = sizeof floats;
        buffer zip = build_zip(entries, entries[2].name ? 3 : 2, false);
        check_refused(zip.bytes, zip.size, faults[i].part);
        buffer_free(&zip);
    }
    const entry overlap[] = {{.name = "a/data.pkl", .bytes = p.bytes, .size = p.size},
                             {.name = "a/data.pkl", .move = -(int64_t)(p.size + 40)}};
    buffer zip = build_zip(overlap, 2, false);
    check_refused(zip.bytes, zip.size, "overlap");
    buffer_free(&zip);
    const entry twice[] = {{.name = "a/data.pkl", .bytes = p.bytes, .size = p.size},
                           {.name = "a/data/0", .bytes = floats, .size = sizeof floats},
                           {.name = "b/data.pkl", .bytes = p.bytes, .size = p.size}};
    zip = build_zip(twice, 3, false);
    check_refused(zip.bytes, zip.size, "more than one data.pkl");
    buffer_free(&zip);
    const entry other[] = {{.name = "a/code.py", .bytes = "x", .size = 1}};
    zip = build_zip(other, 1, false);
    check_refused(zip.bytes, zip.size, "no data.pkl");
    buffer_free(&zip);
    buffer_free(&p);
}

/* ---- pickle faults ---- */
static void check_pickle(const buffer *pickle, const char *part)
{
    buffer zip = torch_file(pickle);
    check_refused(zip.bytes, zip.size, part);
    buffer_free(&zip);
}

static void check_tensor(int64_t elements, int64_t offset, int64_t count, int64_t stride,
                         const char *part)
{
    buffer p = {0};
    put_text(&p, "\x80\x02}(");
    pickle_tensor(&p, "w", "0", elements, offset, count, stride);
    put_text(&p, "u.");
    check_pickle(&p, part);
    buffer_free(&p);
}

static void check_opcodes(const char *opcodes, const char *part)
{
    buffer p = {0};
    put_text(&p, "\x80\x02");
    put_text(&p, opcodes);
    check_pickle(&p, part);
    buffer_free(&p);
}

static void pickle_faults(void)
{
    check_tensor(9, 0, 8, 1, "beyond its storage");
    check_tensor(8, 0, 9, 1, "beyond its storage");
    check_tensor(8, 1, 8, 1, "beyond its storage");
    check_tensor(8, 0, 4, 3, "beyond its storage");
    check_tensor(8, 0, 9, 0, "more elements than its storage");
    check_tensor(8, -1, 4, 1, "impossible");
    check_tensor(8, 0, -4, 1, "impossible");
    check_tensor(8, 0, 4, -1, "impossible");
    check_tensor(8, 0, 0x7fffffff, 0x7fffffff, "beyond its storage");
    check_opcodes("cos\nsystem\n(X\2", "os.system");
    check_opcodes("cbuiltins\neval\n", "builtins.eval");
    check_opcodes("ctorch\nload\n", "torch.load");
    check_opcodes("ctorch._utils\n_rebuild_tensor_v2\n)R.", "without storage");
    check_opcodes("(i", "opcode 0x69");
    check_opcodes("\x92", "opcode 0x92"); /* NEWOBJ_EX */
    check_opcodes("\x81", "call of a non-global");
    check_opcodes("\x93", "global without a name");
    check_opcodes("\x8c\2os\x8c\6system\x93", "os.system");
    check_opcodes("\x80\6", "protocol above 5");
    check_opcodes("\x8c\7x", "cut off");
    check_opcodes("\x8e\xff\xff\xff\xff\xff\xff\xff\xff.", "cut off");
    check_opcodes("\x95\1", "cut off");
    check_opcodes("\x90", "no mark");
    check_opcodes("}", "cut off");
    check_opcodes(".", "no dictionary");
    check_opcodes("N.", "no dictionary");
    check_opcodes("h\x05", "memo index");
    check_opcodes("}r\xff\xff\xff\x7f", "memo index out of order");
    check_opcodes("u.", "no mark");
    check_opcodes("}(K\1u.", "items for something that is no dict");
    check_opcodes("X\xff\xff\xff\xff", "cut off");
    check_opcodes("Q", "persistent");
    check_opcodes("R", "call");
    check_opcodes("ctorch", "cut off");
}

/* Dictionaries that share their children: 2^n paths through n of them. */
/* A dictionary {"NAMEw": tensor} of the storage 0. */
static void put_network(buffer *p, const char *prefix)
{
    put_text(p, "}X");
    put_number(p, strlen(prefix) + 1, 4);
    put_text(p, prefix);
    put_text(p, "w");
    put_text(p, "ctorch._utils\n_rebuild_tensor_v2\n((X");
    put_number(p, 7, 4);
    put_text(p, "storagectorch\nFloatStorage\nX");
    put_number(p, 1, 4);
    put_text(p, "0X");
    put_number(p, 3, 4);
    put_text(p, "cpuK\1tQ");
    put_text(p, "K");
    put_number(p, 0, 1);
    put_text(p, "K\1\x85K\1\x85\x89NtRs");
}

static void put_key(buffer *p, const char *key)
{
    put_text(p, "X");
    put_number(p, strlen(key), 4);
    put_text(p, key);
}

static buffer zip_of(const buffer *pickle)
{
    static const float one = 1;
    const entry entries[] = {{.name = "a/data.pkl", .bytes = pickle->bytes, .size = pickle->size},
                             {.name = "a/data/0", .bytes = &one, .size = sizeof one}};
    return build_zip(entries, 2, false);
}

/* What stands before the names is found; of several networks one must be named. */
static void wrappers(void)
{
    static const char *const prefixes[] = {"", "module.", "_orig_mod.", "model.diffusion_model."};
    for (size_t i = 0; i < TEST_COUNT(prefixes); i++) {
        buffer p = {0};
        put_network(&p, prefixes[i]);
        put_text(&p, ".");
        buffer zip = zip_of(&p);
        dscm_error err = {0};
        dscm_tensors *set = open_sound(&zip, "x.pt");
        REQUIRE(set != NULL);
        CHECK_INT(dscm_tensors_choose(set, "w", NULL, &err), DSCM_OK);
        CHECK(dscm_tensors_find(set, "w") != NULL);
        CHECK_INT(dscm_tensors_choose(set, "w", "ema", &err), DSCM_E_INVALID);
        dscm_tensors_free(set);
        buffer_free(&zip);
        buffer_free(&p);
    }
}

static void several_networks(void)
{
    static const char *const keys[] = {"ema", "model", "state_dict"};
    buffer p = {0};
    put_text(&p, "}(");
    put_key(&p, "ema");
    put_network(&p, "");
    put_key(&p, "model");
    put_network(&p, "module.");
    put_key(&p, "state_dict");
    put_network(&p, "");
    put_text(&p, "u.");
    buffer zip = zip_of(&p);
    for (size_t i = 0; i <= TEST_COUNT(keys); i++) {
        dscm_tensors *set = NULL;
        dscm_error err = {0};
        bool named = i < TEST_COUNT(keys);
        REQUIRE(dscm_tensors_open_memory(&set, zip.bytes, zip.size, "x.pt", &err) == DSCM_OK);
        CHECK_INT(dscm_tensors_choose(set, "w", named ? keys[i] : NULL, &err),
                  named ? DSCM_OK : DSCM_E_INVALID);
        if (named) CHECK_INT(dscm_tensors_count(set), keys[i][0] == 's' ? 3 : 1);
        if (named) CHECK(dscm_tensors_find(set, "w") != NULL);
        if (!named) CHECK_HAS(err.message, "\"ema\"");
        if (!named) CHECK_HAS(err.message, "\"model.module\"");
        dscm_tensors_free(set);
    }
    buffer_free(&zip);
    buffer_free(&p);
}

/* Protocol 4, with a tensor of a type that no network uses and settings beside it. */
static void other_protocols(void)
{
    static const char head[] = "\x80\4\x95\0\0\0\0\0\0\0\0}\x94(";
    static const char odd[] = "\x8c\5torch\x8c\xe"
                              "ComplexStorage\x93\x94";
    buffer p = {0};
    put(&p, head, sizeof head - 1);
    put_text(&p, "\x8c\3odd\x8c\xctorch._utils\x8c\x12_rebuild_tensor_v2\x93\x94((\x8c\7storage");
    put(&p, odd, sizeof odd - 1);
    put_text(&p, "\x8c\1"
                 "0\x8c\3cpuK\1tQK");
    put_number(&p, 0, 1);
    put_text(&p, "K\1\x85K\1\x85\x89NtR\x94");
    put_text(&p, "\x8c\4args\x8c\x8"
                 "argparse\x8c\x9Namespace\x93)\x81}\x8c\2lr\x8f\x94sb");
    put_text(&p, "\x8c\3net");
    put_network(&p, "");
    put_text(&p, "u.");
    buffer zip = zip_of(&p);
    dscm_tensors *set = open_sound(&zip, "x.pt");
    REQUIRE(set != NULL);
    CHECK_INT(dscm_tensors_count(set), 1);
    CHECK(dscm_tensors_find(set, "net.w") != NULL);
    dscm_tensors_free(set);
    buffer_free(&zip);
    buffer_free(&p);
}

static void other_kinds(void)
{
    static const entry script[] = {{.name = "a/constants.pkl", .bytes = "}.", .size = 2},
                                   {.name = "a/data.pkl", .bytes = "}.", .size = 2}};
    unsigned char tar[512] = {0};
    memcpy(tar + 257, "ustar", 5);
    check_refused(tar, sizeof tar, "tar archive");
    const char *lfs = "version https://git-lfs.github.com/spec/v1\noid sha256:0\n";
    check_refused(lfs, strlen(lfs), "git-lfs pointer");
    check_refused("\n <!DOCTYPE html><html>", 23, "web page");
    buffer zip = build_zip(script, 2, false);
    check_refused(zip.bytes, zip.size, "TorchScript");
    buffer_free(&zip);
}

static void shared_dictionaries(void)
{
    for (int depth = 6; depth <= 12; depth += 6) {
        buffer p = {0};
        put_text(&p, "\x80\x02}q");
        put_number(&p, 0, 1);
        for (int i = 1; i <= depth; i++) {
            put_text(&p, "}q");
            put_number(&p, (uint64_t)i, 1);
            put_text(&p, "(");
            for (int k = 0; k < 40; k++) {
                char name[16];
                snprintf(name, sizeof name, "%d", k);
                pickle_text(&p, name);
                put_text(&p, "h");
                put_number(&p, (uint64_t)i - 1, 1);
            }
            put_text(&p, "u");
        }
        put_text(&p, ".");
        check_pickle(&p, depth == 6 ? "more than 128 nested" : "too deep");
        buffer_free(&p);
    }
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {{"types", types},
                                      {"views", views},
                                      {"nested", nested},
                                      {"refused_files", refused_files},
                                      {"every_truncation", every_truncation},
                                      {"every_damaged_byte", every_damaged_byte},
                                      {"sound_zip", sound_zip},
                                      {"zip_faults", zip_faults},
                                      {"pickle_faults", pickle_faults},
                                      {"wrappers", wrappers},
                                      {"several_networks", several_networks},
                                      {"other_protocols", other_protocols},
                                      {"other_kinds", other_kinds},
                                      {"shared_dictionaries", shared_dictionaries}};
    return test_main(argc, argv, cases, TEST_COUNT(cases));
}
