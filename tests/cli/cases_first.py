"""What somebody meets in the first minutes: help, pipes, names that are slightly wrong."""
import json, os, subprocess

COMMANDS = ("demo", "counterfactual", "sample", "serve", "info", "evaluate", "train", "bundle",
            "import", "bench", "verify")
FAST = ["--steps", "5", "--threads", "1"]


def cases(program, root, refused, run, path):
    """Test functions over the runner's helpers."""
    seven = os.path.join(root, "examples", "mnist", "7.png")
    one = ["counterfactual", seven, "--do", "digit=8", *FAST]

    def test_help_fits_a_terminal():
        code, text, _ = run("--help")
        assert code == 0 and all(f"\n  {name} " in text for name in COMMANDS), text
        for name in COMMANDS:
            args = [name, "score"] if name == "train" else [name]
            code, out, err = run(*args, "--help")
            assert code == 0 and err == "" and out.startswith("usage: diffscm " + name), name
            if name != "serve":
                long = [line for line in out.splitlines() if len(line) > 80 and line[0] == " "]
                assert not long, long
            if name != "train":
                assert run("help", name) == (0, out, ""), name
        assert "(800000)" not in run("train", "vae", "--help")[1]

    def test_pictures_go_through_pipes():
        assert run(*one, "-o", path("plain.png"))[0] == 0
        with open(seven, "rb") as source:
            done = subprocess.run([program, "counterfactual", "-", "--do", "digit=8", *FAST, "-o",
                                   "-"], stdin=source, capture_output=True, cwd=path(""))
        with open(path("plain.png"), "rb") as plain:
            assert done.returncode == 0 and done.stdout == plain.read(), done.stderr
        assert not os.path.exists(path("-"))
        done = subprocess.run([program, "sample", *FAST, "--count", "2", "-o", "-"],
                              capture_output=True)
        assert done.returncode == 0 and done.stdout.startswith(b"\x89PNG"), done.stderr
        done = subprocess.run([program, "counterfactual", "-", "--do", "digit=8", "-o",
                               path("never.png")], stdin=subprocess.DEVNULL, capture_output=True)
        assert done.returncode == 1 and done.stderr.count(b"\n") == 1, done.stderr

    def test_scores_of_a_picture_go_where_asked():
        code, out, _ = run(*one, "-o", path("plain.png"))
        assert code == 0 and json.loads(out)["target"] == "8"
        code, nothing, _ = run(*one, "-o", path("plain.png"), "--scores", path("one.jsonl"))
        with open(path("one.jsonl")) as lines:
            assert code == 0 and nothing == "" and lines.read() == out

    def test_only_png_is_written():
        for name in ("eight.jpg", "eight.JPEG", "eight.gif"):
            refused([*one, "-o", path(name)], 2, "--out", name, "PNG")
            refused(["sample", "-o", path(name)], 2, "--out", name, "PNG")

    def test_an_unknown_model_names_the_known():
        refused([*one, "-o", path("never.png"), "--model", "mnits"], 1, "mnits", "fashion, mnist")
        refused(["info", "mnits", "--data-dir", root], 1, "mnits", "fashion, mnist")
        assert "models here: fashion, mnist" in run("info")[1]

    def test_a_model_without_examples_draws_them():
        sheet = ["demo", "--model", "fashion", "--steps", "2", "-o", path("sheet.png")]
        code, out, err = run(*sheet)
        assert code == 0 and "10 examples (first" in out, out + err
        os.mkdir(path("data"))
        os.symlink(os.path.join(root, "models"), path("data/models"))
        code, out, err = run(*sheet, "--data-dir", path("data"))
        assert code == 0 and "10 examples, drawn by the model (first" in out, out + err
        assert os.path.getsize(path("sheet.png")) > 4000

    return {name: value for name, value in locals().items() if name.startswith("test_")}
