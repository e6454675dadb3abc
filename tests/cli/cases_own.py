"""Data of one's own as people have it, good and bad: what `diffscm new` and the reader of data sets refuse, in one
line and with nothing half-made; names of classes; tables of variables."""
import json, os, random, resource, shutil, struct, subprocess, zlib

from waiting import killed_after

QUICK = ["--samples", "64", "--threads", "1", "--skip", "judges,calibration,measurement"]


def cases(program, path, run):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    def png(width, height, pixels):
        rows = b"".join(b"\0" + bytes(pixels[y * width:(y + 1) * width]) for y in range(height))
        return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)) +
                chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))

    def bar(across, thickness, grey, size=12):
        return [int(grey) if abs((p % size if across else p // size) - size / 2 + 0.5) < thickness else p % 7
                for p in range(size * size)]

    def write(name, blob):
        os.makedirs(os.path.dirname(path(name)), exist_ok=True)
        with open(path(name), "wb" if isinstance(blob, bytes) else "w") as f:
            f.write(blob)

    def folder(name, classes, each, size=12):
        """A folder per class of bars."""
        shutil.rmtree(path(name), ignore_errors=True)
        for k, label in enumerate(classes):
            for i in range(each):
                write(f"{name}/{label}/{i:04}.png", png(size, size, bar(k, 1 + i % 4, 90 + i % 160, size)))

    def limited(size, *args):
        """The last line of a run that may write files of so many bytes (0: any), and all of them."""
        def limit():
            if size:
                resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        done = subprocess.run([program, *args], capture_output=True, text=True, timeout=500, preexec_fn=limit)
        return done.returncode, done.stdout, done.stderr

    def refuses(args, *parts, code=None, size=0):
        """One line says what is wrong, the last one, and nothing is left at --out."""
        got, out, err = limited(size, *args)
        said = [line for line in err.splitlines() if line.startswith("diffscm ")]
        assert got in (1, 2) and got == (code or got) and len(said) == 1 and out == "", (args, got, err)
        assert err.splitlines()[-1] == said[0], (args, err)
        for part in parts:
            assert part in said[0], (args, part, said[0])
        target = args[args.index("--out") + 1]
        assert not os.path.exists(target) and not os.path.exists(target + ".work"), args
        return err

    def new(data, *more, out="own"):
        return ["new", "--data", path(data), "--out", path(out), *more]

    def manifest(name):
        with open(path(name + "/manifest.json")) as f:
            return json.load(f)

    def made(data, *more, out):
        shutil.rmtree(path(out), ignore_errors=True)
        shutil.rmtree(path(out + ".work"), ignore_errors=True)
        code, said, err = run(*new(data, *QUICK, *more, out=out))
        assert code == 0, err
        return err

    def test_wrong_folders_are_refused():
        os.makedirs(path("empty"), exist_ok=True)
        write("notes/read.me", "nothing here")
        write("text.tar", "this is no archive")
        write("flat/1.png", png(12, 12, bar(0, 2, 99)))
        write("bare/train-images-idx3-ubyte", struct.pack(">IIII", 0x803, 1, 12, 12) + bytes(144))
        write("mixed/a/1.png", png(12, 12, bar(0, 2, 99)))
        write("mixed/2.png", png(12, 12, bar(0, 2, 99)))
        for data, *parts in (("missing", "missing: no such file or folder"), ("empty", "empty", "it is empty"),
                             ("notes", "notes", "read.me", "folder of PNG or JPEG files per class"),
                             ("notes/read.me", "read.me"), ("text.tar", "text.tar"),
                             ("flat/1.png", "1.png"), ("flat", "flat", "labels.csv"),
                             ("bare", "train-labels-idx1-ubyte"), ("mixed", "mixed: 2.png lies in no folder of a class")):
            refuses(new(data), *parts)
            refuses(["train", "oracle", "--data", path(data), "--split", "train", "--samples", "8", "--batch", "8",
                     "--out", path("own")], *parts[:1])

    def test_sizes_that_differ():
        """`new` chooses a size and says so; a training says which pictures differ and what helps."""
        folder("sizes", ("a", "b"), 9)
        write("sizes/a/wide.png", png(20, 14, [90] * 280))
        err = refuses(new("sizes"), "class b has 9 pictures", "at least 10")
        assert "all become 32x32 (--size)" in err, err
        assert "pictures had another size: fitted whole" in err, err
        refuses(["train", "oracle", "--data", path("sizes"), "--split", "all", "--out", path("own")], "wide.png",
                "20x14", "12x12", "--size")
        refuses(new("sizes", "--size", "33"), "--size 33", code=2)

    def test_one_corrupt_file_among_many():
        folder("many-pictures", ("a", "b"), 150)
        with open(path("many-pictures/b/0077.png"), "r+b") as f:
            f.truncate(60)
        err = made("many-pictures", out="many-model")
        assert "299 images of 12x12" in err and "note: 1 unreadable and left out, the first: b/0077.png" in err, err
        for i in range(3):
            write(f"many-pictures/a/{i:04}.png", b"")
        refuses(new("many-pictures", *QUICK), "4 of 300", "a/000")

    def test_a_full_disk():
        """While the data is written nothing stays; later the same command goes on to the same model."""
        folder("disk", ("a", "b"), 40)
        refuses(new("disk", *QUICK), "M-images-idx3-ubyte", "File too large", size=2000)
        made("disk", out="disk-1")
        command = new("disk", *QUICK, out="disk-2")
        code, out, err = limited(60000, *command)
        said = [line for line in err.splitlines() if line.startswith("diffscm ")]
        assert code == 1 and len(said) == 1 and "File too large" in said[0] and out == "", err
        assert err.splitlines()[-1] == path("disk-2.work") + " keeps what is done; the same command goes on", err
        assert not os.path.exists(path("disk-2"))
        assert not [f for f in os.listdir(path("disk-2.work")) if ".tmp" in f], os.listdir(path("disk-2.work"))
        code, _, err = run(*command)
        assert code == 0 and manifest("disk-2")["files"] == manifest("disk-1")["files"], err

    def test_names_of_classes():
        names = ("tench, Tinca tinca", "d\u00f6g \u72ac", 'the "third"')
        folder("names-pictures", names, 12)
        made("names-pictures", out="names-model")
        assert sorted(manifest("names-model")["variables"][0]["labels"]) == sorted(names)
        picture = path(f"names-pictures/{names[1]}/0001.png")
        code, said, err = run("counterfactual", picture, "--model", path("names-model"), "--do",
                              "class=tench, Tinca tinca", "--scale", "1", "--threads", "1", "-o", path("names.png"))
        assert code == 0 and json.loads(said)["counterfactuals"][0]["intervention"] == {"class": names[0]}, err
        folder("numbers", ("0", "1"), 12)
        write("two.txt", "\ufefftench, Tinca tinca\r\nd\u00f6g\n".encode())
        made("numbers", "--labels-file", path("two.txt"), out="numbers-model")
        assert manifest("numbers-model")["variables"][0]["labels"] == ["tench, Tinca tinca", "d\u00f6g"]
        write("three.txt", "a\nb\nc\n")
        write("alike.txt", "a\na\n")
        refuses(new("numbers", "--labels-file", path("three.txt")), "three.txt: 3 names", "2 classes")
        refuses(new("numbers", "--labels-file", path("alike.txt")), 'labels 1 and 2 are both "a"')
        folder("lines", ("a", "b\nc"), 12)
        refuses(new("lines"), "line break")

    def table(name, rows, header="kind,thickness,grey"):
        write(f"{name}/variables.csv", header + "\n" + "".join(row + "\n" for row in rows))

    def bars(name, count=80, flat=False):
        """Bars whose width is `thickness`, and `grey` follows it: IDX files, or one folder of pictures."""
        draw = random.Random(4)
        shutil.rmtree(path(name), ignore_errors=True)
        rows, pixels = [], b""
        for i in range(count):
            thickness = draw.uniform(1, 4)
            grey = 90 + 30 * thickness + draw.uniform(-6, 6)
            rows.append(f"{'ab'[i % 2]},{thickness:.4f},{grey:.4f}")
            image = bytes(bar(i % 2, thickness, grey))
            pixels += image
            if flat:
                write(f"{name}/set/{i:03}.png", png(12, 12, image))
        if not flat:
            write(f"{name}/train-images-idx3-ubyte", struct.pack(">IIII", 0x803, count, 12, 12) + pixels)
        table(name, rows)
        return rows

    def test_a_table_becomes_a_causal_model():
        bars("table")
        graph = "thickness -> grey; kind, thickness, grey -> image"
        err = made("table", "--graph", graph, out="table-model")
        assert "kind: 2 labels, a … b" in err and "thickness: numbers" in err and graph in err, err
        m = manifest("table-model")
        parents = {v["name"]: v["parents"] for v in m["variables"]}
        assert parents == {"thickness": [], "grey": ["thickness"], "kind": [], "image": ["kind", "thickness", "grey"]}
        assert len(m["edges"]) == 3 and m["evaluation"]["variable"] == "kind" and len(m["acceptance"]) == 2, m
        assert m["quality"]["left_out"] == "judges,calibration,measurement" and "poor" not in m["quality"]
        write("bar.png", png(12, 12, bar(0, 2, 150)))
        code, said, err = run("counterfactual", path("bar.png"), "--model", path("table-model"), "--factual",
                              "thickness=2", "--factual", "grey=150", "--factual", "kind=b", "--do", "thickness=3.5",
                              "--scale", "1", "--threads", "1", "-o", path("wide.png"))
        assert code == 0, err
        reply = json.loads(said)["counterfactuals"][0]
        assert reply["propagated"]["thickness"] == 3.5 and reply["propagated"]["kind"] == "b", reply
        assert reply["propagated"]["grey"] > 165, reply  # 30 a unit of thickness
        refuses_again = new("table", *QUICK, "--graph", "kind -> image", out="table-model")
        code, _, err = run(*refuses_again)
        assert code and err.count("\n") == 1 and "--graph kind -> image" in err and "was planned with" in err, err
        # what was left out is made up for
        code, _, err = run(*new("table", *QUICK[:-1], "judges", "--graph", graph, out="table-model"))
        assert code == 0 and "measurement" in err, err
        after = manifest("table-model")
        assert m["files"].items() <= after["files"].items(), after["files"]  # calibration may add to them
        assert after["quality"]["left_out"] == "judges", after["quality"]
        assert set(after["quality"]["numbers"]) == {"thickness", "grey"}, after["quality"]
        assert "| thickness |" in open(path("table-model/card.md")).read()

    def test_a_table_goes_on_after_kills():
        """The same model, its mechanisms too, whatever moment the runs before it ended at."""
        bars("killed")
        made("killed", out="killed-1")
        draw = random.Random(8)
        for _ in range(4):
            if not killed_after([program, *new("killed", *QUICK, out="killed-2")], draw.uniform(0.1, 2)):
                break
        code, _, err = run(*new("killed", *QUICK, out="killed-2"))
        assert code == 0, err
        one, two = manifest("killed-1"), manifest("killed-2")
        assert one["files"] == two["files"] and one["causal"] == two["causal"]

    def test_a_table_that_names_pictures():
        rows = bars("named", 60, flat=True)
        lines = [f"{i:03}.png,{rows[i].split(',')[1]}" for i in reversed(range(58))]
        table("named", lines, "file,thickness")
        err = made("named", out="named-model")
        assert "58 images" in err or "58 of" in err or "plan: 58 images" in err, err
        with open(path("named-model.work/M-variables.csv")) as f:
            kept = f.read().splitlines()
        with open(path("named-model.work/M-images-idx3-ubyte"), "rb") as f:
            images = f.read()[16:]
        assert kept[0] == "file,thickness" and len(kept) - 1 == len(images) // 144, len(kept)
        for i, line in enumerate(kept[1:]):  # each row lies at its picture's place
            name, thickness = line.split(",")
            k = int(name[:3])
            assert thickness == rows[k].split(",")[1], line
            assert images[i * 144:(i + 1) * 144] == bytes(bar(k % 2, *map(float, rows[k].split(",")[1:]))), line
        assert [v["name"] for v in manifest("named-model")["variables"]] == ["thickness", "image"]

    def test_wrong_tables_are_refused():
        rows = bars("wrong")
        table("wrong", rows[:-1])
        refuses(new("wrong"), "variables.csv: 79 rows for 80 images")
        table("wrong", rows[:3] + ["a,,120"] + rows[4:])
        refuses(new("wrong"), "variables.csv: line 5", "thickness", "empty")
        table("wrong", rows[:3] + ["a,2"] + rows[4:])
        refuses(new("wrong"), "variables.csv: line 5: 2 cells")
        table("wrong", rows[:3] + ["c,2,120"] + rows[4:])
        refuses(new("wrong"), 'column kind: 1 pictures have "c"', "at least 10")
        table("wrong", rows, "kind,wall thickness,grey")
        refuses(new("wrong"), 'column "wall thickness"', "letters, digits")
        table("wrong", rows)
        refuses(new("wrong", "--graph", "kind -> grey"), "the image is not in it")
        refuses(new("wrong", "--graph", "kind, colour -> image"), '"colour" is neither the image nor a column')
        refuses(new("wrong", "--graph", "grey -> thickness; thickness -> grey; grey -> image"), "cycle")
        refuses(new("wrong", "--variable", "grey"), "--variable grey", "with labels")
        refuses(new("wrong", "--labels-file", path("wrong/variables.csv")), "--labels-file", "names its labels")
        refuses(new("wrong", "--skip", "judges,all"), '"all" cannot be left out', code=2)
        refuses(new("wrong", "--table", path("none.csv")), "none.csv")
        os.remove(path("wrong/variables.csv"))
        refuses(new("wrong"), "train-labels-idx1-ubyte")
        bars("wrong", flat=True)
        refuses(new("wrong"), 'no column "file"')
        table("wrong", ["000.png,1", "nine.png,2"], "file,thickness")
        refuses(new("wrong"), 'line 3: no picture "nine.png"')
        table("wrong", ["000.png,1", "./000.png,2"], "file,thickness")
        refuses(new("wrong"), "line 3: a second line")
        folder("plain", ("a", "b"), 12)
        refuses(new("plain", "--graph", "a -> image"), "has no variables.csv")

    return {k: v for k, v in locals().items() if k.startswith("test_")}
