"""A disk that is full, a folder that cannot be written: the error names the file, and what was there
stays whole. A limit on the size of files stands for the full disk: it needs no rights."""
import os, resource, shutil, subprocess


def cases(program, root, path, digits):
    """Test functions over the runner's helpers."""
    digit = os.path.join(root, "examples", "mnist", "3.png")

    def limited(bytes_, *args):
        def limit():
            resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_, bytes_))
        done = subprocess.run([program, *args], capture_output=True, text=True, timeout=300,
                              cwd=root, preexec_fn=limit)
        return done.returncode, done.stderr

    def fails(bytes_, name, *args):
        """Fails, naming the file `name` and the reason."""
        code, err = limited(bytes_, *args)
        said = [line for line in err.splitlines() if line.startswith("diffscm ")]
        assert code == 1 and len(said) == 1 and name in said[0], (args, code, err)
        assert "File too large" in said[0], said

    def fresh(name):
        folder = path(name)
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder)
        return folder

    def contents(folder):
        out = {}
        for name in os.listdir(folder):
            with open(os.path.join(folder, name), "rb") as f:
                out[name] = f.read()
        return out

    def test_a_listing_that_cannot_be_written_fails():
        for option in ("--print-config", "--document-config"):
            with open("/dev/full", "w") as full:
                done = subprocess.run([program, "serve", option], stdout=full,
                                      stderr=subprocess.PIPE, text=True, timeout=60)
            assert done.returncode == 1 and "No space left" in done.stderr, done

    def test_a_result_that_does_not_fit_replaces_nothing():
        folder = fresh("full")
        out = os.path.join(folder, "out.png")
        with open(out, "w") as f:
            f.write("good")
        fails(100, "out.png", "counterfactual", digit, "--do", "digit=8", "-o", out)
        fails(100, "out.png", "sample", "--count", "4", "--steps", "2", "-o", out)
        fails(100, "out.png", "demo", "--steps", "2", "-o", out)
        assert contents(folder) == {"out.png": b"good"}

    def test_training_keeps_its_last_good_checkpoint():
        folder = fresh("full-train")
        check, out = os.path.join(folder, "c"), os.path.join(folder, "o")
        train = ["train", "oracle", "--data", digits(), "--split", "dev", "--batch", "8", "--out", out,
                 "--channels", "8", "--checkpoint", check]
        code, err = limited(1 << 30, *train, "--samples", "8")
        assert code == 0, err
        before = contents(folder)
        fails(5000, "c", *train, "--samples", "8")
        assert contents(folder) == before
        code, err = limited(1 << 30, *train[:-2], "--samples", "240", "--log", "/dev/full")
        assert code == 1 and "/dev/full: writing failed" in err, err

    def test_a_bundle_is_replaced_as_a_whole():
        folder, nets = fresh("full-bundle"), os.path.join(root, "models", "fashion")
        shutil.copytree(nets, folder, dirs_exist_ok=True)
        before = contents(folder)
        bundle = ["bundle", "--out", folder, "--name", "other", "--licence", "MIT", "--variable", "garment",
                  "--score", os.path.join(nets, "score.safetensors"), "--predictor",
                  os.path.join(nets, "predictor.safetensors"), "--oracle"]
        size = os.path.getsize(os.path.join(nets, "score.safetensors"))
        assert size > os.path.getsize(os.path.join(nets, "predictor.safetensors"))
        oracle = os.path.join(nets, "panel-classifier-0.safetensors")
        fails(size - 1, "score.safetensors", *bundle, oracle)
        assert contents(folder) == before
        # not only a full disk: a network that is none, after two that were taken
        code, err = limited(1 << 30, *bundle, digit)
        assert code == 1 and "3.png" in err, err
        assert contents(folder) == before
        code, err = limited(1 << 30, *bundle, oracle)
        assert code == 0, err
        assert contents(folder)["manifest.json"] != before["manifest.json"]
        assert not [n for n in os.listdir(folder) if n.endswith(".tmp")]
        assert subprocess.run([program, "info", "--check", folder],
                              capture_output=True).returncode == 0
        new = os.path.join(folder, "new")
        fails(size - 1, "score.safetensors", "bundle", "--out", new, *bundle[3:-1])
        assert not os.path.exists(new)

    def test_a_report_that_does_not_fit_leaves_the_old_one():
        folder = path("full-report")
        command = ["evaluate", "--data", digits(), "--report", folder, "--steps", "5", "--limit", "20",
                   "--methods", "identity", "--frontier", "", "--no-cost", "--no-sheets",
                   "--study-limit", "0"]
        code, err = limited(1 << 30, *command)
        assert code == 0, err
        before = contents(folder)
        assert len(before["report.md"]) > 3000, len(before["report.md"])
        fails(3000, "report.md", *command)
        after = contents(folder)
        assert after["report.md"] == before["report.md"]
        assert after["report.html"] == before["report.html"]
        assert set(after) == set(before)

    def test_few_files_are_an_error_that_says_how_many():
        def limit():
            resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        done = subprocess.run([program, "serve", "--connections", "16", "--port", "0",
                               "--admin-port", "0"], capture_output=True, text=True, timeout=60,
                              preexec_fn=limit)
        assert done.returncode == 1 and "208" in done.stderr and "64" in done.stderr, done.stderr

    return {name: f for name, f in locals().items() if name.startswith("test_")}
