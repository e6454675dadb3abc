"""Judges from training to the table: bundle --judges, calibrate, bundle --measured, evaluate --judges."""
import hashlib, json, os, shutil, struct, subprocess


def cases(program, root, path, digits):
    """Test functions over the runner's helpers."""

    def run(*args):
        done = subprocess.run([program, *args], capture_output=True, text=True, timeout=300, cwd=root)
        return done.returncode, done.stdout, done.stderr

    def works(*args):
        code, out, err = run(*args)
        assert code == 0, (args, err)
        return out

    def test_judges_are_assembled_calibrated_and_asked():
        judges, model, report = path("judges"), path("judged-model"), path("judged-report")
        measured = path("judges-measured.json")
        os.makedirs(judges)
        shutil.copytree(os.path.join(root, "models", "mnist"), model)
        code, _, err = run("bundle", "--out", model, "--judges", judges)
        assert code == 1 and "none of panel-classifier-0.st, acceptance-0.st and search-vae.st" in err, err
        classifier = ["train", "oracle", "--channels", "8", "--arch"]
        for name, train in {"panel-classifier-0": [*classifier, "plain_cnn"],
                            "panel-classifier-1": [*classifier, "resnet"],
                            "panel-vae-0": ["train", "vae", "--channels", "4", "--latent", "4"],
                            "panel-vae-1": ["train", "vae", "--arch", "mlp_vae", "--channels", "4"],
                            "selection-classifier": [*classifier, "cnn"],
                            "search-vae": ["train", "vae", "--channels", "4", "--latent", "3"],
                            "acceptance-0": [*classifier, "plain_cnn"]}.items():
            works(*train, "--data", digits(), "--samples", "600", "--batch", "20", "--warmup", "5",
                  "--threads", "1", "--out", os.path.join(judges, f"{name}.st"))
        code, _, err = run("bundle", "--out", model, "--judges", judges, "--pool-data", digits())
        assert code == 2 and "search-vae.st needs --pool-data and --search-split" in err, err
        works("bundle", "--out", model, "--judges", judges, "--pool-data", digits(), "--pool-split", "dev",
              "--search-split", "train")
        with open(os.path.join(model, "manifest.json")) as f:
            manifest = json.load(f)
        assert manifest["format"] == "diffscm-bundle-2"
        assert [len(manifest["panel"][k]) for k in ("classifiers", "vaes")] == [2, 2]
        assert len(manifest["selection"]["classifiers"]) == 1 and "vaes" not in manifest["selection"]
        assert [set(v) for v in manifest["search"]["vaes"]] == [{"network", "pool"}]
        assert "oracle" not in manifest["evaluation"] and "oracle.safetensors" not in manifest["files"]
        assert manifest["acceptance"][0]["temperature"] == 1
        # What is measured on images goes into the manifest.
        out = works("calibrate", "--model", model, "--data", digits(), "--split", "dev",
                    "--familiarity-limit", "4", "--references", "train", "--threads", "1", "--out",
                    measured)
        assert "temperature" in out and "noise-only error" in out and "likeness, centred" in out
        works("bundle", "--out", model, "--measured", measured)
        with open(measured) as f:
            wanted = json.load(f)
        with open(os.path.join(model, "manifest.json")) as f:
            manifest = json.load(f)
        assert abs(manifest["acceptance"][0]["temperature"] - wanted["temperatures"][0]) < 1e-6
        bounds = manifest["quantiles"]["noise_only"]
        assert 0 < bounds["low"] < bounds["high"] < 128
        likeness = manifest["quantiles"]["likeness"]
        assert 0 < likeness["low"] <= likeness["high"] == 1, likeness
        assert manifest["quantiles"]["references"] == "references.safetensors" in manifest["files"]
        # References may be measured alone: the other bounds stay, and a file that is not theirs is refused.
        works("calibrate", "--model", model, "--data", digits(), "--split", "dev", "--familiarity-limit", "0",
              "--references", "train", "--threads", "1", "--out", measured)
        works("bundle", "--out", model, "--measured", measured)
        with open(os.path.join(model, "manifest.json")) as f:
            assert json.load(f)["quantiles"]["noise_only"] == bounds
        with open(measured, "w") as f:
            json.dump({"quantiles": {"references": "../" + os.path.basename(measured)}}, f)
        code, _, err = run("bundle", "--out", model, "--measured", measured)
        assert code == 1 and "must be a file beside it" in err, err
        with open(measured, "w") as f:
            json.dump({"temperatures": [1, 1]}, f)
        code, _, err = run("bundle", "--out", model, "--measured", measured)
        assert code == 1 and "2 temperatures for the bundle's 1 acceptance nets" in err, err
        steps = manifest["defaults"]["steps"]
        for wrong in ([3] * (steps + 1), [3] * (steps - 1) + [4], [3] * (steps - 1) + ["3"], [], 3):
            with open(measured, "w") as f:
                json.dump({"rounds": wrong}, f)
            code, _, err = run("bundle", "--out", model, "--measured", measured)
            assert code == 1 and f'"rounds" must be {steps} integers in 1..3' in err, err
        with open(measured, "w") as f:
            json.dump({"rounds": [3] + [1] * (steps - 1), "change_cost": 2}, f)
        code, _, err = run("bundle", "--out", model, "--measured", measured)
        assert code == 1 and '"change_cost" must be a number in 0..1' in err, err
        with open(measured, "w") as f:
            json.dump({"rounds": [3] + [1] * (steps - 1), "change_cost": 0.01}, f)
        works("bundle", "--out", model, "--measured", measured)
        # Both kinds of judges are asked; the panel unless the others are named.
        ask = ["evaluate", "--model", model, "--data", digits(), "--methods", "identity,random",
               "--frontier", "", "--no-cost", "--no-sheets", "--study-limit", "0", "--threads", "1",
               "--report", report]
        for judges_named, classifiers, vaes in (([], 2, 2), (["--judges", "selection"], 1, 0)):
            works(*ask, *judges_named)
            with open(os.path.join(report, "judges.json")) as f:
                said = json.load(f)
            same, other = said["methods"]
            assert said["judges"] == (judges_named or ["", "panel"])[1]
            assert len(said["real"]["accuracy"]) == len(same["validity"]) == classifiers
            assert len(same["cld_of_each"]) == vaes and same["l1_255"] == 0 < other["l1_255"]
            assert same["faint"] == said["real"]["faint"]
            with open(os.path.join(report, "judges.md")) as f:
                lines = [line for line in f if line.startswith("| ")]
            assert len(lines) == 4 and len({line.count("|") for line in lines}) == 1, lines
        code, _, err = run(*ask, "--judges", "friends")
        assert code == 2 and "--judges friends: must be panel or selection" in err, err
        code, _, err = run(*ask[:1], "--model", "morphomnist", *ask[3:-1], path("no-panel"), "--judges", "selection")
        assert code != 0 and "the bundle has no selection judges" in err, err
        assert "images" not in err, err  # before the work

    def test_bounds_that_are_not_finite_are_refused():
        """A score network whose output overflows gives no bounds; the others are not lost in silence."""
        model, measured = path("overflowing-model"), path("overflowing.json")
        shutil.copytree(os.path.join(root, "models", "mnist"), model)
        name = os.path.join(model, "score.safetensors")
        with open(name, "rb") as f:
            length, = struct.unpack("<Q", f.read(8))
            header, weights = json.loads(f.read(length)), f.read()
        metadata = header.pop("__metadata__", None)
        factors, out = {"out.0.weight": 1e6, "out.0.bias": 1e6, "out.2.weight": 1e38}, b""
        assert factors.keys() <= header.keys(), sorted(header)
        for k, v in header.items():
            part = weights[slice(*v["data_offsets"])]
            values = [factors.get(k, 1) * x for x in struct.unpack(f"<{len(part) // 2}e", part)]
            v.update(dtype="F32", data_offsets=[len(out), len(out) + 2 * len(part)])
            out += struct.pack(f"<{len(values)}f", *values)
        if metadata:
            header["__metadata__"] = metadata
        text = json.dumps(header).encode()
        with open(name, "wb") as f:
            f.write(struct.pack("<Q", len(text)) + text + out)
        with open(os.path.join(model, "manifest.json"), "r+") as f, open(name, "rb") as g:
            manifest = json.load(f)
            manifest["files"]["score.safetensors"] = hashlib.sha256(g.read()).hexdigest()
            f.seek(0)
            json.dump(manifest, f)
            f.truncate()
        code, _, err = run("calibrate", "--model", model, "--data", digits(), "--split", "dev",
                           "--familiarity-limit", "2", "--threads", "1", "--out", measured)
        assert code == 1 and "not a finite number" in err, (code, err)
        assert not os.path.exists(measured)

    return {name: function for name, function in locals().items() if name.startswith("test_")}
