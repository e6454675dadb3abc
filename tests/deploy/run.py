"""Checks the files of deploy/ without a cluster: python3 tests/deploy/run.py PROGRAM.

Every key of a manifest must be one that the kind has (a misspelt one would be dropped in silence), selectors and
ports must find what they name, and the program itself must take the options of every container. Where there are
kubectl and nginx, overlays are built and nginx reads its configuration."""
import glob, os, re, shutil, subprocess, sys, tempfile, traceback

import yaml

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
DEPLOY = os.path.join(ROOT, "deploy")
PROGRAM = os.path.abspath(sys.argv[1])

# What a manifest may hold: a dict of keys ("!": must be there), a list of one form, a type, or ANY.
ANY = object()
LABELS = dict
QUANTITY = (str, int)
SELECTOR = {"matchLabels": LABELS, "matchExpressions": [{"key!": str, "operator!": str, "values": list}]}
PROBE = {"httpGet": {"path!": str, "port!": QUANTITY}, "tcpSocket": {"port!": QUANTITY}, "periodSeconds": int,
         "timeoutSeconds": int, "failureThreshold": int, "initialDelaySeconds": int}
META = {"name!": str, "labels": LABELS, "annotations": LABELS, "namespace": str}
CONTAINER = {
    "name!": str, "image!": str, "args": [str], "command": [str], "ports": [{"name!": str, "containerPort!": int}],
    "startupProbe": PROBE, "livenessProbe!": PROBE, "readinessProbe!": PROBE,
    "lifecycle": {"preStop": {"sleep": {"seconds!": int}}},
    "resources!": {"requests!": {"cpu!": QUANTITY, "memory!": str}, "limits!": {"cpu": QUANTITY, "memory!": str}},
    "securityContext!": {"allowPrivilegeEscalation!": bool, "readOnlyRootFilesystem!": bool,
                         "capabilities!": {"drop!": list}},
    "volumeMounts": [{"name!": str, "mountPath!": str, "readOnly": bool}]}
POD = {"metadata!": {"labels!": LABELS, "annotations": LABELS}, "spec!": {
    "enableServiceLinks!": bool, "automountServiceAccountToken!": bool, "terminationGracePeriodSeconds": int,
    "securityContext!": {"runAsNonRoot!": bool, "runAsUser": int, "fsGroup": int, "seccompProfile!": {"type!": str}},
    "topologySpreadConstraints": [{"maxSkew!": int, "topologyKey!": str, "whenUnsatisfiable!": str,
                                   "labelSelector": SELECTOR}],
    "containers!": [CONTAINER], "volumes": [{"name!": str, "secret": {"secretName!": str}}]}}
PEERS = [{"podSelector": SELECTOR, "namespaceSelector": SELECTOR}]
PORTS = [{"port!": QUANTITY, "protocol": str}]
FORMS = {
    ("apps/v1", "Deployment"): {"replicas": int, "selector!": SELECTOR, "template!": POD, "strategy": {
        "rollingUpdate": {"maxUnavailable": QUANTITY, "maxSurge": QUANTITY}}},
    ("apps/v1", "StatefulSet"): {"serviceName!": str, "replicas": int, "selector!": SELECTOR, "template!": POD,
                                 "volumeClaimTemplates": [{"metadata!": META, "spec!": {
                                     "accessModes!": [str], "resources!": {"requests!": {"storage!": str}}}}]},
    ("v1", "Service"): {"selector!": LABELS, "clusterIP": str,
                        "ports!": [{"name!": str, "port!": int, "targetPort!": QUANTITY}]},
    ("policy/v1", "PodDisruptionBudget"): {"minAvailable": int, "maxUnavailable": int, "selector!": SELECTOR},
    ("networking.k8s.io/v1", "NetworkPolicy"): {
        "podSelector!": SELECTOR, "policyTypes!": [str], "ingress": [{"from!": PEERS, "ports!": PORTS}],
        "egress": [{"to!": PEERS, "ports!": PORTS}]},
    ("keda.sh/v1alpha1", "ScaledObject"): {
        "scaleTargetRef!": {"name!": str}, "minReplicaCount!": int, "maxReplicaCount!": int, "pollingInterval": int,
        "cooldownPeriod": int, "triggers!": [{"type!": str, "metadata!": {"serverAddress!": str, "query!": str,
                                                                          "threshold!": str}}]},
    ("autoscaling/v2", "HorizontalPodAutoscaler"): {
        "scaleTargetRef!": {"apiVersion!": str, "kind!": str, "name!": str}, "minReplicas!": int, "maxReplicas!": int,
        "metrics!": [{"type!": str, "external!": {"metric!": {"name!": str}, "target!": {
            "type!": str, "averageValue!": str}}}],
        "behavior": {"scaleDown": {"stabilizationWindowSeconds": int}}},
}


