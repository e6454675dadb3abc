"""evaluate --sources: MorphoMNIST's counterfactuals against the truth that the renderer draws."""
import json, math, os, random
import xml.etree.ElementTree as xml

SVG = "{http://www.w3.org/2000/svg}"


def strokes(count):
    """Slanted bars and arcs with a digit each: enough for renderer and morphometry to work on."""
    random.seed(7)
    pixels, labels = bytearray(), bytes(i % 10 for i in range(count))
    for i in range(count):
        lean, wide, bend = random.uniform(-.4, .4), random.uniform(1.2, 2.2), random.uniform(-.03, .03)
        for p in range(784):
            x, y = p % 28 - 13.5, p // 28 - 13.5
            near = abs(x - lean * y - bend * y * y) / wide
            pixels.append(int(255 * max(0, min(1, 2 - near))) if abs(y) < 9 else 0)
    return bytes(pixels), labels


def cases(refused, run, path, write_idx, png_size):
    """Test functions over the runner's helpers."""

    def made():
        """Sources, and a set rendered from them."""
        count = 24
        os.makedirs(path("strokes"), exist_ok=True)
        pixels, labels = strokes(count)
        write_idx("strokes/train-images-idx3-ubyte", (count, 28, 28), pixels)
        write_idx("strokes/train-labels-idx1-ubyte", (count,), labels)
        code, _, err = run("morpho", "render", "--data", path("strokes"), "--out", path("rendered"))
        assert code == 0, err
        return ["evaluate", "--model", "morphomnist", "--data", path("rendered"), "--split", "train",
                "--sources", path("strokes"), "--limit", "20", "--study-limit", "2", "--threads", "1"]

    def bars_of(name):
        """Heights of the bars of a chart, and the figures written above them."""
        with open(name, encoding="utf-8") as f:
            root = xml.fromstring(f.read())
        bars = [float(r.get("height")) for r in root.iter(SVG + "rect") if float(r.get("width")) > 11 and
                r.get("fill") != "white"]
        return bars, [float(t.text) for t in root.iter(SVG + "text") if t.get("font-size") == "9"]

    def test_evaluate_measures_against_the_truth():
        folder = path("truth")
        # A strength of 1 and no search: the cost is known.
        code, said, err = run(*made(), "--report", folder, "--steps", "3", "--scale", "1")
        assert code == 0, err
        with open(os.path.join(folder, "truth.json"), encoding="utf-8") as f:
            report = json.load(f)
        lines = {(l["intervention"], l["method"]): l for l in report["results"]}
        assert len(lines) == 16 and report["images"] == 20, sorted(lines)
        for act in ("do(thickness)", "do(intensity)"):
            model, nothing, truth = (lines[act, m] for m in ("model", "do nothing", "truth"))
            assert truth["l1_to_truth"] == truth["excess_change"] == 0, truth
            assert abs(truth["change"] - truth["change_due"]) < 1e-9, truth
            assert nothing["change"] == nothing["excess_change"] == 0 < nothing["l1_to_truth"], nothing
            assert abs(nothing["l1_to_truth"] - truth["change"]) < 1e-5, (nothing, truth)
            # what a pixel changes too much is a part of its distance to the truth
            assert 0 < model["excess_change"] <= model["l1_to_truth"] + 1e-6, model
            assert 0 < model["reversibility"] < 60, model
            assert nothing["reversibility"] is None and nothing["passes"] is None, nothing
        for act in ("do(digit)", "do(joint)"):
            model = lines[act, "model"]
            assert model["l1_to_truth"] is None and model["excess_change"] is None, model
            assert model["change"] > 0 and lines[act, "do nothing"]["digit_accuracy"] < .5, model
        assert lines["do(thickness)", "model"]["propagated_intensity_error"] < 3, lines
        for (_, method), line in lines.items():
            if method != "model":
                continue
            # up: 1 + rounds 3, 3 and 2; down: 3 steps, at most with both old and new parents
            assert 12 <= line["passes"] <= 15 and line["gradients"] == 0, line
            assert line["ms_per_image"] > 0, line
        assert report["composition"]["1"] == report["composition"]["10"] == 0, report["composition"]
        assert report["composition"]["noise_only"] > 0
        assert 0 < report["real_images"]["thickness_error"] < .5, report["real_images"]
        judge = report["digit_judge"]
        has_cld = {act: lines[act, "model"]["cld"] is not None for act, _ in lines}
        assert not has_cld["do(thickness)"] and has_cld["do(digit)"] == (judge == "panel"), has_cld
        assert judge in ("panel", "predictor") and f"the {'panel' if judge == 'panel' else 'model'}" in said
        pages = ""
        for name in ("truth.md", "truth.html"):
            with open(os.path.join(folder, name), encoding="utf-8") as f:
                pages = f.read()
            for part in ("Beside published figures", "HVAE", "0.438", "784/1024", "Minimality", "Strips",
                         "--study-limit 2"):
                assert part in pages, (name, part)
        assert pages.count("data:image/svg+xml;base64,") == 7
        assert pages.count("data:image/png;base64,") == 4 and 'src="truth' not in pages
        cell = 28 * 2 + 4
        for name, rows in (("thickness", 5), ("intensity", 5), ("digit", 3), ("joint", 3)):
            size = png_size(f"truth/truth-{name}.png")
            assert size == (12 * cell + 4, rows * cell + 4), (name, size)
        bars, figures = bars_of(os.path.join(folder, "truth-l1.svg"))
        assert len(bars) == len(figures) == 8, (bars, figures)
        for bar, figure in zip(bars, figures):
            assert math.isclose(bar / max(bars), figure / max(figures), abs_tol=.01), (bars, figures)
        with open(os.path.join(folder, "truth-asked-thickness.svg"), encoding="utf-8") as f:
            assert len(list(xml.fromstring(f.read()).iter(SVG + "circle"))) == 20

    def test_evaluate_refuses_other_sources():
        command = made()
        write_idx("few-images-idx3-ubyte", (3, 28, 28), bytes(3 * 784))
        os.makedirs(path("few-sources"), exist_ok=True)
        os.replace(path("few-images-idx3-ubyte"), path("few-sources/train-images-idx3-ubyte"))
        command[command.index("--sources") + 1] = path("few-sources")
        refused([*command, "--report", path("few-report")], 1, "--sources", "3 images", "24 images")

    return {name: case for name, case in locals().items() if name.startswith("test_")}
