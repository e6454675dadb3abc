"""Colour networks of the published family, end to end: two small .pt files with attention, learned
variances and a pool become a bundle, and a photograph a counterfactual, on the command line and by
the service. The weights are random; the files are written here, without PyTorch."""
import base64, http.client, io, json, os, pickle, re, signal, struct, subprocess, sys, types
import zipfile, zlib
import random

from waiting import PATIENCE, catches, until

SIDE, WIDTH, CLASSES = 32, 32, 6
NAMES = ["ant", "bee", "espresso", "espresso maker", "fox", "gnu"]


# ---- a PyTorch file by the standard library -------------------------------------------------------
class Storage:
    """What pickle writes a persistent id for."""

    def __init__(self, key, count):
        self.key, self.count = key, count


def torch_modules():
    """Stand-ins by which pickle can name the two things that a state dict refers to."""
    utils, torch = types.ModuleType("torch._utils"), types.ModuleType("torch")

    def _rebuild_tensor_v2(*args):
        raise AssertionError("only named, never called")

    _rebuild_tensor_v2.__module__ = "torch._utils"
    _rebuild_tensor_v2.__qualname__ = "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2
    torch.FloatStorage = type("FloatStorage", (), {"__module__": "torch"})
    torch._utils = utils
    return {"torch": torch, "torch._utils": utils}


class Tensor:
    def __init__(self, storage, shape, rebuild):
        strides = [1] * len(shape)
        for d in range(len(shape) - 2, -1, -1):
            strides[d] = strides[d + 1] * shape[d + 1]
        self.args = (rebuild, (storage, 0, tuple(shape), tuple(strides), False, {}))

    def __reduce__(self):
        return self.args


class Pickler(pickle.Pickler):
    def persistent_id(self, value):
        if not isinstance(value, Storage):
            return None
        return "storage", sys.modules["torch"].FloatStorage, value.key, "cpu", value.count


def write_pt(path, tensors):
    """tensors: name -> (shape, list of floats)."""
    held = {name: sys.modules.get(name) for name in ("torch", "torch._utils")}
    sys.modules.update(torch_modules())
    try:
        rebuild = sys.modules["torch._utils"]._rebuild_tensor_v2
        state = {name: Tensor(Storage(str(i), len(values)), shape, rebuild)
                 for i, (name, (shape, values)) in enumerate(tensors.items())}
        text = io.BytesIO()
        Pickler(text, protocol=2).dump(state)
    finally:
        for name, module in held.items():
            sys.modules.pop(name)
            if module:
                sys.modules[name] = module
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as out:
        out.writestr("net/data.pkl", text.getvalue())
        out.writestr("net/version", "3\n")
        for i, (_, values) in enumerate(tensors.values()):
            out.writestr(f"net/data/{i}", struct.pack(f"<{len(values)}f", *values))


# ---- the networks' tensors ------------------------------------------------------------------------
class Shapes:
    def __init__(self, seed):
        self.random, self.all = random.Random(seed), {}

    def add(self, name, shape, centre=0.0):
        fan = 1
        for n in shape[1:]:
            fan *= n
        count = fan * shape[0]
        spread = fan ** -0.5 if len(shape) > 1 else 0.1
        self.all[name] = (shape, [self.random.gauss(centre, spread) for _ in range(count)])

    def layer(self, name, *shape):
        self.add(name + ".weight", shape)
        self.add(name + ".bias", shape[:1])

    def norm(self, name, c):
        self.add(name + ".weight", (c,), 1.0)
        self.add(name + ".bias", (c,))

    def block(self, name, ci, co):
        self.norm(name + ".in_layers.0", ci)
        self.layer(name + ".in_layers.2", co, ci, 3, 3)
        self.layer(name + ".emb_layers.1", 2 * co, 4 * WIDTH)
        self.norm(name + ".out_layers.0", co)
        self.layer(name + ".out_layers.3", co, co, 3, 3)
        if ci != co:
            self.layer(name + ".skip_connection", co, ci, 1, 1)

    def attention(self, name, c):
        self.norm(name + ".norm", c)
        self.layer(name + ".qkv", 3 * c, c, 1)
        self.layer(name + ".proj_out", c, c, 1)

    def trunk(self):
        """Two levels of one block, the second with attention, and the middle."""
        self.layer("time_embed.0", 4 * WIDTH, WIDTH)
        self.layer("time_embed.2", 4 * WIDTH, 4 * WIDTH)
        self.layer("input_blocks.0.0", WIDTH, 3, 3, 3)
        self.block("input_blocks.1.0", WIDTH, WIDTH)
        self.block("input_blocks.2.0", WIDTH, WIDTH)  # down
        self.block("input_blocks.3.0", WIDTH, 2 * WIDTH)
        self.attention("input_blocks.3.1", 2 * WIDTH)
        self.block("middle_block.0", 2 * WIDTH, 2 * WIDTH)
        self.attention("middle_block.1", 2 * WIDTH)
        self.block("middle_block.2", 2 * WIDTH, 2 * WIDTH)


