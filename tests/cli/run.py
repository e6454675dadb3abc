"""Drives the program as a user does: python3 tests/cli/run.py PROGRAM [filter].

Wrong use must end in one clear line on standard error and the right exit code; right use is tried
on the shipped mnist model and example digits."""
import gzip, json, math, os, re, shutil, struct, subprocess, sys, tempfile, time, traceback, zlib

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools"))
import grey_png
import cases_first, cases_full, cases_hostile, cases_imagenet, cases_judges, cases_new, cases_notebook
import cases_own, cases_tables, cases_truth, cases_verify, cases_wrong, identity
from waiting import until

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PROGRAM = os.path.abspath(sys.argv[1])
EXAMPLES = os.path.join(ROOT, "examples", "mnist")
FOLDER = tempfile.TemporaryDirectory()
FAST = ["--steps", "5", "--threads", "1"]


def run(*args, cwd=ROOT):
    done = subprocess.run([PROGRAM, *args], capture_output=True, text=True, timeout=300, cwd=cwd)
    return done.returncode, done.stdout, done.stderr


def path(name):
    return os.path.join(FOLDER.name, name)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def write_png(name, width, height):
    rows = (b"\0" + bytes(width)) * height
    with open(path(name), "wb") as f:
        f.write(b"\x89PNG\r\n\x1a\n" +
                chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)) +
                chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
    return path(name)


def png_size(name):
    with open(path(name), "rb") as f:
        head = f.read(24)
    assert head[:8] == b"\x89PNG\r\n\x1a\n", head
    return struct.unpack(">II", head[16:24])


