"""`diffscm verify`: passes on tensors of another implementation, and fails when anything moves.

cases/encoder was written by make_case.py with PyTorch; the schedules come from their closed forms
(Ho et al. 2020, Nichol & Dhariwal 2021) here."""
import json, math, os, shutil, struct, zipfile

HERE = os.path.dirname(os.path.abspath(__file__))


def write_tensors(path, tensors):
    """{name: (dtype, values)} as safetensors; one-dimensional."""
    header, body = {}, b""
    for name, (dtype, values) in tensors.items():
        raw = struct.pack(f"<{len(values)}{'d' if dtype == 'F64' else 'q'}", *values)
        header[name] = {"dtype": dtype, "shape": [len(values)],
                        "data_offsets": [len(body), len(body) + len(raw)]}
        body += raw
    text = json.dumps(header).encode()
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + body)


def schedules(steps=1000):
    def products(betas):
        out, product = [], 1.0
        for b in betas:
            product *= 1 - b
            out.append(product)
        return out

    def bar(u):
        return math.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2

    linear = [1e-4 + (0.02 - 1e-4) * i / (steps - 1) for i in range(steps)]
    cosine = [min(1 - bar((i + 1) / steps) / bar(i / steps), 0.999) for i in range(steps)]
    return {"linear.betas": ("F64", linear), "linear.alphas_cumprod": ("F64", products(linear)),
            "cosine.betas": ("F64", cosine), "cosine.alphas_cumprod": ("F64", products(cosine)),
            "timesteps.ddim100": ("I64", list(range(0, steps, 10)))}


def case_copy(folder):
    shutil.copytree(os.path.join(HERE, "cases", "encoder"), folder)
    return folder


def edit_config(folder, key, value):
    name = os.path.join(folder, "config.json")
    with open(name) as f:
        config = json.load(f)
    assert config[key] != value
    config[key] = value
    with open(name, "w") as f:
        json.dump(config, f)


def edit_weight(folder, entry):
    """Turns the sign of one float16 value of the PyTorch file."""
    name = os.path.join(folder, "weights.pt")
    with zipfile.ZipFile(name) as z:
        files = {n: z.read(n) for n in z.namelist()}
    key = next(n for n in files if n.endswith(f"/data/{entry}"))
    blob = bytearray(files[key])
    blob[1] ^= 0x80
    files[key] = bytes(blob)
    with zipfile.ZipFile(name, "w", zipfile.ZIP_STORED) as z:
        for n, data in files.items():
            z.writestr(n, data)


def edit_expected(folder, tensor, change):
    """Passes the first float of a tensor through `change`."""
    name = os.path.join(folder, "expected.safetensors")
    with open(name, "rb") as f:
        blob = bytearray(f.read())
    length = struct.unpack_from("<Q", blob)[0]
    info = json.loads(blob[8:8 + length])[tensor]
    at = 8 + length + info["data_offsets"][0]
    kind = {"F32": "<f", "F64": "<d"}[info["dtype"]]
    struct.pack_into(kind, blob, at, change(struct.unpack_from(kind, blob, at)[0]))
    with open(name, "wb") as f:
        f.write(blob)


def cases(run, path):
    """Test functions over the runner's `run` and scratch `path`."""
    def verdict(folder, code):
        got, out, err = run("verify", folder)
        assert got == code, (folder, got, out, err)
        assert ("FAIL" in out) == (code == 1), out
        return out

    def schedule_case(name):
        folder = path(name)
        os.mkdir(folder)
        with open(os.path.join(folder, "config.json"), "w") as f:
            json.dump({"kind": "schedule", "T": 1000}, f)
        write_tensors(os.path.join(folder, "expected.safetensors"), schedules())
        return folder

    def test_verify_passes_what_another_implementation_wrote():
        assert "5 passed, 0 failed" in verdict(schedule_case("levels"), 0)
        assert "3 passed, 0 failed" in verdict(os.path.join(HERE, "cases", "encoder"), 0)

    def test_verify_fails_when_a_weight_moves():
        folder = case_copy(path("weight"))
        edit_weight(folder, 4)  # input_blocks.0.0.weight
        verdict(folder, 1)

    def test_verify_fails_when_an_attention_order_is_another():
        verdict_of = {"attention_order": "new", "pool_attention_order": "legacy"}
        for key, value in verdict_of.items():
            folder = case_copy(path(key))
            edit_config(folder, key, value)
            verdict(folder, 1)

    def test_verify_names_the_tensor_that_a_flag_contradicts():
        folder = case_copy(path("shift"))
        edit_config(folder, "use_scale_shift_norm", False)
        code, out, err = run("verify", folder)
        assert code == 1 and "emb_layers.1.weight" in out + err, (code, out, err)

    def test_verify_fails_when_a_level_moves():
        folder = case_copy(path("time"))
        edit_expected(folder, "t", lambda t: t + 1)
        verdict(folder, 1)
        folder = schedule_case("moved")
        edit_expected(folder, "cosine.betas", lambda b: b + 1e-9)
        verdict(folder, 1)

    def test_verify_takes_many_cases():
        code, out, err = run("verify", *[os.path.join(HERE, "cases", "encoder")] * 300)
        assert code == 0 and "900 passed, 0 failed" in out, (code, out[-200:], err)

    return {name: f for name, f in locals().items() if name.startswith("test_")}
