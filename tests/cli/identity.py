"""Diversity and identity rank of an evaluation, computed again from the images it leaves."""
import os, re

HEADING = "Does the result still know its factual?"


def correlation(a, b):
    n = len(a)
    joint = n * sum(x * y for x, y in zip(a, b)) - sum(a) * sum(b)
    spread = [n * sum(x * x for x in v) - sum(v) ** 2 for v in (a, b)]
    return joint / (spread[0] * spread[1]) ** 0.5 if spread[0] and spread[1] else 0


def apart(images, targets):
    """What sets each image apart from the mean of its target, times the target's items."""
    out = []
    for image, target in zip(images, targets):
        group = [other for other, t in zip(images, targets) if t == target]
        out.append([len(group) * v - s for v, s in zip(image, map(sum, zip(*group)))])
    return out


def measure(factuals, results, targets):
    """(diversity, identity ranks of the items that share their target with another)."""
    gaps, ranks = [], []
    apart_factuals, apart_results = apart(factuals, targets), apart(results, targets)
    for i, target in enumerate(targets):
        others = [j for j, t in enumerate(targets) if t == target and j != i]
        gaps += [sum(abs(x - y) for x, y in zip(results[i], results[j])) / len(results[i])
                 for j in others]
        own = correlation(apart_results[i], apart_factuals[i])
        leads = [correlation(apart_results[i], apart_factuals[j]) - own for j in others]
        if leads:
            ranks.append(sum(1 if d > 1e-12 else 0.5 if d > -1e-12 else 0 for d in leads) / len(leads))
    return (sum(gaps) / len(gaps) if gaps else None), ranks


def table(text):
    """The rows of the report's section, Markdown or HTML: method -> cells."""
    section = re.split(r"\n(?=## |<h2>)", text.split(HEADING)[1])[0]
    if "<tr>" in section:
        rows = [re.findall(r"<t[dh]>(.*?)</t[dh]>", line) for line in section.split("<tr>")[2:]]
    else:
        rows = [[cell.strip() for cell in line.split("|")[1:-1]]
                for line in section.splitlines() if line.startswith("| ")][1:]
    return {name: cells for name, *cells in rows}


def check(folder, factuals, slug, title, read_idx, rows):
    """Both pages have, for this method, what its images say. Returns diversity and mean rank."""
    shape, blob = read_idx(os.path.join(folder, f"images-{slug}"))
    size = shape[1] * shape[2]
    results = [blob[i * size:(i + 1) * size] for i in range(shape[0])]
    diversity, ranks = measure(factuals, results, [row["target"] for row in rows])
    rank = sum(ranks) / len(ranks) if ranks else None
    for page in ("report.md", "report.html"):
        with open(os.path.join(folder, page)) as f:
            items, shown_diversity, shown_rank = table(f.read())[title]
        assert int(items) == len(ranks), (page, title, items, len(ranks))
        if not ranks:
            assert shown_diversity == shown_rank == "–", (page, title, shown_diversity, shown_rank)
            continue
        assert abs(float(shown_diversity) - diversity) < 0.0051, (page, title, shown_diversity, diversity)
        found = re.fullmatch(r"([0-9.]+)(?: \(([0-9.]+)–([0-9.]+)\))?", shown_rank)
        assert abs(float(found[1]) - rank) < 0.00051, (page, title, shown_rank, rank)
        assert (found[2] is None) == (len(set(ranks)) == 1), (page, title, shown_rank)
        if found[2]:
            assert float(found[2]) <= rank + 0.0005 and rank <= float(found[3]) + 0.0005, shown_rank
    return diversity, rank