def check(value, form, place):
    """Raises with the place of the first thing that the form does not have."""
    if isinstance(form, dict):
        assert isinstance(value, dict), f"{place} is no mapping"
        names = {k.rstrip("!") for k in form}
        for key in value:
            assert key in names, f"{place}.{key} does not exist; there are {', '.join(sorted(names))}"
        for key, inner in form.items():
            name = key.rstrip("!")
            assert name in value or not key.endswith("!"), f"{place}.{name} is missing"
            if name in value:
                check(value[name], inner, f"{place}.{name}")
    elif isinstance(form, list):
        assert isinstance(value, list), f"{place} is no list"
        for i, item in enumerate(value):
            check(item, form[0], f"{place}[{i}]")
    else:
        assert isinstance(value, form), f"{place} is {value!r}"


def documents(path):
    with open(path, encoding="utf-8") as file:
        return [d for d in yaml.safe_load_all(file) if d]


def overlay(name):
    """All objects of an overlay, by the resources that its files name."""
    out, folder = [], os.path.join(DEPLOY, "kubernetes", name)
    (head,) = documents(os.path.join(folder, "kustomization.yaml"))
    check(head, {"apiVersion!": str, "kind!": str, "namespace!": str, "resources!": [str],
                 "images": [{"name!": str, "newTag!": str}]}, name)
    for entry in head["resources"]:
        path = os.path.normpath(os.path.join(folder, entry))
        out += overlay(os.path.relpath(path, os.path.join(DEPLOY, "kubernetes"))) if os.path.isdir(path) \
            else documents(path)
    listed = {os.path.basename(p) for p in glob.glob(folder + "/*.yaml")} - {"kustomization.yaml"}
    assert listed == {e for e in head["resources"] if e.endswith(".yaml")}, f"{name}: {listed} are not all listed"
    return out


def objects_are_whole(objects):
    names = set()
    for o in objects:
        form = FORMS.get((o.get("apiVersion"), o.get("kind")))
        place = f"{o.get('kind')} {o.get('metadata', {}).get('name')}"
        assert form, f"{place}: apiVersion {o.get('apiVersion')} has no such kind"
        check(o, {"apiVersion!": str, "kind!": str, "metadata!": META, "spec!": form}, place)
        assert place not in names, f"{place} twice"
        names.add(place)


def pods(objects):
    return [o for o in objects if "template" in o["spec"]]


def matching(objects, labels):
    return [p for p in pods(objects) if labels.items() <= p["spec"]["template"]["metadata"]["labels"].items()]


def test_overlays_hold_what_they_should():
    for name in ("keda", "hpa"):
        objects = overlay(name)
        objects_are_whole(objects)
        by = {(o["kind"], o["metadata"]["name"]): o for o in objects}
        for pod in pods(objects):
            spec = pod["spec"]["template"]["spec"]
            assert pod["spec"]["selector"]["matchLabels"].items() <= \
                pod["spec"]["template"]["metadata"]["labels"].items(), pod["metadata"]
            assert spec["enableServiceLinks"] is False and spec["securityContext"]["runAsNonRoot"] is True
            for c in spec["containers"]:
                s = c["securityContext"]
                assert s["readOnlyRootFilesystem"] and not s["allowPrivilegeEscalation"]
                assert s["capabilities"]["drop"] == ["ALL"], c["name"]
                ports = {p["name"] for p in c["ports"]}
                for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                    for how in c.get(probe, {}).values():
                        assert not isinstance(how, dict) or how["port"] in ports, (c["name"], probe)
                volumes = {v["name"] for v in spec.get("volumes", [])} | \
                    {v["metadata"]["name"] for v in pod["spec"].get("volumeClaimTemplates", [])}
                assert {m["name"] for m in c["volumeMounts"]} <= volumes, c["name"]
        for (kind, label), o in by.items():
            if kind == "Service":
                (pod,) = matching(objects, o["spec"]["selector"])
                ports = {p["name"] for c in pod["spec"]["template"]["spec"]["containers"] for p in c["ports"]}
                assert all(p["targetPort"] in ports for p in o["spec"]["ports"]), label
            if kind == "PodDisruptionBudget":
                assert len(matching(objects, o["spec"]["selector"]["matchLabels"])) == 1, label
            if kind == "NetworkPolicy":
                assert len(matching(objects, o["spec"]["podSelector"]["matchLabels"])) == 1, label
            if kind in ("ScaledObject", "HorizontalPodAutoscaler"):
                target = by["Deployment", o["spec"]["scaleTargetRef"]["name"]]
                assert "replicas" not in target["spec"], "the scaler's number would be overwritten"
                with open(os.path.join(ROOT, "server", "metrics.c"), encoding="utf-8") as file:
                    assert "diffscm_queue_depth" in str(o) and '"diffscm_queue_depth"' in file.read()
        assert len(pods(objects)) == 3 and len(objects) == 11, sorted(by)


