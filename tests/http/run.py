"""Runs the HTTP tests: python3 tests/http/run.py PROGRAM [filter] [-v]. Each function test_* of the modules
beside this file is a case; those of jobs and stopping run with every store. A filter that begins with "soak"
chooses the long ones (soak_*.py) instead. HTTP_JOBS (3) cases run side by side, each in a process with a
Redis of its own, since most of a case is waiting."""
import glob, importlib, multiprocessing, os, queue, shutil, sys, time, traceback

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import lib

EVERY_STORE = ["cases_basics", "cases_operation"]


def find_cases(wanted):
    """[(store, module, function)], those of the stores last."""
    here = os.path.dirname(os.path.abspath(__file__))
    kind = "soak" if wanted.startswith("soak") else "cases"
    names = [os.path.basename(p)[:-3] for p in sorted(glob.glob(os.path.join(here, kind + "_*.py")))]
    stores = ["sqlite", "redis"] if shutil.which("redis-server") else ["sqlite"]
    if "redis" not in stores:
        print("  redis-server is not installed: the cases that need it are left out", flush=True)
        names = [n for n in names if "shared" not in n]
    groups = [("memory", n) for n in names] + [(s, n) for s in stores for n in EVERY_STORE if kind == "cases"]
    return [(store, module, case) for store, module in groups
            for case in vars(importlib.import_module(module))
            if case.startswith("test_") and wanted in full_name(store, module, case)]


def full_name(store, module, case):
    return f"{module}.{case}" + (f":{store}" if store != "memory" else "")


def work(cases, begun, results):
    """Runs cases until all are begun; tells of each its seconds and what went wrong, or None."""
    while True:
        with begun.get_lock():
            index, begun.value = begun.value, begun.value + 1
        if index >= len(cases):
            break
        fault, start = None, time.time()
        lib.STORE, module, case = cases[index]
        try:
            vars(importlib.import_module(module))[case]()
        except Exception:
            fault = traceback.format_exc()
        results.put((cases[index], time.time() - start, fault))
    if lib.REDIS:
        lib.REDIS.close()


def run_all(cases, jobs):
    fork = multiprocessing.get_context("fork")
    begun, results = fork.Value("i", 0), fork.Queue()
    workers = [fork.Process(target=work, args=(cases, begun, results)) for _ in range(min(jobs, len(cases)))]
    for w in workers:
        w.start()
    left = len(cases)
    while left:
        try:
            yield results.get(timeout=1)
            left -= 1
        except queue.Empty:
            if not any(w.is_alive() for w in workers) and results.empty():
                break  # one was killed in the midst of a case
    for w in workers:
        w.join()


def main():
    lib.PROGRAM = os.path.abspath(sys.argv[1])
    wanted = sys.argv[2] if len(sys.argv) > 2 else ""
    cases = find_cases(wanted)
    passed = failed = 0
    stored, begun = 0.0, time.time()
    jobs = 1 if wanted.startswith("soak") else int(os.environ.get("HTTP_JOBS", "3"))
    for (store, module, case), took, fault in run_all(cases, jobs):
        full = full_name(store, module, case)
        if store != "memory" or module in ("cases_shared", "cases_store"):
            stored += took
        if fault:
            failed += 1
            print(f"  FAIL {full}\n{fault}", flush=True)
        else:
            passed += 1
            if "-v" in sys.argv:
                print(f"  ok {full} {took:.2f} s", flush=True)
    if passed + failed < len(cases):
        print(f"  FAIL {len(cases) - passed - failed} cases did not end", flush=True)
        failed += len(cases) - passed - failed
    if stored:
        print(f"  cases with SQLite and Redis: {stored:.0f} s in sum, all cases {time.time() - begun:.0f} s", flush=True)
    print(f"{'test_http':28} {passed} passed, {failed} failed, 0 skipped", flush=True)
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
