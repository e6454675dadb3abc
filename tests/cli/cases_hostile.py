"""Files that want to be executed, unfolded or believed: PyTorch archives written byte by byte. Each
must end in one line that says what is wrong, soon and with little memory, and leave no
bundle behind."""
import hashlib, json, os, resource, shutil, struct, subprocess, zlib

MEMORY = 600 << 20  # of address space: libraries, stacks of threads and what a reader needs
SECONDS = 120
MOST = (2 << 20) - 100  # opcodes of the longest data.pkl that is read


# ---- archives -------------------------------------------------------------------------------------
def member(name, data, **lies):
    """lies: method, flags, crc, packed, size (in both headers), local_name, offset, wide (zip64)."""
    return dict(lies, name=name.encode(), data=data)


def archive(members, cut=None, **end):
    """The bytes of a zip; end: entries, size, offset of the end record."""
    out, directory = b"", b""
    for m in members:
        stored = m["data"]
        crc = m.get("crc", zlib.crc32(stored))
        sizes = m.get("packed", len(stored)), m.get("size", len(stored))
        local = m.get("local_name", m["name"])
        common = struct.pack("<HHHHIII", m.get("flags", 0), m.get("method", 0), 0, 33, crc,
                             *(0xffffffff if m.get("wide") else s & 0xffffffff for s in sizes))
        at = m.get("offset", len(out))
        wide = struct.pack("<HHQQ", 1, 16, sizes[1], sizes[0]) if m.get("wide") else b""
        directory += (b"PK\1\2" + struct.pack("<HH", 45, 45) + common +
                      struct.pack("<HHHHHII", len(m["name"]), len(wide), 0, 0, 0, 0, at) +
                      m["name"] + wide)
        out += (b"PK\3\4" + struct.pack("<H", 45) + common +
                struct.pack("<HH", len(local), len(wide)) + local + wide + stored)
    count = end.get("entries", len(members))
    tail = struct.pack("<HHHHIIH", 0, 0, count & 0xffff, count & 0xffff,
                       end.get("size", len(directory)), end.get("offset", len(out)), 0)
    return (out + directory + b"PK\5\6" + tail)[:cut]


def torch_file(code, floats=bytes(64), **lies):
    """An archive whose data.pkl is PROTO 2 and `code`, with one storage."""
    return archive([member("net/data.pkl", b"\x80\2" + code),
                    member("net/data/0", floats, **lies)])


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def number(value):
    return b"\x8a\x08" + struct.pack("<q", value)


def tensor(count, dims, strides, offset=0, storage="FloatStorage"):
    """Opcodes that leave a tensor of storage 0 on the stack."""
    def several(values):
        return b"(" + b"".join(number(v) for v in values) + b"t"
    return (b"ctorch._utils\n_rebuild_tensor_v2\n((" + text("storage") + b"ctorch\n" +
            storage.encode() + b"\n" + text("0") + text("cpu") + number(count) + b"tQ" +
            number(offset) + several(dims) + several(strides) + b"\x89}tR")


def state(*items):
    return b"}(" + b"".join(text(name) + code for name, code in items) + b"u."