def options_are_known(command, environment, place):
    """The program reads them as it would at its start; files that it names are not opened for that."""
    assert command[0] in ("serve", "work"), command
    r = subprocess.run([PROGRAM, *command, "--print-config"], capture_output=True, text=True,
                       env={"PATH": os.environ["PATH"], **environment})
    assert r.returncode == 0, f"{place}: {r.stderr}"
    return dict(l.split(" = ", 1) for l in r.stdout.splitlines() if " = " in l and not l.startswith("#"))


def test_the_program_takes_the_options_of_every_container():
    links = {"DIFFSCM_PORT": "tcp://10.0.0.1:80", "DIFFSCM_SERVICE_HOST": "10.0.0.1"}
    image = {"DIFFSCM_HOST": "0.0.0.0", "DIFFSCM_DATA_DIR": "/usr/share/diffscm"}
    for pod in pods(overlay("base")):
        (c,) = pod["spec"]["template"]["spec"]["containers"]
        if c["image"] != "diffscm":
            continue
        o = options_are_known(c["args"], {**image, **links}, c["name"])
        ports = {p["name"]: p["containerPort"] for p in c["ports"]}
        assert int(o["admin-port"]) == ports["admin"] and o["admin-host"] == "0.0.0.0", c["name"]
        assert "http" not in ports or int(o["port"]) == ports["http"]
        assert int(o["drain-s"]) < pod["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
        redis = next(o for o in overlay("base") if o["kind"] == "Service" and "redis" in o["metadata"]["name"])
        assert f"//{redis['metadata']['name']}:{redis['spec']['ports'][0]['port']}/" in o["store"], o["store"]
    (compose,) = documents(os.path.join(DEPLOY, "compose.yaml"))
    for name in ("diffscm", "work"):
        service = compose["services"][name]
        options_are_known(service["command"], {**image, **service["environment"]}, "compose " + name)
        assert service["read_only"] and service["stop_grace_period"] == "30s"


def test_compose_names_what_there_is():
    (compose,) = documents(os.path.join(DEPLOY, "compose.yaml"))
    services = compose["services"]
    for name, service in services.items():
        assert set(service.get("depends_on", ())) <= set(services), name
        assert set(service["networks"]) <= set(compose["networks"]), name
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert source in compose["volumes"] or source == "./tls" or \
                os.path.exists(os.path.join(DEPLOY, source)), volume
    assert services["work"]["deploy"]["replicas"] == 2 and compose["networks"]["inside"]["internal"]


def test_kustomize_builds_the_overlays():
    if not shutil.which("kubectl"):
        return "no kubectl"
    for name in ("keda", "hpa"):
        r = subprocess.run(["kubectl", "kustomize", os.path.join(DEPLOY, "kubernetes", name)],
                           capture_output=True, text=True)
        assert r.returncode == 0, r.stderr
        built = [d for d in yaml.safe_load_all(r.stdout) if d]
        objects_are_whole(built)
        assert len(built) == 11 and all(o["metadata"]["namespace"] == "diffscm" for o in built)
        assert "image: diffscm:" in r.stdout


def test_nginx_reads_its_configuration():
    if not shutil.which("nginx") or not shutil.which("openssl"):
        return "no nginx or no openssl"
    with open(os.path.join(DEPLOY, "nginx.conf"), encoding="utf-8") as file:
        text = file.read()
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
                        "/CN=localhost", "-keyout", folder + "/server.key", "-out", folder + "/server.crt"],
                       check=True, capture_output=True)
        for old, new in (("/tmp/", folder + "/"), ("/etc/nginx/tls/", folder + "/"),
                         ("server diffscm:8080", "server 127.0.0.1:8080")):
            text = text.replace(old, new)
        with open(folder + "/nginx.conf", "w", encoding="utf-8") as file:
            file.write(text)
        r = subprocess.run(["nginx", "-t", "-c", folder + "/nginx.conf"], capture_output=True, text=True)
        assert r.returncode == 0, r.stderr


def test_a_misspelt_key_is_found():
    objects = overlay("base")
    spec = pods(objects)[0]["spec"]["template"]["spec"]
    spec["enableServicelinks"] = spec.pop("enableServiceLinks")
    try:
        objects_are_whole(objects)
    except AssertionError as error:
        assert re.search("enableServicelinks does not exist", str(error)), error
    else:
        raise AssertionError("it was not found")


def main():
    passed = failed = skipped = 0
    for name, case in list(globals().items()):
        if not name.startswith("test_"):
            continue
        try:
            why = case()
            passed, skipped = passed + (why is None), skipped + (why is not None)
            if why:
                print(f"  skipped {name}: {why}")
        except Exception:
            failed += 1
            print(f"  FAIL {name}\n{traceback.format_exc()}")
    print(f"{'test_deploy':28} {passed} passed, {failed} failed, {skipped} skipped")
    return failed != 0


sys.exit(main())