def score_tensors(classes):
    s = Shapes(1)
    s.trunk()
    if classes:
        s.add("label_emb.weight", (classes, 4 * WIDTH))
    s.block("output_blocks.0.0", 4 * WIDTH, 2 * WIDTH)
    s.attention("output_blocks.0.1", 2 * WIDTH)
    s.block("output_blocks.1.0", 3 * WIDTH, 2 * WIDTH)
    s.attention("output_blocks.1.1", 2 * WIDTH)
    s.block("output_blocks.1.2", 2 * WIDTH, 2 * WIDTH)  # up
    s.block("output_blocks.2.0", 3 * WIDTH, WIDTH)
    s.block("output_blocks.3.0", 2 * WIDTH, WIDTH)
    s.norm("out.0", WIDTH)
    s.layer("out.2", 6, WIDTH, 3, 3)
    return s.all


def predictor_tensors():
    s, c = Shapes(2), 2 * WIDTH
    s.trunk()
    s.norm("out.0", c)
    s.add("out.2.positional_embedding", (c, (SIDE // 2) ** 2 + 1))
    s.layer("out.2.qkv_proj", 3 * c, c, 1)
    s.layer("out.2.c_proj", CLASSES, c, 1)
    return s.all


# ---- pictures -------------------------------------------------------------------------------------
def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, depth, colour, pixel):
    """pixel(x, y) -> samples; colour 0 grey, 2 RGB, 6 RGBA."""
    code = ">H" if depth == 16 else ">B"
    rows = b"".join(b"\0" + b"".join(struct.pack(code, v) for x in range(width)
                                     for v in pixel(x, y)) for y in range(height))
    return (b"\x89PNG\r\n\x1a\n" +
            chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)) +
            chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def read_rgb(path):
    """Rows of an unfiltered or filtered 8-bit RGB PNG."""
    with open(path, "rb") as f:
        blob = f.read()
    width, height, depth, colour = struct.unpack(">IIBB", blob[16:26])
    assert (depth, colour) == (8, 2), (depth, colour)
    at, data = 8, b""
    while at < len(blob):
        size, kind = struct.unpack(">I4s", blob[at:at + 8])
        if kind == b"IDAT":
            data += blob[at + 8:at + 8 + size]
        at += 12 + size
    raw, line, before, out = zlib.decompress(data), 3 * width, bytearray(3 * width), []
    for y in range(height):
        kind, row = raw[y * (line + 1)], bytearray(raw[y * (line + 1) + 1:(y + 1) * (line + 1)])
        for i in range(line):
            a = row[i - 3] if i >= 3 else 0
            b, c = before[i], before[i - 3] if i >= 3 else 0
            p = a + b - c
            near = min((abs(p - a), 0, a), (abs(p - b), 1, b), (abs(p - c), 2, c))[2]
            row[i] = (row[i] + [0, a, b, (a + b) // 2, near][kind]) & 255
        out.append(bytes(row))
        before = row
    return width, height, b"".join(out)


# ---- cases ----------------------------------------------------------------------------------------
def cases(run, path, refused, program):
    """The named test functions; run, path and refused are run.py's."""
    made = {}

    def wave(x, y, top=255):
        return [(7 * x + 3 * y) % (top + 1), (5 * x * y) % (top + 1), (11 * y) % (top + 1)]

    def photo(name, blob):
        with open(path(name), "wb") as f:
            f.write(blob)
        return path(name)

    def bundle(kind, *more):
        """'plain' or 'conditional', imported once."""
        if kind in made:
            return made[kind]
        score = path(f"{kind}-score.pt")
        write_pt(score, score_tensors(CLASSES if kind == "conditional" else 0))
        write_pt(path("predictor.pt"), predictor_tensors())
        with open(path("names.txt"), "w") as f:
            f.write("\n".join(NAMES) + "\n")
        made[kind] = path(kind)
        code, out, err = run(
            "import", "--licence", "not stated", "--score", score, "--predictor", path("predictor.pt"), "--out", made[kind],
            "--schedule", "linear", "--labels", path("names.txt"), "--set", f"image_size={SIDE}",
            "--set", "attention_order=legacy", "--set", "num_head_channels=16", *more)
        assert code == 0 and "6 classes, 32x32 images" in out, out + err
        return made[kind]

    def steps(kind, *more):
        return ["--model", bundle(kind), "--steps", "4", *more]

    def test_imagenet_labels():
        code, out, err = run("info", bundle("plain", "--dtype", "f16"), "--labels", "ESPRESSO")
        assert (code, err) == (0, ""), err
        assert "class=espresso  (index 2)" in out and "class=espresso maker  (index 3)" in out, out
        code, out, err = run("info", bundle("plain"), "--check")
        assert code == 0 and "all hashes agree" in out and "32x32x3" in out, out + err
        with open(os.path.join(bundle("plain"), "manifest.json")) as f:
            defaults = json.load(f)["defaults"]
        assert defaults["sampler"] == "residual" and defaults["steps"] == 20, defaults

    def test_imagenet_photographs():
        kinds = {
            "rgb.png": png(51, 40, 8, 2, wave),
            "deep.png": png(40, 51, 16, 2, lambda x, y: wave(x, y, 65535)),
            "alpha.png": png(33, 32, 8, 6, lambda x, y: wave(x, y) + [x * 7 % 256]),
            "grey.png": png(20, 24, 8, 0, lambda x, y: [(9 * x + y) % 256]),
        }
        for name, blob in kinds.items():
            code, out, err = run("counterfactual", photo(name, blob), "--do",
                                 "class=espresso maker", *steps("plain"), "-o", path("cf.png"),
                                 "--preview", path("preview.png"))
            assert code == 0, err
            answer = json.loads(out)["counterfactuals"][0]
            assert answer["intervention"] == {"class": "espresso maker"}, answer
            assert answer["scores"]["l1"] >= 0, answer
            assert read_rgb(path("cf.png"))[:2] == (SIDE, SIDE)
            assert read_rgb(path("preview.png"))[:2] == (SIDE, SIDE)

    def test_imagenet_telephone_photograph():
        """12 million pixels, as cameras make them, whatever the size of the model's images."""
        width, height = 4032, 3024
        rows = (b"\0" + bytes([90, 120, 150]) * width) * height
        blob = (b"\x89PNG\r\n\x1a\n" +
                chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)) +
                chunk(b"IDAT", zlib.compress(rows, 1)) + chunk(b"IEND", b""))
        code, _, err = run("counterfactual", photo("telephone.png", blob), "--null",
                           *steps("plain"), "-o", path("null.png"))
        assert code == 0, err
        assert read_rgb(path("null.png")) == (SIDE, SIDE, bytes([90, 120, 150]) * SIDE * SIDE)

    def test_imagenet_null_is_exact():
        """Both kinds: a class-conditional network goes down by the class it went up with."""
        picture = photo("square.png", png(SIDE, SIDE, 8, 2, wave))
        for kind in ("plain", "conditional"):
            code, _, err = run("counterfactual", picture, "--null", *steps(kind), "-o",
                               path("null.png"))
            assert code == 0, err
            assert read_rgb(path("null.png")) == read_rgb(picture), kind

    def test_imagenet_condition_alone():
        """With scale 0 the target class still reaches a class-conditional network."""
        picture = photo("square.png", png(SIDE, SIDE, 8, 2, wave))
        results = {}
        for kind in ("plain", "conditional"):
            for label in ("ant", "fox"):
                code, _, err = run("counterfactual", picture, "--do", f"class={label}", "--scale",
                                   "0", *steps(kind), "-o", path("alone.png"))
                assert code == 0, err
                results[kind, label] = read_rgb(path("alone.png"))
        assert results["plain", "ant"] == results["plain", "fox"] == read_rgb(picture)
        assert results["conditional", "ant"] != results["conditional", "fox"]

    def test_imagenet_memory():
        """Packed or from the mapped file: the same picture; too little is refused with figures."""
        bundle("plain", "--dtype", "f16")
        picture = photo("square.png", png(SIDE, SIDE, 8, 2, wave))
        refused(["counterfactual", picture, "--do", "class=ant", *steps("plain"), "--memory", "2M",
                 "-o", path("never.png")], 1, "the limit is 2 MiB", "f16")
        refused(["counterfactual", picture, "--do", "class=ant", *steps("plain"), "--memory", "2Q",
                 "-o", path("never.png")], 2, "--memory 2Q", "K, M or G")

        def least(*args):
            """What is needed with mapped weights: too little for packed ones of a 16-bit bundle."""
            code, _, err = run(*args, "--memory", "2M")
            return re.search(r"needs (\d+) MiB", err)[1] + "M"
        check = ["info", bundle("plain"), "--check"]
        code, out, err = run(*check, "--memory", least(*check))
        found = re.search(r"weights ([\d.]+) MB in memory, ([\d.]+) MB used", out)
        assert code == 0 and float(found[2]) > 0, out + err
        make = ["counterfactual", picture, "--do", "class=ant", *steps("plain"), "-o",
                path("memory.png")]
        pictures = []
        for limit in ("1G", least(*make)):
            code, _, err = run(*make, "--memory", limit)
            assert code == 0, err
            pictures.append(read_rgb(path("memory.png")))
        assert pictures[0] == pictures[1]

    def test_imagenet_interrupt():
        process = subprocess.Popen(
            [program, "counterfactual", photo("square.png", png(SIDE, SIDE, 8, 2, wave)), "--do",
             "class=ant", "--model", bundle("plain"), "--steps", "900", "--sampler", "ddim",
             "--threads", "1", "-o", path("never.png")],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        until(lambda: catches(process.pid, signal.SIGINT) or process.poll() is not None)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE)
        assert process.returncode != 0 and out == "" and "cancel" in err, err
        assert not os.path.exists(path("never.png"))

    def test_imagenet_service():
        process = subprocess.Popen(
            [program, "serve", "--models", bundle("plain"), "--port", "0", "--admin-port", "0",
             "--memory-mb", "200"], stderr=subprocess.PIPE, text=True)
        try:
            for line in process.stderr:
                event = json.loads(line)
                if event.get("event") == "ready" or "admin_port" in event:
                    break
            port = event["port"]

            def call(method, target, body=None, **headers):
                link = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
                link.request(method, target, body, {k.replace("_", "-"): v
                                                    for k, v in headers.items()})
                reply = link.getresponse()
                return reply.status, reply.read(), reply
            body = {"model": "plain", "intervention": {"class": "espresso maker"},
                    "image": base64.b64encode(png(51, 40, 8, 2, wave)).decode(),
                    "options": {"steps": 4}}
            status, text, _ = call("POST", "/counterfactual", json.dumps(body),
                                   Content_Type="application/json", Accept="text/event-stream")
            assert status == 200, text
            kinds = re.findall(rb"event: (\w+)", text)
            assert b"progress" in kinds and kinds[-1] == b"succeeded", kinds
            assert b"eta_ms" in text
            body["options"] = {"steps": 900, "sampler": "ddim"}
            status, text, reply = call("POST", "/counterfactual", json.dumps(body),
                                       Content_Type="application/json", Prefer="respond-async")
            assert status == 202, text
            job = "/" + reply.headers["Location"]  # relative to /counterfactual
            until(lambda: json.loads(call("GET", job)[1])["status"] == "running")
            status, text, _ = call("DELETE", job)
            assert status in (200, 202, 204), text
            until(lambda: json.loads(call("GET", job)[1])["status"] == "canceled")
        finally:
            process.terminate()
            process.communicate(timeout=PATIENCE)

    return {name: value for name, value in locals().items() if name.startswith("test_")}
