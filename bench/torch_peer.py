"""The same networks and the same sampler in PyTorch: a peer to time against, and a second opinion.

Written for this benchmark from the description of the networks; it shares no code with the program it
is compared with. It reads a bundle (manifest.json + safetensors), needs torch and numpy, and prints
one JSON line per measurement. `bench/compare.py` runs it; by hand:

    python3 bench/torch_peer.py counterfactual BUNDLE IMAGES.gz TARGETS.gz OUT --count 10 --batch 10
    python3 bench/torch_peer.py train BUNDLE --batch 64
    python3 bench/torch_peer.py forward BUNDLE --batch 16 --count 20     also by ONNX Runtime, where it is installed
"""
import argparse
import gzip
import json
import math
import os
import struct
import sys
import tempfile
import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F


# ---- files --------------------------------------------------------------------------------------
def read_safetensors(path):
    kinds = {"F16": np.float16, "F32": np.float32, "F64": np.float64, "I64": np.int64}
    raw = open(path, "rb").read()
    size = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8:8 + size])
    header.pop("__metadata__", None)
    out = {}
    for name, info in header.items():
        begin, end = info["data_offsets"]
        flat = np.frombuffer(raw[8 + size + begin:8 + size + end], kinds[info["dtype"]])
        out[name] = torch.from_numpy(flat.reshape(info["shape"]).astype(np.float32))
    return out


def read_idx(path):
    raw = open(path, "rb").read()
    if raw[:2] == b"\x1f\x8b":
        raw = gzip.decompress(raw)
    ndim = raw[3]
    dims = struct.unpack(">" + "I" * ndim, raw[4:4 + 4 * ndim])
    return np.frombuffer(raw[4 + 4 * ndim:], np.uint8).reshape(dims)


def write_idx(path, array):
    with open(path, "wb") as f:
        f.write(bytes([0, 0, 8, array.ndim]) + struct.pack(">" + "I" * array.ndim, *array.shape))
        f.write(array.astype(np.uint8).tobytes())


# ---- networks -----------------------------------------------------------------------------------
def norm(channels):
    return nn.GroupNorm(32, channels, eps=1e-5)


def zero_start(layer):
    for p in layer.parameters():
        nn.init.zeros_(p)
    return layer


class Block(nn.Module):
    """Residual block; resample is None, 'up' or 'down'."""

    def __init__(self, ci, co, emb, scale_shift, dropout, resample=None):
        super().__init__()
        self.in_layers = nn.Sequential(norm(ci), nn.SiLU(), nn.Conv2d(ci, co, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(emb, 2 * co if scale_shift else co))
        self.out_layers = nn.Sequential(norm(co), nn.SiLU(), nn.Dropout(dropout),
                                        zero_start(nn.Conv2d(co, co, 3, padding=1)))
        self.skip_connection = nn.Identity() if ci == co else nn.Conv2d(ci, co, 1)
        self.scale_shift, self.resample = scale_shift, resample

    def resized(self, x):
        if self.resample == "up":
            return F.interpolate(x, scale_factor=2, mode="nearest")
        if self.resample == "down":
            return F.avg_pool2d(x, 2)
        return x

    def forward(self, x, emb):
        h = self.in_layers[2](self.resized(self.in_layers[1](self.in_layers[0](x))))
        x = self.resized(x)
        e = self.emb_layers(emb)[:, :, None, None]
        if self.scale_shift:
            scale, shift = e.chunk(2, dim=1)
            h = self.out_layers[0](h) * (1 + scale) + shift
            h = self.out_layers[3](self.out_layers[2](self.out_layers[1](h)))
        else:
            h = self.out_layers(h + e)
        return self.skip_connection(x) + h


def attend(qkv, heads, new_order):
    """qkv (B, 3*heads*ch, N) -> (B, heads*ch, N)."""
    b, width, n = qkv.shape
    ch = width // (3 * heads)
    parts = qkv.reshape(b, 3, heads, ch, n).transpose(1, 2) if new_order else \
        qkv.reshape(b, heads, 3, ch, n)
    q, k, v = parts[:, :, 0], parts[:, :, 1], parts[:, :, 2]
    weight = torch.softmax(torch.einsum("bhcs,bhct->bhst", q, k) / math.sqrt(ch), dim=-1)
    return torch.einsum("bhst,bhct->bhcs", weight, v).reshape(b, heads * ch, n)


class Attention(nn.Module):
    def __init__(self, channels, heads, new_order):
        super().__init__()
        self.norm, self.qkv = norm(channels), nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = zero_start(nn.Conv1d(channels, channels, 1))
        self.heads, self.new_order = heads, new_order

    def forward(self, x, emb):
        flat = x.reshape(x.shape[0], x.shape[1], -1)
        h = self.proj_out(attend(self.qkv(self.norm(flat)), self.heads, self.new_order))
        return (flat + h).reshape(x.shape)


class Down(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x, emb):
        return self.op(x)


class Up(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x, emb):
        return self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))


