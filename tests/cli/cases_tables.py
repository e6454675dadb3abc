"""Tables of variables: queries in batches, sweeps, and bundles with a fitted causal model."""
import json, os, random
import xml.etree.ElementTree as xml

FAST = ["--steps", "5", "--threads", "1"]


def cases(program, root, refused, run, path, write_idx, read_idx):
    """Test functions over the runner's helpers."""
    seven = os.path.join(root, "examples", "mnist", "7.png")

    def text(name, lines):
        with open(path(name), "w", encoding="utf-8") as f:
            f.write("\n".join(lines) + "\n")
        return path(name)

    def images(count):
        return write_idx("t-images-idx3-ubyte", (count, 28, 28), bytes(
            255 if 6 < i % 28 < 12 and 4 < i // 28 % 28 < 24 else 0 for i in range(count * 784)))

    def test_rows_answer_rows():
        x, out, parents = images(3), path("t-out"), path("t-parents.csv")
        args = ["counterfactual", "--images", x, "--out", out, "--parents", parents, *FAST]
        known = text("t-f.csv", ["digit", "1", "", "1"])
        wanted = text("t-d.csv", ["digit", "7", "4", '""'])
        code, _, err = run(*args, "--factuals", known, "--do-file", wanted)
        assert code == 0 and "digit: 1 of 3 factual values read in the images" in err, err
        with open(parents, encoding="utf-8") as f:
            rows = [line.split(",") for line in f.read().splitlines()]
        assert rows[0] == ["digit", "thickness", "slant"], rows
        assert [row[0] for row in rows[1:]] == ["7", "4", "1"], rows
        assert all(0.5 <= float(row[1]) <= 10 for row in rows[1:]), rows
        shape, pixels = read_idx("t-out")
        assert tuple(shape) == (3, 28, 28)
        before = open(x, "rb").read()[16:]
        assert pixels[:784] != before[:784] and pixels[1568:] == before[1568:]
        code, _, err = run(*args, "--factuals", known, "--null", "--limit", "2")
        assert code == 0, err
        shape, pixels = read_idx("t-out")
        assert tuple(shape) == (2, 28, 28) and pixels == before[:1568]
        # From the noise alone the picture comes back nearly, and scores say who is who.
        scores = path("t-scores")
        code, _, err = run(*args, "--factuals", known, "--null", "--noise-only", "--limit", "2", "--scores", scores)
        assert code == 0, err
        _, again = read_idx("t-out")
        change = sum(abs(a - b) for a, b in zip(again, before[:1568])) / 1568
        assert 0 < change < 40, change
        with open(scores) as f:
            told = [json.loads(line)["factuals"]["digit"] for line in f]
        assert told[0] == "1" and len(told) == 2, told

    def test_wrong_rows_end_the_run_before_it_starts():
        x, out = images(2), path("t-never")
        args = ["counterfactual", "--images", x, "--out", out]
        good = text("t-good.csv", ["digit", "7", "4"])
        refused([*args, "--do-file", text("t-1.csv", ["digit", "7", "14"])], 2, "t-1.csv",
                "line 3, column 1 (digit)", "14")
        refused([*args, "--do-file", text("t-2.csv", ["colour", "7", "4"])], 2, "line 1, column 1",
                "colour", "digit")
        refused([*args, "--do-file", text("t-3.csv", ["digit", "7"])], 1, "1 rows for 2 images")
        refused([*args, "--do-file", good, "--null"], 2, "either --do-file or --null")
        refused([*args, "--factuals", good], 2, "either --do-file or --null")
        refused([*args, "--do-file", good, "--targets", path("t-s")], 2, "--targets")
        refused(["counterfactual", seven, "--do", "digit=8", "--factuals", good, "-o", out], 2,
                "go with --images")
        refused(["counterfactual", seven, "--do", "digit=1..4:3", "-o", out], 2, "digit=1..4:3",
                "not continuous")
        assert not os.path.exists(out)

    def morpho():
        """A data set of bars whose width is `thickness`, and `grey` follows it; small nets."""
        random.seed(4)
        rows, pixels = ["kind,thickness,grey"], bytearray()
        for i in range(96):
            kind, thickness = i % 2, random.uniform(1, 6)
            grey = 90 + 20 * thickness + random.uniform(-6, 6)
            rows.append(f"{'ab'[kind]},{thickness:.4f},{grey:.4f}")
            for p in range(784):
                across = p % 28 if kind else p // 28
                pixels.append(int(grey) if abs(across - 14) < thickness else 0)
        os.makedirs(path("bars"), exist_ok=True)
        write_idx("bars/train-images-idx3-ubyte", (96, 28, 28), bytes(pixels))
        text("bars/train-variables.csv", rows)
        small = ["--data", path("bars"), "--samples", "64", "--batch", "32", "--threads", "1",
                 "--channels", "32", "--mult", "1,1", "--blocks", "1"]
        graph = "thickness -> grey; kind, thickness, grey -> image"
        code, _, err = run("fit", "--data", path("bars"), "--graph", graph, "--range",
                           "thickness=0..8", "--range", "grey=0..255", "--epochs", "20", "--out",
                           path("bars.json"), "--charts", path("bars-charts"))
        assert code == 0, err
        assert sorted(os.listdir(path("bars-charts"))) == [
            f"calibration-{name}.svg" for name in ("grey", "kind", "thickness")]
        with open(path("bars-charts/calibration-grey.svg"), encoding="utf-8") as f:
            texts = [t.text for t in xml.fromstring(f.read()).iter("{http://www.w3.org/2000/svg}text")
                     if t.get("font-size") == "9"]
        assert len(texts) == 20 and texts[1::2] == ["0.100"] * 10, texts
        assert abs(sum(map(float, texts[::2])) - 1) < .006, texts
        made = ["bundle", "--name", "bars", "--licence", "MIT", "--causal", path("bars.json"), "--score",
                path("bars-score.st"), "--sampler", "implicit", "--steps", "5"]
        code, _, err = run("train", "score", *small, "--conditional", "--parents",
                           "kind,thickness,grey", "--out", path("bars-score.st"))
        assert code == 0, err
        for name in ("kind", "thickness", "grey"):
            code, held, err = run("train", "predictor", *small, "--variable", name, "--out",
                                  path(f"bars-{name}.st"), "--eval-split", "train[:16]")
            assert code == 0 and ("accuracy" if name == "kind" else "mean error") in held, held + err
            made += ["--predictor", f"{name}=" + path(f"bars-{name}.st")]
        return made

    def test_a_table_becomes_a_bundle_that_answers():
        made = morpho()
        refused([*made[:-2], "--out", path("bars-none")], 2, "--predictor grey=FILE is missing")
        refused([*made, "--out", path("bars-none"), "--tolerance", "kind=1"], 2, "kind=1",
                "no continuous variable")
        refused([*made, "--out", path("bars-none"), "--result-bias", "grey"], 2, "--result-bias grey",
                "NAME=NUMBER")
        code, _, err = run(*made, "--out", path("bars-bundle"), "--tolerance", "thickness=.25",
                           "--result-bias", "grey=-1.5")
        assert code == 0, err
        with open(path("bars-bundle/manifest.json"), encoding="utf-8") as file:
            about = {v["name"]: v for v in json.load(file)["variables"]}
        assert about["grey"]["result_bias"] == -1.5 and about["thickness"]["tolerance"] == .25, about
        code, said, err = run("info", path("bars-bundle"))
        assert code == 0 and "grey" in said and "<- thickness" in said, said + err
        code, said, err = run("counterfactual", seven, "--model", path("bars-bundle"), "--factual",
                              "thickness=2.4", "--factual", "grey=140", "--do", "thickness=1..5:4",
                              "-o", path("strip.png"), "--threads", "1", "--scale", "1")
        assert code == 0, err
        reply = json.loads(said)
        assert reply["factuals_read"] == ["kind"] and reply["factuals"]["grey"] == 140, said
        lines = reply["counterfactuals"]
        set_to = [round(line["propagated"]["thickness"], 6) for line in lines]
        assert set_to == [1, 2.333333, 3.666667, 5], set_to
        for line in lines:  # the noise of 140 at 2.4 is +2
            want = 92 + 20 * line["propagated"]["thickness"]
            assert abs(line["propagated"]["grey"] - want) < 8, line
        refused(["counterfactual", seven, "--model", path("bars-bundle"), "--do", "thickness=2",
                 "--factual", "grey=1", "--factual", "grey=2", "-o", path("never.png")], 2,
                "--factual grey=2", "given twice")
        refused(["counterfactual", seven, "--model", path("bars-bundle"), "--do",
                 "thickness=1..9:4", "-o", path("never.png")], 2, "must stay in 0..8")

    return {name: case for name, case in locals().items() if name.startswith("test_")}
