"""What somebody meets in the first minutes: help, pipes, names that are slightly wrong."""
import json, os, re, shutil, signal, subprocess, urllib.request

COMMANDS = ("demo", "counterfactual", "sample", "serve", "work", "info", "evaluate", "calibrate", "train", "bundle",
            "import", "bench", "verify")
FAST = ["--steps", "5", "--threads", "1"]


def cases(program, root, refused, run, path):
    """Test functions over the runner's helpers."""
    seven = os.path.join(root, "examples", "mnist", "7.png")
    one = ["counterfactual", seven, "--do", "digit=8", *FAST]

    def test_make_run_says_a_line_per_stage_and_the_address_once():
        env = {**os.environ, "DIFFSCM_ADMIN_PORT": "0", "PORT": "0", "V": ""}
        child = subprocess.Popen(["make", "--no-print-directory", "run"], cwd=root, env=env, text=True,
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
        lines = []
        for line in child.stdout:
            lines.append(line)
            if "diffscm serves" in line:
                with urllib.request.urlopen(line.split()[-1] + "models", timeout=60) as reply:
                    assert reply.status == 200
                break
        os.killpg(child.pid, signal.SIGINT)
        rest, err = child.communicate(timeout=60)
        assert len(lines) <= 2 and re.match(r"build \.\.\. done \(\d+ s\)\n", lines[-2]), (lines, err)
        assert "http" not in rest and '"ready"' not in err, (rest, err)

    def test_a_stage_shows_what_failed():
        script = os.path.join(root, "tools", "stage.sh")
        for verbose, seen in (("", ("good ... done (0 s)\n", "bad ... failed\n")), ("1", ("x\n", "x\n"))):
            env = {**os.environ, "V": verbose}
            done = subprocess.run([script, "good", "echo", "x"], capture_output=True, text=True, env=env)
            assert (done.returncode, done.stdout, done.stderr) == (0, seen[0], ""), done
            done = subprocess.run([script, "bad", "sh", "-c", "echo x; exit 7"], capture_output=True,
                                  text=True, env=env)
            assert (done.returncode, done.stdout) == (7, seen[1]), done
            assert verbose or done.stderr == "x\n", done

    def test_the_published_sampler_runs_with_and_without_dynamic_normalisation():
        def picture(name, *flags):
            args = ["counterfactual", seven, "--do", "digit=8", "--sampler", "published", "--steps", "10"]
            code, out, err = run(*args, *flags, "--scale", "64", "-o", path(name))
            assert code == 0, err
            with open(path(name), "rb") as f:
                return f.read()
        by_default = picture("by-default.png")
        assert picture("dynamic.png", "--dynamic") == by_default
        assert picture("static.png", "--no-dynamic") != by_default
        refused([*one, "--dynamic", "--no-dynamic", "-o", path("x.png")], 2, "--no-dynamic")

    def test_help_fits_a_terminal():
        code, text, _ = run("--help")
        assert code == 0 and all(f"\n  {name} " in text for name in COMMANDS), text
        for name in COMMANDS:
            args = [name, "score"] if name == "train" else [name]
            code, out, err = run(*args, "--help")
            assert code == 0 and err == "" and out.startswith("usage: diffscm " + name), name
            long = [line for line in out.splitlines()[1:] if len(line) > 80]
            assert not long, long
            if name != "train":
                assert run("help", name) == (0, out, ""), name
        assert "\n  --data DIR " in run("train", "--help")[1]
        assert "(800000)" not in run("train", "vae", "--help")[1]

    def test_shells_complete_commands_options_and_files():
        code, script, err = run("--completion", "bash")
        assert code == 0 and err == "", err
        ask = script + """
try() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); _diffscm 2>/dev/null
        echo "${COMPREPLY[*]}"; }
cd "$ROOT"
try diffscm counter
try diffscm counterfactual --ste
try diffscm counterfactual --steps ''
try diffscm counterfactual --out READ
try diffscm serve --queue-c
"""
        out = subprocess.run(["bash", "-c", ask], capture_output=True, text=True,
                             env={**os.environ, "ROOT": root}, timeout=60).stdout
        assert out.splitlines() == ["counterfactual", "--steps", "", "README.md",
                                    "--queue-capacity"], out
        options = set(re.findall(r"\n  --([a-z-]+)", run("counterfactual", "--help")[1]))
        for shell, form in (("bash", r"\ncounterfactual --([a-z-]+)"), ("zsh", r"'\*--([a-z-]+)\[")):
            code, script, err = run("--completion", shell)
            if shell == "zsh":
                script = script.split("\n    counterfactual) ")[1].split(") ;;\n")[0]
            assert set(re.findall(form, script)) == options, shell
        if shutil.which("zsh"):
            file = path("_diffscm")
            with open(file, "w") as out:
                out.write(run("--completion", "zsh")[1])
            done = subprocess.run(["zsh", "-fc", 'autoload -U compinit && compinit -D -u && source "$0"'
                                   " && print $_comps[diffscm]", file],
                                  capture_output=True, text=True, timeout=60)
            assert (done.returncode, done.stdout) == (0, "_diffscm\n"), done
        for wrong in (["--completion"], ["--completion", "fish"]):
            code, out, err = run(*wrong)
            assert code == 2 and out == "" and "bash and zsh" in err, err

    def test_the_manual_page_says_what_help_says():
        code, page, err = run("--man")
        assert code == 0 and err == "" and page.isascii(), err
        parts = re.split(r"^\.S[SH] (.*)\n", page, flags=re.M)
        sections = dict(zip(parts[1::2], parts[2::2]))
        for name in COMMANDS:
            options = re.findall(r"^  (--[a-z-]+)", run(name, "--help")[1], flags=re.M)
            listed = re.findall(r"^\.TP\n(\\-\\-[a-z\\-]+)", sections[name], flags=re.M)
            assert options and [o.replace("\\", "") for o in listed] == options, name
        with open(path("diffscm.1"), "w") as f:
            f.write(page)
        for tool in (["man", "--warnings=w", "-l"], ["mandoc", "-Tlint", "-Werror"]):
            if shutil.which(tool[0]):
                done = subprocess.run([*tool, path("diffscm.1")], stdout=subprocess.PIPE,
                                      stderr=subprocess.PIPE, text=True)
                assert done.returncode == 0 and done.stderr == "", (tool, done)

    def test_names_may_begin_with_a_dash():
        with open(seven, "rb") as source, open(path("-7.png"), "wb") as odd:
            odd.write(source.read())
        args = ["counterfactual", "--do", "digit=8", *FAST, "-o", "odd.png"]
        assert run(*args, "-7.png", cwd=path(""))[0] == 2
        code, _, err = run(*args, "--", "-7.png", cwd=path(""))
        assert code == 0 and os.path.exists(path("odd.png")), err

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
        assert code == 0 and json.loads(out)["counterfactuals"][0]["intervention"] == {"digit": "8"}
        code, nothing, _ = run(*one, "-o", path("plain.png"), "--scores", path("one.jsonl"))
        with open(path("one.jsonl")) as lines:
            one_line, same = json.loads(lines.read()), json.loads(out)
        for reply in (one_line, same):
            del reply["timing_ms"]
        assert code == 0 and nothing == "" and one_line == same

    def test_only_png_is_written():
        for name in ("eight.jpg", "eight.JPEG", "eight.gif"):
            refused([*one, "-o", path(name)], 2, "--out", name, "PNG")
            refused(["sample", "-o", path(name)], 2, "--out", name, "PNG")

    def test_an_unknown_model_names_the_known():
        refused([*one, "-o", path("never.png"), "--model", "mnits"], 1, "mnits", "fashion, mnist")
        refused(["info", "mnits", "--data-dir", root], 1, "mnits", "fashion, mnist")
        assert "models here: " + ", ".join(sorted(os.listdir(os.path.join(root, "models")))) in run("info")[1]

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