def write_idx(name, shape, data):
    blob = bytes([0, 0, 8, len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + data
    with (gzip.open if name.endswith(".gz") else open)(path(name), "wb") as f:
        f.write(blob)
    return path(name)


def read_idx(name):
    with open(path(name), "rb") as f:
        blob = f.read()
    count = blob[3]
    return struct.unpack(f">{count}I", blob[4:4 + 4 * count]), blob[4 + 4 * count:]


def refused(args, code, *parts):
    """One line on standard error that holds every part, nothing on standard output."""
    got, out, err = run(*args)
    assert got == code, f"{args}: exit code {got}, expected {code}: {err}"
    err = re.sub("^note: --threads .*\n", "", err)  # where there are fewer processors than that
    assert err.count("\n") == 1 and err.startswith("diffscm"), f"{args}: {err!r}"
    assert out == "", f"{args}: {out!r}"
    for part in parts:
        assert part in err, f"{args}: {part!r} is not in {err!r}"


def digit(k):
    return os.path.join(EXAMPLES, f"{k}.png")


def test_version_and_help():
    code, out, _ = run("--version")
    assert code == 0 and out.startswith("diffscm "), out
    code, out, _ = run("--help")
    names = [line.split()[0] for line in out.splitlines() if line.startswith("  ")]
    assert code == 0 and "counterfactual" in names and "verify" in names, out
    for name in names:
        code, out, err = run(name, "--help")
        assert code == 0 and f"usage: diffscm {name}" in out and err == "", (name, out, err)


def test_no_command_is_wrong_use():
    code, out, err = run()
    assert code == 2 and out == "" and "usage:" in err


def test_unknown_command_and_option():
    refused(["paint"], 2, '"paint"')
    refused(["info", "--colour"], 2, "--colour")
    refused(["sample", "-o", path("x.png"), "--steps", "many"], 2, "--steps", "many")
    refused(["sample", "-o", path("x.png"), "--ratio", "7"], 2, "--ratio", "7")
    refused(["sample", "-o", path("x.png"), "--seed", "-1"], 2, "--seed", "-1")
    refused(["sample", "-o"], 2, "needs a value")


def test_counterfactual_wrong_use():
    out = ["-o", path("never.png")]
    one = ["counterfactual", digit(3)]
    refused([*one, "--do", "digit=11", *out], 2, "digit", "11")
    refused([*one, "--do", "colour=1", *out], 2, "colour")
    refused([*one, "--do", "digit", *out], 2, "VARIABLE=VALUE")
    refused([*one, *out], 2, "--do")
    refused([*one, "--do", "digit=8"], 2, "--out")
    refused([*one, "--do", "digit=8", "--sampler", "magic", *out], 2, "magic")
    for option in (["--targets", "x"], ["--limit", "3"], ["--sessions", "2"]):
        refused([*one, "--do", "digit=8", *option, *out], 2, "go with --images")
    for option in (["--preview", "x.png"], ["--resize"]):
        refused(["counterfactual", "--images", "x", "--null", *option, *out], 2, "go with a picture")
    refused([*one, "--do", "digit=8", "--model", "nothing", *out], 1, "nothing")
    refused(["counterfactual", path("absent.png"), "--do", "digit=8", *out], 1, "absent.png")
    refused(["counterfactual", __file__, "--do", "digit=8", *out], 1, "run.py")
    photo = write_png("photo.png", 300, 300)
    refused(["counterfactual", photo, "--do", "digit=8", *out], 1, "photo.png", "300")
    assert not os.path.exists(path("never.png"))


def test_truncated_png_is_named():
    with open(digit(4), "rb") as f:
        blob = f.read()
    for size in (0, 7, 20, len(blob) // 2, len(blob) - 1):
        with open(path("cut.png"), "wb") as f:
            f.write(blob[:size])
        refused(["counterfactual", path("cut.png"), "--do", "digit=8", "-o", path("never.png")], 1,
                "cut.png")


def test_one_picture():
    code, out, err = run("counterfactual", digit(3), "--do", "digit=8", "-o", path("eight.png"),
                         *FAST)
    assert code == 0, err
    reply = json.loads(out)
    seen, answer = reply["observed"]["digit"], reply["counterfactuals"][0]
    assert png_size("eight.png") == (28, 28)
    assert answer["intervention"] == {"digit": "8"} and seen["value"] == "3", reply
    assert len(seen["probabilities"]) == 10 and abs(sum(seen["probabilities"].values()) - 1) < 1e-3
    assert answer["scores"]["l1"] > 0 and answer["scale"] > 0
    assert reply["abduction"]["verdict"] == "good" and "id" in reply
    assert f"digit = 8: {answer['outcome']}" in err, err


def test_a_fan_is_a_sheet_of_the_single_pictures():
    code, out, err = run("counterfactual", digit(3), "--do", "digit=*", "-o", path("fan.png"), "--json",
                         *FAST)
    assert code == 0, err
    fan = json.loads(out)["counterfactuals"]
    assert [c["intervention"]["digit"] for c in fan] == [str(k) for k in range(10)]
    assert png_size("fan.png") == (11 * 60 + 4, 60 + 4)
    code, out, err = run("counterfactual", digit(3), "--do", "digit=8", "-o", path("of-fan.png"), *FAST)
    rounded = lambda text: json.loads(text, parse_float=lambda x: f"{float(x):.6g}") # a batch rounds otherwise
    assert code == 0 and rounded(out)["counterfactuals"][0] == rounded(json.dumps(fan[8])), (out, fan[8])
    sheet, one = read_gray(path("fan.png")), read_gray(path("of-fan.png"))
    at = lambda x, y: sheet[(4 + 2 * y) * 664 + 4 + 9 * 60 + 2 * x]
    assert all(at(x, y) == one[y * 28 + x] for y in range(28) for x in range(28))
    refused(["counterfactual", digit(3), "--do", "size=*", "-o", path("never.png")], 2, "size")


def test_scores_are_of_the_picture_that_is_written():
    code, out, err = run("counterfactual", digit(3), "--do", "digit=8", "--scale", "6", "-o",
                         path("judged.png"), *FAST)
    assert code == 0, err
    pairs = list(zip(read_gray(digit(3)), read_gray(path("judged.png"))))
    mean = sum(abs(a - b) for a, b in pairs) / len(pairs)
    assert abs(json.loads(out)["counterfactuals"][0]["scores"]["l1"] - mean) < 1e-3, (out, mean)


def test_resized_picture():
    photo = write_png("large.png", 300, 200)
    code, _, err = run("counterfactual", photo, "--resize", "--do", "digit=1", "-o",
                       path("fitted.png"), *FAST)
    assert code == 0 and png_size("fitted.png") == (28, 28), err


def test_idx_files():
    pixels = bytes((i * 7) % 256 for i in range(3 * 784))
    images = write_idx("x-idx3-ubyte.gz", (3, 28, 28), pixels)
    targets = write_idx("y-idx1-ubyte", (3,), bytes([1, 2, 9]))
    common = ["counterfactual", "--images", images, "--targets", targets]
    code, _, err = run(*common, "--out", path("z-idx3-ubyte"), "--scores", path("s.jsonl"),
                       "--steps", "5", "--threads", "2", "--batch", "2")
    assert code == 0, err
    shape, data = read_idx("z-idx3-ubyte")
    assert shape == (3, 28, 28) and len(data) == 3 * 784
    with open(path("s.jsonl")) as f:
        lines = [json.loads(line) for line in f]
    answers = [line["counterfactuals"] for line in lines]
    assert [a[0]["intervention"] for a in answers] == [{"digit": k} for k in ("1", "2", "9")]
    assert [line["index"] for line in lines] == [0, 1, 2]


def test_morpho_and_fit_take_slices_or_refuse_them():
    os.makedirs(path("strokes"), exist_ok=True)
    bar = b"".join(bytes(255 if 12 <= x < 16 and 6 <= y < 22 else 0 for x in range(28))
                   for y in range(28))
    write_idx("strokes/dev-images-idx3-ubyte", (4, 28, 28), bar * 4)
    write_idx("strokes/dev-labels-idx1-ubyte", (4,), bytes([1, 1, 1, 1]))
    code, _, err = run("morpho", "render", "--data", path("strokes"), "--split", "dev[1:3]",
                       "--out", path("drawn"), "--threads", "1")
    assert code == 0, err
    assert sorted(os.listdir(path("drawn"))) == [
        "dev-images-idx3-ubyte.gz", "dev-labels-idx1-ubyte.gz", "dev-variables.csv"]
    assert len(open(path("drawn/dev-variables.csv")).readlines()) == 3
    code, out, err = run("morpho", "measure", "--data", path("drawn"), "--split", "dev",
                         "--threads", "1")
    assert code == 0 and out.count("\n") == 3, (out, err)
    head, first = out.split("\n")[:2]
    assert head == "digit,thickness,intensity,slant" and first.startswith("1,"), out
    code, out, err = run("morpho", "measure", "--images", path("strokes/dev-images-idx3-ubyte"),
                         "--threads", "1")
    assert code == 0 and out.startswith("thickness,intensity,slant\n"), (out, err)
    code, _, err = run("fit", "--data", path("drawn"), "--split", "dev[0:1]", "--graph",
                       "thickness -> intensity", "--out", path("never.json"))
    assert code == 2 and "dev[0:1]" in err and "alone" in err, err
    assert not os.path.exists(path("never.json"))


def test_idx_wrong_use():
    images = write_idx("x3", (2, 28, 28), bytes(2 * 784))
    out = ["--out", path("never")]
    bad = write_idx("bad", (2,), bytes([3, 10]))
    refused(["counterfactual", "--images", images, "--targets", bad, *out], 2, "10")
    few = write_idx("few", (1,), bytes([3]))
    refused(["counterfactual", "--images", images, "--targets", few, *out], 1, "1 targets")
    small = write_idx("small", (2, 9, 9), bytes(162))
    two = write_idx("two", (2,), bytes([3, 4]))
    refused(["counterfactual", "--images", small, "--targets", two, *out], 1, "small")
    refused(["counterfactual", "--images", images, *out], 2, "--targets")


def test_null_counterfactual_returns_the_image():
    """Composition: without guidance the exact sampler gives every pixel back within 1."""
    pixels = read_gray(digit(5))
    images = write_idx("five", (1, 28, 28), pixels)
    targets = write_idx("t5", (1,), bytes([5]))
    code, _, err = run("counterfactual", "--images", images, "--targets", targets, "--null",
                       "--out", path("same"), "--threads", "1")
    assert code == 0, err
    _, data = read_idx("same")
    worst = max(abs(a - b) for a, b in zip(data, pixels))
    assert worst <= 1, f"a pixel moved by {worst}"
    code, _, err = run("counterfactual", "--images", images, "--null", "--out", path("alone"),
                       "--scores", path("null.jsonl"), "--threads", "1")
    assert code == 0, err  # nothing is aimed at: scored against what the image shows
    assert read_idx("alone")[1] == data
    with open(path("null.jsonl")) as f:
        reply = json.loads(f.read())
    answer = reply["counterfactuals"][0]
    assert reply["observed"]["digit"]["value"] == "5" and answer["intervention"] == {}, reply
    assert answer["scores"]["valid"] and answer["scores"]["probability"]["after"] > 0.5, reply


def read_gray(name):
    """Pixels of an 8-bit grey PNG."""
    with open(name, "rb") as f:
        return b"".join(grey_png.rows(f.read()))


def test_samples_repeat_with_their_seed():
    for name in ("a.png", "b.png"):
        code, _, err = run("sample", "--count", "2", "--seed", "5", "-o", path(name), *FAST)
        assert code == 0, err
    with open(path("a.png"), "rb") as a, open(path("b.png"), "rb") as b:
        assert a.read() == b.read()


def test_info():
    code, out, err = run("info", "mnist")
    assert code == 0 and "digit" in out and "28x28x1" in out, out + err
    code, out, _ = run("info", "mnist", "--labels", "7")
    assert code == 0 and "digit=7" in out
    refused(["info", "mnist", "--labels", "zebra"], 1, "zebra")


def test_found_from_anywhere():
    code, out, err = run("info", "mnist", cwd="/")
    assert code == 0, err


def test_damaged_model_is_refused():
    folder = path("broken")
    os.makedirs(folder, exist_ok=True)
    source = os.path.join(ROOT, "models", "mnist")
    for name in os.listdir(source):
        if not os.path.isfile(os.path.join(source, name)):
            continue
        with open(os.path.join(source, name), "rb") as f:
            blob = bytearray(f.read())
        if name == "score.safetensors":
            blob[-1] ^= 1
        with open(os.path.join(folder, name), "wb") as f:
            f.write(blob)
    use = ["counterfactual", digit(3), "--do", "digit=8", "-o", path("never.png"), "--model"]
    refused(["info", folder, "--check"], 1, "score.safetensors", "SHA-256")
    refused([*use, folder], 1, "score.safetensors", "SHA-256")
    os.truncate(os.path.join(folder, "score.safetensors"), 1000)
    refused([*use, folder], 1, "score.safetensors")
    os.remove(os.path.join(folder, "score.safetensors"))
    refused([*use, folder], 1, "score.safetensors", "No such file")
    assert not os.path.exists(path("never.png"))


def write_digits(folder, split, shifts):
    """The example digits as a data set, each once per shift to the right."""
    os.makedirs(path(folder), exist_ok=True)
    pixels, labels = b"", b""
    for shift in shifts:
        for k in range(10):
            gray = read_gray(digit(k))
            for row in range(28):
                line = gray[28 * row:28 * row + 28]
                pixels += line[28 - shift:] + line[:28 - shift]
            labels += bytes([k])
    count = len(labels)
    write_idx(f"{folder}/{split}-images-idx3-ubyte", (count, 28, 28), pixels)
    write_idx(f"{folder}/{split}-labels-idx1-ubyte", (count,), labels)


def digits():
    if not os.path.exists(path("digits")):
        write_digits("digits", "dev", range(4))
        write_digits("digits", "train", range(5))
    return path("digits")


def rows_of(folder, slug):
    with open(os.path.join(folder, f"records-{slug}.csv")) as f:
        head, *lines = f.read().splitlines()
    names = head.split(",")
    return [dict(zip(names, line.split(","))) for line in lines]


def dev_images():
    _, blob = read_idx(os.path.join(digits(), "dev-images-idx3-ubyte"))
    return [blob[at:at + 784] for at in range(0, len(blob), 784)]


def bundle_takes_what_was_measured(measured):
    model = path("measured-model")
    shutil.copytree(os.path.join(ROOT, "models", "mnist"), model)

    def manifest():
        with open(os.path.join(model, "manifest.json")) as f:
            return json.load(f)

    before = manifest()
    refused(["bundle", "--out", model, "--measured", path("absent.json")], 1, "--measured",
            "absent.json")
    code, out, err = run("bundle", "--out", model, "--measured", measured)
    assert code == 0 and model in out, out + err
    after, wanted = manifest(), json.load(open(measured))
    assert after["quality"] == wanted["quality"] != before.get("quality")
    assert after["evaluation"].pop("accepted") == wanted["accepted"]
    before["evaluation"].pop("accepted", None)
    for manifest_of in (before, after):
        manifest_of.pop("quality", None)
        manifest_of.pop("format")  # the newest is written
    assert before == after
    # What would spoil the bundle, or find it spoilt, leaves its manifest as it is.
    kept = manifest()
    with open(path("often.json"), "w") as f:
        json.dump({"scale": "often"}, f)
    refused(["bundle", "--out", model, "--measured", path("often.json")], 1, "scale", "auto")
    with open(os.path.join(model, "panel-classifier-0.safetensors"), "ab") as f:
        f.write(b"x")
    refused(["bundle", "--out", model, "--measured", measured], 1, "panel-classifier-0.safetensors", "SHA-256")
    assert manifest() == kept


def calibrated_scale(model, steps):
    """The scale that a shipped model's manifest gives for so many steps."""
    with open(os.path.join(ROOT, "models", model, "manifest.json")) as f:
        return next(c["scale"] for c in json.load(f)["calibration"] if c["steps"] == steps)


def test_evaluate_report():
    folder, usual = path("report"), calibrated_scale("mnist", 5)
    command = ["evaluate", "--data", digits(), "--report", folder, "--steps", "5", "--threads", "2",
               "--limit", "24", "--slow-limit", "24", "--curve-limit", "4", "--study-limit", "2",
               "--slow-study-limit", "1", "--methods",
               f"ours,ours:scale=calibrated,ours:scale={usual},"
               "published:steps=10:ratio=0.9:dynamic=0:scale=16:limit=4,pgd,"
               "greedy:limit=1,identity,nearest,random,real",
               "--frontier", "ours:scale=auto/0/12", "--no-cost"]
    code, out, err = run(*command)
    assert code == 0 and out.splitlines()[-1] == os.path.join(folder, "report.html"), out + err
    with open(os.path.join(folder, "report.md")) as f:
        markdown = f.read()
    with open(os.path.join(folder, "report.html")) as f:
        html = f.read()
    rows = {line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:-1]]
            for line in markdown.split("## Realism")[1].split("## Minimality")[0].splitlines()
            if line.startswith("| ")}
    unchanged = rows["identity (the image itself)"]
    assert unchanged[:4] == ["24", "1.3133", "0.000", "1.000"], unchanged
    # A scale per image is the model's default; its calibrated one at 5 steps is named twice.
    assert len(rows) == 1 + 9, rows
    assert [name for name in rows if name.startswith("diffscm")] == [
        f"diffscm: implicit, 5 steps, ratio 0.98, scale {scale}" for scale in ("auto", usual)], rows
    searched, fixed = rows_of(folder, f"ours-implicit-5-0.98-auto{usual}"), rows_of(folder, f"ours-implicit-5-0.98-{usual}")
    assert len(searched) == len(fixed) == 24
    assert {row["scale"] for row in fixed} == {str(usual)}
    rungs = {round(math.log(float(row["scale"]) / (usual / 1.2)) / math.log(1.4), 3) for row in searched}
    assert 0 in rungs and rungs <= set(range(-1, 4)), rungs  # one weaker than the first, or stronger ones
    assert len(rows_of(folder, "ours-implicit-5-0.98-12")) == 4
    cost = [line.split("|") for line in markdown.split("## Cost")[1].split("##")[0].splitlines()
            if line.startswith("| diffscm")]
    mean = sum(float(row["passes"]) for row in searched) / 24
    assert [line[2].strip() for line in cost] == [f"{mean:.1f}", fixed[0]["passes"]], cost
    same = markdown.split("## All methods on the same images")[1].split("##")[0]
    assert same.count("| 1 |") == 9, same
    with open(os.path.join(folder, "measured.json")) as f:
        measured = json.load(f)
    assert measured["scale"] == measured["quality"]["scale"] == "auto", measured["quality"]
    cld = sum(float(row["cld"]) for row in searched) / 24
    assert abs(measured["quality"]["cld"] - cld) < 1e-4
    checked = {slug: identity.check(folder, dev_images(), slug, title, read_idx, rows_of(folder, slug))
               for slug, title in ((f"ours-implicit-5-0.98-auto{usual}",
                                    "diffscm: implicit, 5 steps, ratio 0.98, scale auto"),
                                   ("identity", "identity (the image itself)"),
                                   ("random", "random training image of the target class"),
                                   ("greedy", "Schut et al.: greedy pixels, ensemble"))}
    assert checked["identity"][1] == 0 and checked["identity"][0] > 0, checked
    assert checked["greedy"] == (None, None), checked
    for name, value in zip(("diversity_255", "identity_rank"), checked[f"ours-implicit-5-0.98-auto{usual}"]):
        assert abs(measured["quality"][name] - value) < 1e-4, (name, value, measured["quality"])
    with_table = identity.table(html)
    assert len(with_table) == 9 and set(with_table) == set(rows) - {"method"}, with_table
    good = [float(row["cld"]) for row in searched if row["guide"] == row["oracle"] == "1"]
    scale = measured["accepted"]["cld"]
    assert len(scale) == 101 and abs(scale[0] - min(good)) < 1e-5 and abs(scale[-1] - max(good)) < 1e-5
    for part in ("## Validity", "## Cost", "## Frontier", "## Composition", "## Percentiles",
                 "## By source and target", "## Sheets", "--limit 24", "score.safetensors"):
        assert part in markdown, part
    null = [line for line in markdown.split("## Composition")[1].splitlines()
            if line.startswith("| diffscm")][0]
    assert null.split("|")[3:5] == [" 0.000 ", " 0.000 "], null
    assert html.count("<table>") >= 9 and "data:image/png;base64," in html
    assert 'src="sheet' not in html and 'src="http' not in html
    if shutil.which("gnuplot"):
        assert "](curve.svg)" in markdown and html.count("data:image/svg+xml;base64,") == 3
        for name in ("curve.svg", "frontier.svg", "composition.svg"):
            with open(os.path.join(folder, name)) as f:
                assert "</svg>" in f.read()
    for row in rows_of(folder, "identity"):
        assert row["target"] != row["label"] and float(row["l1"]) == 0
    bundle_takes_what_was_measured(os.path.join(folder, "measured.json"))
    # The same folder for other targets would mix two evaluations.
    refused([*command, "--seed", "2"], 1, "evaluation.json", "seed")


def test_evaluate_notices_a_forgotten_factual():
    """One image for everybody, put in place of the results of an earlier run."""
    folder = path("forgotten")
    command = ["evaluate", "--data", digits(), "--report", folder, "--methods", "identity", "--frontier",
               "", "--no-cost", "--no-sheets", "--study-limit", "0"]
    code, _, err = run(*command)
    assert code == 0, err
    results = os.path.join(folder, "images-identity")
    shape, blob = read_idx(results)
    assert shape[0] == 40
    write_idx(results, shape, blob[:784] * 40)
    code, _, err = run(*command)
    assert code == 0, err
    diversity, rank = identity.check(folder, dev_images(), "identity", "identity (the image itself)",
                                     read_idx, rows_of(folder, "identity"))
    assert diversity == 0 and abs(rank - 0.5) < 1e-12, (diversity, rank)


def counts_stay_below_their_totals(err):
    counts = [tuple(map(int, pair)) for pair in re.findall(r" (\d+)/(\d+) ", err)]
    assert counts and all(done <= total for done, total in counts), err
    return counts


def test_progress_counts_what_is_done():
    """Parts of 7 of 24 images, shared by two threads; steps of 30 of 1000 samples."""
    for i in range(3): # which thread takes which part is chance
        code, _, err = run("evaluate", "--data", digits(), "--report", path(f"parts-{i}"),
                           "--limit", "24", "--batch", "7", "--threads", "2", "--methods",
                           "identity,nearest", "--frontier", "", "--study-limit", "0",
                           "--slow-study-limit", "0", "--no-cost", "--no-sheets")
        assert code == 0, err
        assert counts_stay_below_their_totals(err).count((24, 24)) == 2, err
    code, _, err = run("train", "vae", "--data", digits(), "--samples", "740", "--batch", "30",
                       "--threads", "1", "--out", path("counted"))
    assert code == 0, err
    assert counts_stay_below_their_totals(err)[-1] == (750, 750), err


def test_evaluate_goes_on_after_a_kill():
    folder = path("killed")
    command = ["evaluate", "--data", digits(), "--report", folder, "--steps", "20", "--threads", "1",
               "--batch", "2", "--methods", "ours", "--frontier", "", "--no-cost", "--no-sheets",
               "--study-limit", "0"]
    child = subprocess.Popen([PROGRAM, *command], cwd=ROOT, stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL)

    def slug():
        found = [n for n in (os.listdir(folder) if os.path.isdir(folder) else [])
                 if n.startswith("records-ours")]
        return found[0][8:-4] if found else None
    until(lambda: slug() and len(rows_of(folder, slug())) >= 8 or child.poll() is not None)
    child.kill()
    child.wait()
    before = rows_of(folder, slug())
    code, _, err = run(*command)
    assert code == 0, err
    after = rows_of(folder, slug())
    assert 8 <= len(before) < 40 and len(after) == 40, (len(before), len(after))
    whole = len(before) - 1 # the last line may have been cut
    assert after[:whole] == before[:whole], "rows of the first run were computed again"
    assert [int(row["index"]) for row in after] == list(range(40))
    with open(os.path.join(folder, "report.md")) as f:
        assert "| 40 |" in f.read()
    identity.check(folder, dev_images(), slug(), "diffscm: implicit, 20 steps, ratio 0.98, scale auto",
                   read_idx, after)


def test_evaluate_wrong_use():
    report = path("never-report")
    common = ["evaluate", "--data", digits(), "--report", report]
    refused(["evaluate", "--data", digits()], 2, "--report")
    refused([*common, "--methods", "magic"], 2, "magic", "prototype")
    refused([*common, "--methods", "ours:colour=red"], 2, "colour", "scale=auto/4/8")
    refused([*common, "--methods", "ours:scale=much"], 2, "scale=much")
    refused([*common, "--methods", "ours:sampler=magic"], 2, "magic")
    refused([*common, "--methods", "auto"], 2, "auto", "prototype")
    refused([*common, "--methods", "published:scale=auto"], 2, "published", "only ours")
    refused([*common, "--frontier", "identity"], 2, "identity")
    refused([*common, "--split", "absent"], 1, "absent")
    refused([*common[:3], "--report", digit(3)], 2, "--report", "must be a folder")
    assert not os.path.exists(report)


def test_bench_wrong_use():
    refused(["bench", "everything"], 2, "everything")
    refused(["bench", "--isa", "mmx"], 2, "mmx", "avx512")
    refused(["bench", "--only", "lunch"], 2, "lunch", "networks")
    refused(["bench", "--threads", "0"], 2, "--threads")
    refused(["bench", "--model", "nothing"], 1, "nothing")


def test_bench_report():
    code, out, err = run("bench", "--quick", "--json", "--only", "networks", "--threads", "2",
                         "--isa", "base")
    assert code == 0 and err == "", err
    report = json.loads(out)
    assert report["machine"]["isa"] == "base" and report["machine"]["threads"] == 2
    peaks = {(p["name"], p["threads"]): p["giga_per_second"] for p in report["peak"]}
    assert min(peaks.values()) > 0 and report["peak_memory_mib"] > 0
    assert {b["name"] for b in report["bandwidth"]} == {"read", "copy"}
    rows = {(r["name"], r["pass"], r["batch"], r["threads"]): r for r in report["rows"]}
    assert len(rows) == len(report["rows"])
    for name, kind in (("score", "forward"), ("predictor of digit", "forward + input grad")):
        for batch in (1, 16):
            row = rows[name, kind, batch, 1]
            assert row["seconds_min"] <= row["seconds"] <= row["seconds_max"], row
            at_peak = row["flops"] / (1e9 * peaks["multiply-add base", 1])
            assert abs(row["ratio"] / (row["seconds"] / at_peak) - 1) < 1e-3, row
            assert abs(row["images_per_second"] * row["seconds"] / batch - 1) < 1e-3, row
            assert row["arena_bytes"] > 0
    # counted by hand from the manifest: 32 channels at 28x28 are 14.45 MFLOP per 3x3 convolution
    # counted by hand from the manifest: 374 MFLOP of convolutions (14.45 per 3x3 one of 32 channels
    # at 28x28), and attention in three blocks at 7x7 with 2.2 each
    assert 377e6 < rows["score", "forward", 1, 1]["flops"] < 384e6


def main():
    wanted = sys.argv[2] if len(sys.argv) > 2 else ""
    passed = failed = 0
    tests = {**globals(), **cases_verify.cases(run, path),
             **cases_imagenet.cases(run, path, refused, PROGRAM),
             **cases_first.cases(PROGRAM, ROOT, refused, run, path),
             **cases_full.cases(PROGRAM, ROOT, path, digits),
             **cases_judges.cases(PROGRAM, ROOT, path, digits),
             **cases_new.cases(PROGRAM, ROOT, refused, run, path),
             **cases_own.cases(PROGRAM, path, run),
             **cases_notebook.cases(PROGRAM, ROOT, refused, run, path),
             **cases_hostile.cases(path, PROGRAM),
             **cases_tables.cases(PROGRAM, ROOT, refused, run, path, write_idx, read_idx),
             **cases_truth.cases(refused, run, path, write_idx, png_size),
             **cases_wrong.cases(PROGRAM, ROOT, refused, run, path, write_png, write_idx)}
    for name, case in tests.items():
        if not name.startswith("test_") or wanted not in name:
            continue
        start = time.time()
        try:
            case()
            passed += 1
            print(f"  ok cli.{name} {time.time() - start:.2f} s", flush=True)
        except Exception:
            failed += 1
            print(f"  FAIL cli.{name}\n{traceback.format_exc()}", flush=True)
    print(f"{'test_cli':28} {passed} passed, {failed} failed, 0 skipped")
    FOLDER.cleanup()
    return failed != 0


sys.exit(main())
