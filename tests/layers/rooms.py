#!/usr/bin/env python3
"""The include graph between rooms (folders). A room may include only rooms before it in ORDER.

usage: rooms.py [--print] [--objects BUILD_DIR] [ROOT]. Prints includes against the order, and cycles; exit 1 when there is one.
--print: the whole graph first, each arrow with the number of its includes, and how many go against the order.
--objects: instead, functions and data that an object of BUILD_DIR takes from a room after its own.
"""
import collections, os, re, subprocess, sys

# "core" is the engine's face, core/diffscm.h.
ORDER = ["core/base", "core", "core/image", "core/kernels", "core/nn", "core/io", "core/diffusion",
         "core/models", "core/data", "core/causal", "core/bundle", "core/scm", "core/train", "core/eval",
         "api", "server", "cli"]
TOP = ("core", "api", "server", "cli")
BEFORE = "3 in commit 5799e21, before rooms had an order"


def room_of(path):
    parts = path.split("/")
    return "/".join(parts[:2]) if parts[0] == "core" and len(parts) > 2 else parts[0]


def graph_of(root):
    """{room: {room it includes: ["file:line name", …]}}"""
    graph = collections.defaultdict(lambda: collections.defaultdict(list))
    for top in TOP:
        for folder, _, names in os.walk(os.path.join(root, top)):
            for name in sorted(n for n in names if n.endswith((".c", ".h"))):
                path = os.path.relpath(os.path.join(folder, name), root)
                with open(os.path.join(root, path), encoding="utf-8") as source:
                    for number, line in enumerate(source, 1):
                        found = re.match(r'\s*#\s*include\s*"([^"]+)"', line)
                        if found and room_of(found[1]) != room_of(path):
                            graph[room_of(path)][room_of(found[1])].append(
                                f"{path}:{number} includes {found[1]}")
    return graph


def cycle_from(graph, start):
    """The shortest way from a room back to itself, or None."""
    ways = collections.deque([[start]])
    seen = set()
    while ways:
        way = ways.popleft()
        for room in sorted(graph.get(way[-1], ())):
            if room == start:
                return way
            if room not in seen:
                seen.add(room)
                ways.append(way + [room])
    return None


def objects_of(build):
    """{object file: room} of sources that exist."""
    found = {}
    for top in TOP:
        for folder, _, names in os.walk(os.path.join(build, top)):
            for name in (n for n in names if n.endswith(".o")):
                path = os.path.join(folder, name)
                source = os.path.relpath(path, build).split(".", 1)[0] + ".c"
                if os.path.exists(source):
                    found[path] = room_of(source)
    return found


def symbols_against_order(build):
    """Lines of objects that need what a later room defines: a declaration in a header hides that."""
    rooms = objects_of(build)
    if not rooms:
        return [f"{build}: no objects"]
    listed = subprocess.run(["nm", "-A", "-g", *rooms], capture_output=True, text=True, check=True).stdout
    defined, needed = {}, []
    for line in listed.splitlines():
        path, _, rest = line.partition(":")
        *_, kind, name = rest.split()
        if kind == "U":
            needed.append((path, name))
        elif kind in "TDBRV":
            defined[name] = rooms[path]
    return [f"{rooms[path]} -> {defined[name]}: {path} needs {name}" for path, name in needed
            if name in defined and ORDER.index(defined[name]) > ORDER.index(rooms[path])]


def main():
    arguments = [a for a in sys.argv[1:] if a != "--print"]
    if arguments[:1] == ["--objects"]:
        found = symbols_against_order(arguments[1])
        print("\n".join(found), end="\n" if found else "")
        return 1 if found else 0
    graph = graph_of(arguments[0] if arguments else ".")
    if "--print" in sys.argv:
        for room in sorted(graph, key=lambda r: ORDER.index(r) if r in ORDER else len(ORDER)):
            to = ", ".join(f"{other} ({len(lines)})" for other, lines in sorted(graph[room].items()))
            print(f"{room} -> {to}")
    faults = []
    for room, others in sorted(graph.items()):
        if room not in ORDER:
            faults.append(f"{room}: a room without a place in the order; see ORDER in tests/layers/rooms.py")
            continue
        for other, lines in sorted(others.items()):
            if other not in ORDER or ORDER.index(other) > ORDER.index(room):
                faults += [f"{room} -> {other}: {line}" for line in lines]
    against = len(faults)
    cycles = {tuple(sorted(c)): c for c in (cycle_from(graph, r) for r in sorted(graph)) if c}
    faults += ["cycle: " + " -> ".join(c + c[:1]) for c in cycles.values()]
    if "--print" in sys.argv:
        print(f"{against} includes go against the order ({BEFORE}); {len(cycles)} cycles")
    print("\n".join(faults), end="\n" if faults else "")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