# ---- cases ----------------------------------------------------------------------------------------
def pickles():
    """name -> (data.pkl without its protocol byte, what the message names)."""
    touch = b"cos\nsystem\n(" + text("touch HACKED") + b"tR."
    found = {
        "os.system": (touch, "os.system"),
        "posix.system": (touch.replace(b"cos", b"cposix"), "posix.system"),
        "subprocess": (b"csubprocess\nPopen\n(" + text("id") + b"tR.", "subprocess.Popen"),
        "eval": (b"cbuiltins\neval\n(" + text("1") + b"tR.", "builtins.eval"),
        "exec of old": (b"c__builtin__\nexec\n(" + text("1") + b"tR.", "__builtin__.exec"),
        "getattr": (b"cbuiltins\ngetattr\n(tR.", "builtins.getattr"),
        "torch.load": (b"ctorch\nload\n(tR.", "torch.load"),
        "another rebuilder": (b"ctorch._utils\n_rebuild_tensor_v22\n(tR.", "no dictionary of tensors"),
        "a name nearly right": (b"ctorch._utils\nrebuild_tensor_v2\n(tR.", "rebuild_tensor_v2"),
        "a module nearly right": (b"ctorch._utils.x\n_rebuild_tensor_v2\n(tR.", "torch._utils.x"),
        "call of a storage": (b"ctorch\nFloatStorage\n(tR.", "call of a storage"),
        "call of a dict": (b"}(tR.", "call"),
        "arguments that are none": (b"ctorch._utils\n_rebuild_tensor_v2\n(tR.", "tensor without"),
        "arguments of other kinds": (b"ctorch._utils\n_rebuild_tensor_v2\n(NNNNtR.", "impossible"),
        "persistent id that is none": (b"NQ.", "persistent"),
        "long name": (b"c" + b"m" * 5000 + b"\n" + b"n" * 5000 + b"\n.", "mmmm"),
        "no stop": (b"}", "cut off"),
        "empty": (b"", "cut off"),
        "pop of nothing": (b"R", "call"),
        "text of 4 GB": (b"X\xff\xff\xff\xff", "cut off"),
        "memo flood": (b"}" + b"".join(b"r" + struct.pack("<I", 2 ** k) for k in range(31)),
                       "memo index"),
        "deep": (b"}q\0" + b"".join(text("a") + b"}(" for _ in range(100000)), "cut off"),
        "nested": (b"}(" + (text("a") + b"}(") * 2000 + b"u" * 2001 + b".", "nest too deep"),
        "marks": (b"(" * MOST + b".", ""),
        "lists": (b"]" * MOST + b".", ""),
        "tuples of tuples": (b"N" + b"\x85" * MOST + b".", ""),
        "items without end": (b"}(" + b"NN" * (MOST // 2) + b"u.", ""),
        "too long": (b"N" * (9 << 20) + b".", "larger than"),
        "integer of 255 bytes": (b"\x8a\xff" + bytes(255) + b".", "more than 8 bytes"),
        "many names of one tensor":
            (b"}(" + text("t") + tensor(4, [4], [1]) + b"q\1" +
             b"".join(text(f"{i:x}") + b"h\1" for i in range(100000)) + b"u.", ""),
        "much from one storage":
            (b"}(" + text("t") + tensor(16, [16], [1]) + b"q\1" +
             b"".join(text(str(i)) + b"h\1" for i in range(1000)) + b"u.", "4 times the file"),
        "bigger than its storage":
            (state(("w", tensor(1, [1 << 20, 1 << 20], [0, 0]))), "more elements than its storage"),
        "negative size": (state(("w", tensor(4, [-4], [1]))), "impossible"),
        "negative stride": (state(("w", tensor(4, [4], [-1], 3))), "impossible"),
        "negative offset": (state(("w", tensor(4, [4], [1], -1))), "impossible"),
        "negative storage": (state(("w", tensor(-4, [4], [1]))), "persistent"),
        "product overflows": (state(("w", tensor(4, [1 << 32, 1 << 32], [1, 1]))), "impossible"),
        "stride overflows": (state(("w", tensor(4, [2], [(1 << 63) - 1], 4))), "beyond its storage"),
        "storage beyond the member": (state(("w", tensor(17, [17], [1]))), "beyond its storage"),
        "nine dimensions": (state(("w", tensor(1, [1] * 9, [1] * 9))), "impossible"),
        "no tensor of a network": (state(("w", tensor(4, [4], [1]))), "time_embed"),
    }
    never = {"INST": b"(ios\nsystem\n", "NEWOBJ_EX": b"\x92", "EXT1": b"\x82\x01",
             "EXT2": b"\x83\x01\x00", "EXT4": b"\x84\x01\x00\x00\x00", "PERSID": b"Pstorage\n",
             "STRING": b"S'a'\n", "FLOAT": b"F1\n", "GET": b"g0\n", "PUT": b"}p0\n", "DUP": b"2",
             "POP": b"0", "READONLY_BUFFER": b"\x98"}
    for name, code in never.items():
        found[name] = (code + b".", "opcode 0x")
    found["OBJ"] = (b"(cos\nsystem\no.", "refers to os.system")
    found["STACK_GLOBAL"] = (text("os") + text("system") + b"\x93.", "refers to os.system")
    found["NEWOBJ"] = (b"\x81.", "call of")
    lengths = {"LONG4": b"\x8b\xff\xff\xff\x7f", "BINUNICODE8": b"\x8d" + b"\xff" * 8,
               "BINBYTES8": b"\x8e" + b"\xff" * 8, "BYTEARRAY8": b"\x96" + b"\xff" * 8}
    for name, code in lengths.items():
        found[name] = (code + b".", "cut off")
    found["FRAME"] = (b"\x95" + b"\xff" * 8 + b".", "no dictionary")
    found["EMPTY_SET"] = (b"\x8f.", "no dictionary")
    found["MEMOIZE"] = (b"}\x94.", "time_embed")
    return found


def archives():
    """name -> (bytes of the file, what the message names)."""
    pkl = b"\x80\2" + state(("w", tensor(16, [16], [1])))
    good = [member("net/data.pkl", pkl), member("net/data/0", bytes(64))]
    bomb = zlib.compress(bytes(64 << 20), 9)[2:-4]
    whole = archive(good)
    found = {
        "deflated bomb": (archive([member("net/data.pkl", pkl), member(
            "net/data/0", bomb, method=8, size=64 << 20)]), "compressed"),
        "deflated pickle": (archive([member("net/data.pkl", bomb, method=8, size=64 << 20)]),
                            "compressed"),
        "stored, but two sizes": (archive([good[0], member("net/data/0", bytes(64), size=1 << 31)]),
                                  "compressed"),
        "size beyond the file": (archive([good[0], member("net/data/0", bytes(64), size=1 << 30,
                                                          packed=1 << 30)]), "contradicts"),
        "size near 2^64": (archive([good[0], member("net/data/0", bytes(64), size=2 ** 64 - 64,
                                                    packed=2 ** 64 - 64, wide=True)]),
                           "contradicts"),
        "encrypted": (archive([good[0], member("net/data/0", bytes(64), flags=1)]), "encrypted"),
        "overlap": (archive([good[0], member("net/data/0", bytes(64)),
                             member("net/data/0", bytes(64), offset=0,
                                    local_name=b"net/data/0")]), ""),
        "twice": (archive([*good, good[1]]), "twice"),
        "two pickles": (archive([*good, member("other/data.pkl", b"N.")]), "more than one data.pkl"),
        "no folder for its name": (archive([member("net/xdata.pkl", pkl)]), "no data.pkl"),
        "other name inside": (archive([good[0], member("net/data/0", bytes(64),
                                                       local_name=b"net/data/1")]), "contradicts"),
        "absolute name": (archive([member("/etc/data.pkl", pkl), member("/etc/data/0", bytes(64))]),
                          "time_embed"),
        "climbing name": (archive([member("../../data.pkl", pkl),
                                   member("../../data/0", bytes(64))]), "time_embed"),
        "checksum": (archive([good[0], member("net/data/0", bytes(64), crc=1)]), "checksum"),
        "no members": (archive([]), ""),
        "65535 members claimed": (archive(good, entries=65535), "directory"),
        "directory at 4 GB": (archive(good, offset=0xfffffffe), "directory"),
        "directory of 4 GB": (archive(good, size=0xfffffffe), "directory"),
        "no data.pkl": (archive([member("net/code.py", b"x")]), "no data.pkl"),
        "storage missing": (archive(good[:1]), "missing"),
        "a text": (b"PK, it says\n" * 10, ""),
        "an old pickle": (b"\x80\2}q\0.", "bare pickle"),
        "nothing": (b"", ""),
    }
    for cut in (1, 4, 10, 30, 50, len(pkl) + 60, len(whole) - 100, len(whole) - 23, len(whole) - 22,
                len(whole) - 1):
        found[f"cut at {cut}"] = (whole[:cut], "")
    return found


def cases(path, program):
    """Test functions over the runner's scratch `path`."""
    with open(program, "rb") as f:
        instrumented = b"__asan_init" in (blob := f.read()) or b"__tsan_init" in blob

    def limits():
        if not instrumented:  # sanitizers reserve terabytes of address space
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))

    def refuses(label, blob, part):
        name, out = path("hostile.pt"), path("hostile-bundle")
        with open(name, "wb") as f:
            f.write(blob)
        done = subprocess.run(
            [program, "import", "--preset", "64", "--licence", "MIT", "--score", name, "--predictor", name, "--out", out],
            capture_output=True, text=True, timeout=SECONDS, preexec_fn=limits, cwd=path("."))
        assert done.returncode == 1, (label, done.returncode, done.stderr[-300:])
        assert done.stderr.count("\n") == 1 and done.stderr.startswith("diffscm"), (label,
                                                                                     done.stderr)
        assert done.stdout == "" and len(done.stderr) < 700, (label, done.stdout, done.stderr)
        assert "hostile.pt" in done.stderr and part in done.stderr, (label, part, done.stderr)
        assert not os.path.exists(path("HACKED")) and not os.path.exists(out), label

    def test_hostile_pickles():
        for name, (code, part) in pickles().items():
            refuses(name, torch_file(code), part)

    def test_hostile_archives():
        for name, (blob, part) in archives().items():
            refuses(name, blob, part)

    def test_weights_that_are_no_numbers_are_refused():
        model = path("nan-model")
        shutil.copytree(os.path.join(os.path.dirname(__file__), "..", "..", "models", "mnist"), model)
        for bad in (b"\x00\x7e", b"\x00\xfc"):  # float16: NaN, minus infinity
            with open(os.path.join(model, "score.safetensors"), "r+b") as f:
                f.seek(-2, os.SEEK_END)
                f.write(bad)
            with open(os.path.join(model, "score.safetensors"), "rb") as f:
                digest = hashlib.sha256(f.read()).hexdigest()
            with open(os.path.join(model, "manifest.json")) as f:
                manifest = json.load(f)
            manifest["files"]["score.safetensors"] = digest
            with open(os.path.join(model, "manifest.json"), "w") as f:
                json.dump(manifest, f)
            done = subprocess.run([program, "sample", "--model", model, "--do", "digit=3", "-o", path("nan.png")],
                                  capture_output=True, text=True, timeout=SECONDS)
            assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
            assert "score.safetensors" in done.stderr and "NaN or infinity" in done.stderr, done.stderr
            assert not os.path.exists(path("nan.png"))
        shutil.rmtree(model)

    return {name: f for name, f in locals().items() if name.startswith("test_")}
