"""Drives the program as a user does: python3 tests/cli/run.py PROGRAM [filter].

Wrong use must end in one clear line on standard error and the right exit code; right use is tried
on the shipped mnist model and example digits."""
import gzip, json, os, struct, subprocess, sys, tempfile, time, traceback, zlib

import cases_verify

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
    scores = json.loads(out)
    assert png_size("eight.png") == (28, 28)
    assert scores["target"] == "8" and scores["before"] == "3", scores
    assert len(scores["probabilities_after"]) == 10
    assert abs(sum(scores["probabilities_before"]) - 1) < 1e-3
    assert scores["l1"] > 0 and scores["scale"] > 0


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
    assert [line["target"] for line in lines] == ["1", "2", "9"]
    assert [line["index"] for line in lines] == [0, 1, 2]


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


def read_gray(name):
    """Pixels of an 8-bit grey PNG without interlace."""
    with open(name, "rb") as f:
        blob = f.read()
    at, data, width = 8, b"", 0
    while at < len(blob):
        size, kind = struct.unpack(">I", blob[at:at + 4])[0], blob[at + 4:at + 8]
        body = blob[at + 8:at + 8 + size]
        if kind == b"IHDR":
            width, _, depth, color = struct.unpack(">IIBB", body[:10])
            assert (depth, color) == (8, 0), f"{name}: not 8-bit grey"
        data += body if kind == b"IDAT" else b""
        at += size + 12
    raw, above, out = zlib.decompress(data), bytes(width), b""
    for start in range(0, len(raw), width + 1):
        rule, row = raw[start], bytearray(raw[start + 1:start + 1 + width])
        for i in range(width):
            a, b, c = (row[i - 1] if i else 0), above[i], (above[i - 1] if i else 0)
            if rule == 4:
                p = a + b - c
                near = min((abs(p - a), 0, a), (abs(p - b), 1, b), (abs(p - c), 2, c))[2]
            else:
                near = (0, a, b, (a + b) // 2)[rule]
            row[i] = (row[i] + near) & 255
        above = bytes(row)
        out += above
    return out


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
    refused(["info", folder], 1, "score.safetensors")


def main():
    wanted = sys.argv[2] if len(sys.argv) > 2 else ""
    passed = failed = 0
    tests = {**globals(), **cases_verify.cases(run, path)}
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
