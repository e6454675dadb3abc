"""Share of lines that fuzz targets reach in the files they are about, with the seeds of tests/fuzz/seeds.

usage: coverage.py FOLDER [REGEX]    FOLDER: for what is built; LIBS in the environment: archives and libraries of
the program. Only the files in question are built with gcov's counters. Exit 1 when a target is below 90 %."""
import glob, json, os, re, shlex, shutil, subprocess, sys

LEAST = 90
FILES = {
    "base64": ["api/base64.c"],
    "handler headers": ["server/http.c", "server/routes.c", "server/http_parse.c", "server/admin.c", "server/origin.c",
                        "server/negotiate.c"],
    "idx": ["core/data/idx.c"],
    "keys": ["server/keys.c"],
    "latent": ["core/scm/latent.c"],
    "manifest": ["core/bundle/manifest.c"],
    "multipart": ["api/multipart.c"],
    "pickle": ["core/io/pickle.c", "core/io/pickle_names.c"],
    "picture": ["core/image/png.c", "core/image/jpeg.c", "core/image/orient.c"],
    "query": ["api/query.c"],
    "request": ["api/request.c", "api/request_options.c", "api/request_interventions.c"],
    "tensors": ["core/io/tensors.c", "core/io/safetensors.c", "core/io/torch_zip.c"],
}


FLAGS = "-std=c11 -D_GNU_SOURCE -I. -O0 -g1".split()


def seeds_of(target):
    return sorted(glob.glob(f"tests/fuzz/seeds/fuzz_{target}/*"))


def reached(folder, targets, files):
    """Times that each line ran, per file, by all targets together."""
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    cc = shlex.split(os.environ.get("CC", "gcc"))

    def build(file, *flags):
        name = os.path.join(folder, file.replace("/", "-")[:-2] + ".o")
        subprocess.run([*cc, *FLAGS, *flags, "-c", file, "-o", name], check=True)
        return name

    objects = [build(file, "--coverage") for file in files]
    driver = build("tests/fuzz/driver.c")
    env = dict(os.environ, FUZZ_WAIT_MS="300")  # so that the service's answers are heard, and it logs
    for target in targets:
        program = os.path.join(folder, target)
        subprocess.run([*cc, "-o", program, build(f"tests/fuzz/fuzz_{target}.c"), driver, *objects, "--coverage",
                        *shlex.split(os.environ["LIBS"])], check=True)
        subprocess.run([program, "0", folder + "/input", *seeds_of(target)], check=True, env=env,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    counts = {}
    for file, name in zip(files, objects):
        out = subprocess.run(["gcov", "--json-format", "--stdout", name[:-2] + ".gcda"], check=True,
                             capture_output=True).stdout
        for part in json.loads(out)["files"]:
            if part["file"] == file:
                counts[file] = {line["line_number"]: line["count"] for line in part["lines"]}
    return counts


def main():
    folder, wanted, low = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "", False
    for names, files in FILES.items():
        targets = names.split()
        if not any(re.search(wanted, "fuzz_" + target) for target in targets):
            continue
        counts = reached(os.path.join(folder, targets[0]), targets, files)
        lines = sum(len(c) for c in counts.values())
        hit = sum(times > 0 for c in counts.values() for times in c.values())
        share = 100 * hit / lines
        each = ", ".join(f"{os.path.basename(f)} {100 * sum(t > 0 for t in c.values()) / len(c):.0f}"
                         for f, c in counts.items())
        print(f"{names:15} {share:5.1f} % of {lines} lines with {sum(len(seeds_of(t)) for t in targets)} seeds ({each})",
              flush=True)
        if share < LEAST or "-v" in sys.argv:
            for file, c in counts.items():
                print(f"    {file}: not {' '.join(str(n) for n, times in sorted(c.items()) if not times)}")
        low = low or share < LEAST
    return low


sys.exit(main())