class First(nn.Conv2d):
    def forward(self, x, emb):
        return super().forward(x)


class Stage(nn.Sequential):
    def forward(self, x, emb):
        for layer in self:
            x = layer(x, emb)
        return x


class Pool(nn.Module):
    def __init__(self, side, channels, heads, classes, new_order):
        super().__init__()
        self.positional_embedding = nn.Parameter(torch.randn(channels, side * side + 1) / channels ** .5)
        self.qkv_proj = nn.Conv1d(channels, 3 * channels, 1)
        self.c_proj = nn.Conv1d(channels, classes, 1)
        self.heads, self.new_order = heads, new_order

    def forward(self, x):
        x = x.flatten(2)
        x = torch.cat([x.mean(dim=-1, keepdim=True), x], dim=-1) + self.positional_embedding
        return self.c_proj(attend(self.qkv_proj(x), self.heads, self.new_order))[:, :, 0]


def parent_embedding(parent, width):
    """Of a label, or of (standardised value, 1 where there is one)."""
    if "classes" in parent:
        return nn.Embedding(parent["classes"], width)
    return nn.Sequential(nn.Linear(2, width), nn.SiLU(), nn.Linear(width, width))


class Net(nn.Module):
    """UNet (`decoder` true) or encoder with the attention pool."""

    def __init__(self, c, decoder):
        super().__init__()
        width, mult = c["model_channels"], c["channel_mult"]
        emb = 4 * width
        shift, drop = c["use_scale_shift_norm"], c.get("dropout", 0.0)
        new_order = c.get("attention_order") == "new"
        places = [c["image_size"] // r for r in c["attention_resolutions"]]

        def heads(channels):
            per = c.get("num_head_channels") or -1
            return channels // per if per > 0 else c["num_heads"]

        self.width, self.velocity = width, c.get("prediction") == "v"
        self.time_embed = nn.Sequential(nn.Linear(width, emb), nn.SiLU(), nn.Linear(emb, emb))
        if c.get("parents"):
            self.parent_emb = nn.ModuleDict({p["name"]: parent_embedding(p, emb) for p in c["parents"]})
        ch = int(mult[0] * width)
        self.input_blocks = nn.ModuleList([Stage(First(c["in_channels"], ch, 3, padding=1))])
        kept, ds, side = [ch], 1, c["image_size"]
        for level, m in enumerate(mult):
            for _ in range(c["num_res_blocks"]):
                stage = [Block(ch, int(m * width), emb, shift, drop)]
                ch = int(m * width)
                if ds in places:
                    stage.append(Attention(ch, heads(ch), new_order))
                self.input_blocks.append(Stage(*stage))
                kept.append(ch)
            if level + 1 < len(mult):
                down = Block(ch, ch, emb, shift, drop, "down") if c["resblock_updown"] else Down(ch)
                self.input_blocks.append(Stage(down))
                kept.append(ch)
                ds *= 2
                side = side // 2 if c["resblock_updown"] else (side + 1) // 2
        self.middle_block = Stage(Block(ch, ch, emb, shift, drop), Attention(ch, heads(ch), new_order),
                                  Block(ch, ch, emb, shift, drop))
        if not decoder:
            pool_new = c.get("pool_attention_order", "new") == "new"
            self.out = nn.Sequential(norm(ch), nn.SiLU(),
                                     Pool(side, ch, heads(ch), c["out_channels"], pool_new))
            self.output_blocks = None
            return
        self.output_blocks = nn.ModuleList()
        for level, m in reversed(list(enumerate(mult))):
            for i in range(c["num_res_blocks"] + 1):
                stage = [Block(ch + kept.pop(), int(m * width), emb, shift, drop)]
                ch = int(m * width)
                if ds in places:
                    stage.append(Attention(ch, heads(ch), new_order))
                if level and i == c["num_res_blocks"]:
                    stage.append(Block(ch, ch, emb, shift, drop, "up") if c["resblock_updown"] else Up(ch))
                    ds //= 2
                self.output_blocks.append(Stage(*stage))
        self.out = nn.Sequential(norm(ch), nn.SiLU(),
                                 zero_start(nn.Conv2d(ch, c["out_channels"], 3, padding=1)))

    def forward(self, x, t):
        half = self.width // 2
        freq = torch.exp(-math.log(10000.0) * torch.arange(half, dtype=torch.float32) / half)
        angle = t[:, None].float() * freq[None]
        emb = self.time_embed(torch.cat([angle.cos(), angle.sin()], dim=1))
        for block in getattr(self, "parent_emb", {}).values():  # no parent is given: a label adds nothing
            if isinstance(block, nn.Sequential):
                emb = emb + block(torch.zeros(x.shape[0], 2))
        kept = []
        for stage in self.input_blocks:
            x = stage(x, emb)
            kept.append(x)
        x = self.middle_block(x, emb)
        if self.output_blocks is not None:
            for stage in self.output_blocks:
                x = stage(torch.cat([x, kept.pop()], dim=1), emb)
        return self.out(x)


# ---- the published sampler ------------------------------------------------------------------------
def alphas(schedule, steps):
    if schedule == "linear":
        beta = np.linspace(1e-4, 0.02, steps) * (1000 / steps)
    else:
        bar = lambda u: math.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2
        beta = np.array([min(1 - bar((i + 1) / steps) / bar(i / steps), 0.999) for i in range(steps)])
    return np.cumprod(1 - beta)


class Published:
    def __init__(self, score, predictor, schedule, steps, kept, ratio, dynamic):
        stride = next(i for i in range(1, steps) if len(range(0, steps, i)) == kept)
        self.t = list(range(0, steps, stride))
        self.bar = alphas(schedule, steps)[self.t]
        self.levels = int(kept * ratio)
        self.score, self.predictor, self.dynamic = score, predictor, dynamic

    def split(self, x, i):
        """x0, normalised and clamped, and the noise that belongs to it."""
        a = self.bar[i]
        t = torch.full((x.shape[0],), float(self.t[i]))
        with torch.inference_mode():
            eps = self.score(x, t)
            if self.score.velocity:
                eps = math.sqrt(a) * eps + math.sqrt(1 - a) * x
            x0 = (x - math.sqrt(1 - a) * eps) / math.sqrt(a)
            if self.dynamic:
                q = torch.quantile(x0.abs().flatten(2), 0.99, dim=2).clamp(min=1.0)[:, :, None, None]
                x0 = torch.minimum(torch.maximum(x0, -q), q) / q
            x0 = x0.clamp(-1, 1)
            return x0, (x - math.sqrt(a) * x0) / math.sqrt(1 - a)

    def up(self, x):
        for i in range(self.levels):
            x0, eps = self.split(x, i)
            b = self.bar[i + 1] if i + 1 < len(self.t) else 0.0
            x = math.sqrt(b) * x0 + math.sqrt(1 - b) * eps
        return x

    def down(self, x, target, scale):
        for i in reversed(range(self.levels)):
            a, b = self.bar[i], self.bar[i - 1] if i else 1.0
            x0, eps = self.split(x, i)
            with torch.enable_grad():
                leaf = x.clone().requires_grad_(True)  # out of inference mode
                t = torch.full((x.shape[0],), float(self.t[i]))
                logp = F.log_softmax(self.predictor(leaf, t), dim=1)
                grad = torch.autograd.grad(logp[range(len(target)), target].sum(), leaf)[0]
            eps = eps - math.sqrt(1 - a) * scale * grad
            x0 = (x - math.sqrt(1 - a) * eps) / math.sqrt(a)
            x = math.sqrt(b) * x0 + math.sqrt(1 - b) * eps
        return x


# ---- measurements ---------------------------------------------------------------------------------
def load_net(bundle, node, decoder):
    net = Net(node["config"], decoder)
    path = node["weights"]["file"] if isinstance(node["weights"], dict) else node["weights"]
    net.load_state_dict(read_safetensors(os.path.join(bundle, path)))
    return net.eval()


def load(bundle):
    """Score network, predictor of the first categorical parent, schedule."""
    manifest = json.load(open(os.path.join(bundle, "manifest.json")))
    image = next(v for v in manifest["variables"] if v["kind"] == "image")
    kinds = {v["name"]: v["kind"] for v in manifest["variables"]}
    edge = next(e for e in manifest["edges"] if kinds[e["parent"]] == "categorical")
    mechanism = image["mechanism"]
    return load_net(bundle, mechanism["network"], True), load_net(bundle, edge["predictor"], False), \
        mechanism["schedule"]


def counterfactual(args):
    score, predictor, schedule = load(args.bundle)
    for p in list(score.parameters()) + list(predictor.parameters()):
        p.requires_grad_(False)
    sampler = Published(score, predictor, args.schedule or schedule, 1000, args.steps, args.ratio,
                        args.dynamic)
    images = read_idx(args.images)[:args.count]
    targets = torch.from_numpy(read_idx(args.targets)[:args.count].astype(np.int64))
    x = torch.from_numpy(images.astype(np.float32) / 127.5 - 1)[:, None]
    sampler.score(x[:args.batch], torch.zeros(min(args.batch, len(x))))
    out, times = [], []
    for b in range(0, len(x), args.batch):
        start = time.perf_counter()
        u = sampler.up(x[b:b + args.batch])
        out.append(sampler.down(u, targets[b:b + args.batch], args.scale))
        times.append((time.perf_counter() - start) / len(out[-1]))
    seconds = sorted(times)[len(times) // 2]
    pixels = ((torch.cat(out)[:, 0] + 1) * 127.5).round().clamp(0, 255).numpy()
    write_idx(args.out, pixels)
    print(json.dumps({"what": "counterfactual", "batch": args.batch, "threads": args.threads,
                      "seconds_per_image": seconds, "torch": torch.__version__}))


def train(args):
    score, _, _ = load(args.bundle)
    score.train()
    ema = [p.detach().clone() for p in score.parameters()]
    optimizer = torch.optim.AdamW(score.parameters(), lr=1e-4)
    bar = torch.from_numpy(alphas("linear", 1000)).float()
    side = 28
    rates = []
    for _ in range(args.count):
        start = time.perf_counter()
        x0 = torch.rand(args.batch, 1, side, side) * 2 - 1
        t = torch.randint(0, 1000, (args.batch,))
        noise = torch.randn_like(x0)
        a = bar[t][:, None, None, None]
        loss = ((score(a.sqrt() * x0 + (1 - a).sqrt() * noise, t) - noise) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            for e, p in zip(ema, score.parameters()):
                e.mul_(0.9999).add_(p, alpha=1e-4)
        rates.append(args.batch / (time.perf_counter() - start))
    print(json.dumps({"what": "train", "batch": args.batch, "threads": args.threads,
                      "samples_per_second": sorted(rates)[len(rates) // 2], "torch": torch.__version__}))


def seconds_of(run, count):
    run()
    times = []
    for _ in range(count):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return sorted(times)[len(times) // 2]


def onnx_session(net, x, t, threads):
    """The network exported to ONNX (opset 17), by ONNX Runtime; None where that is not installed."""
    try:
        import onnxruntime
    except ImportError:
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "net.onnx")
        torch.onnx.export(net, (x, t), path, input_names=["x", "t"], output_names=["out"], opset_version=17)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def forward(args):
    """One pass of the score network: seconds by PyTorch and by ONNX Runtime, and how far these are apart."""
    score, _, _ = load(args.bundle)
    side = read_side(args.bundle)
    x, t = torch.randn(args.batch, *side), torch.full((args.batch,), 500.0)
    found = {"what": "forward", "batch": args.batch, "threads": args.threads, "torch": torch.__version__}
    with torch.inference_mode():
        found["seconds"] = seconds_of(lambda: score(x, t), args.count)
        plain = score(x, t).numpy()
    with torch.no_grad():
        session = onnx_session(score, x.clone(), t.clone(), args.threads)
    if session:
        import onnxruntime
        feed = {"x": x.numpy(), "t": t.numpy()}
        feed = {i.name: feed[i.name] for i in session.get_inputs()}
        found["onnxruntime"] = onnxruntime.__version__
        found["onnx_seconds"] = seconds_of(lambda: session.run(None, feed), args.count)
        found["apart"] = float(np.abs(session.run(None, feed)[0] - plain).max())
    print(json.dumps(found))


def read_side(bundle):
    manifest = json.load(open(os.path.join(bundle, "manifest.json")))
    image = next(v for v in manifest["variables"] if v["kind"] == "image")
    return image["channels"], image["height"], image["width"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["counterfactual", "forward", "train"])
    parser.add_argument("bundle")
    parser.add_argument("files", nargs="*", help="IMAGES TARGETS OUT (IDX)")
    parser.add_argument("--count", type=int, default=4)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--ratio", type=float, default=0.75)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--schedule", choices=["linear", "cosine"])
    parser.add_argument("--no-dynamic", dest="dynamic", action="store_false")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    if args.what == "train":
        return train(args)
    if args.what == "forward":
        return forward(args)
    if len(args.files) != 3:
        parser.error("counterfactual needs IMAGES TARGETS OUT")
    args.images, args.targets, args.out = args.files
    return counterfactual(args)


if __name__ == "__main__":
    sys.exit(main())
