"""Draw the diagrams of docs/how-it-works.md: python docs/images/diagrams.py writes the .svg files beside it."""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape
from pathlib import Path

_STYLE = """\
text { font: 14px system-ui, sans-serif; fill: #1d2733 }
.small { font-size: 12px; fill: #51606f }
.mono { font: 12px ui-monospace, monospace; fill: #1d2733 }
.title { font-weight: 600 }
rect.page { fill: #ffffff }
rect.box { fill: #f3f6fa; stroke: #b8c4d2 }
rect.ours { fill: #e6f0ff; stroke: #6f9be8 }
rect.store { fill: #fff5e0; stroke: #e0b964 }
line { stroke: #51606f; stroke-width: 1.4 }
"""
_LINE = 17  # from one line of text to the next, in pixels


@dataclass
class Drawing:
    """An SVG of boxes and arrows; pixels, from the top left."""

    width: int
    height: int
    title: str
    parts: list[str] = field(default_factory=list)

    def box(self, x: int, y: int, width: int, title: str, *lines: str, kind: str = "box") -> int:
        """A box with a title and small lines; its height."""
        height = 32 + _LINE * len(lines)
        self.parts.append(f'<rect class="{kind}" x="{x}" y="{y}" width="{width}" height="{height}" rx="7"/>')
        self.text(x + width // 2, y + 21, title, "title", "middle")
        for i, line in enumerate(lines):
            self.text(x + width // 2, y + 39 + _LINE * i, line, "small", "middle")
        return height

    def text(self, x: int, y: int, text: str, kind: str = "small", anchor: str = "start") -> None:
        """One line of text, its baseline at y."""
        self.parts.append(f'<text class="{kind}" x="{x}" y="{y}" text-anchor="{anchor}">{escape(text)}</text>')

    def rule(self, x1: int, y: int, x2: int) -> None:
        """A line from left to right."""
        self.parts.append(f'<line x1="{x1}" y1="{y}" x2="{x2}" y2="{y}" stroke="#b8c4d2"/>')

    def arrow(self, x1: int, y1: int, x2: int, y2: int, label: str = "") -> None:
        """An arrow, with words beside its middle."""
        self.parts.append(f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" marker-end="url(#head)"/>')
        if label:
            beside = x1 == x2
            self.text((x1 + x2) // 2 + (8 if beside else 0), (y1 + y2) // 2 + (4 if beside else -7), label,
                      anchor="start" if beside else "middle")  # fmt: skip

    def svg(self) -> str:
        """The file's text."""
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" role="img">\n'
            f"<title>{escape(self.title)}</title>\n<style>{_STYLE}</style>\n"
            '<defs><marker id="head" markerWidth="9" markerHeight="9" refX="8" refY="4" orient="auto">'
            '<path d="M0,0 L8,4 L0,8 z" fill="#51606f"/></marker></defs>\n'
            f'<rect class="page" width="{self.width}" height="{self.height}" rx="10"/>\n'
        )
        return head + "\n".join(self.parts) + "\n</svg>\n"


def way_of_a_text() -> Drawing:
    """From texts to vectors."""
    d = Drawing(900, 330, "The way of a text through the engine")
    steps = [
        ("tokenize", "prompt + text", "ids, cut at the limit"),
        ("plan", "lengths, a token budget", "groups of texts"),
        ("execute", "ids (T,), offsets (B+1,)", "hidden states (T, H)"),
        ("pool", "cls, mean, last, ...", "Dense, LayerNorm"),
        ("normalize", "truncate_dim, precision", "vectors (N, D)"),
    ]
    for i, (title, first, second) in enumerate(steps):
        x = 16 + 176 * i
        d.box(x, 60, 158, title, first, second, kind="ours")
        if i < len(steps) - 1:
            d.arrow(x + 158, 93, x + 175, 93)
    d.text(16, 36, "texts of any length, in the caller's order", "title")
    d.text(884, 36, "vectors, in the same order", "title", "end")
    d.arrow(445, 128, 330, 196)
    d.arrow(460, 128, 580, 196)
    d.box(190, 198, 250, "native executor", "int8, bf16; our kernels, no padding", "maps and packs the weights")
    d.box(470, 198, 250, "ONNX Runtime executor", "every variant, CPU and CUDA", "pads groups of equal length")
    d.text(450, 300, "one seam: token ids in, hidden states out; nothing before or behind it knows which one runs",
           anchor="middle")  # fmt: skip
    return d


def bundle() -> Drawing:
    """What export writes, from what, and who reads it."""
    d = Drawing(900, 400, "What a bundle is made of")
    d.box(16, 130, 180, "a model", "sentence-transformers", "or Hugging Face directory", "or a name on the hub")
    d.arrow(196, 171, 222, 171)
    d.box(224, 96, 190, "embedrt export", "refuses what it cannot", "reproduce, before any work", "writes the graphs",
          "quantizes, calibrated", "compares with PyTorch", "writes only what passed", kind="ours")  # fmt: skip
    d.arrow(414, 171, 440, 171)
    d.parts.append('<rect class="store" x="442" y="20" width="284" height="350" rx="7"/>')
    d.text(584, 44, "the bundle, a directory", "title", "middle")
    rows = [
        "manifest.json", "  sizes, sha256, the encoder's", "  numbers, where each weight lies", "tokenizer.json",
        "pipeline/ *.npz", "fp32/     model.onnx, weights.bin", "fp16/     model.onnx, weights.bin",
        "          model_cuda.onnx", "int8/     model.onnx, weights.bin", "parity/   texts.json, vectors.npy",
        "          report.json, report.html",
    ]  # fmt: skip
    for i, row in enumerate(rows):
        d.parts.append(f'<text class="mono" x="456" y="{76 + 26 * i}" xml:space="preserve">{escape(row)}</text>')
    for y, title, line in ((60, "the engine", "runs it"), (160, "embedrt verify", "compares again"),
                           (260, "ONNX Runtime", "runs its graphs")):  # fmt: skip
        d.box(754, y, 134, title, line)
        d.arrow(726, y + 25, 753, y + 25)
    return d


def request() -> Drawing:
    """The life of a request in the server."""
    d = Drawing(900, 380, "The life of a request")
    steps = [
        ("limits", "header, body, connections", "before any key is read"),
        ("key", "who is it, may it", "rates and shares"),
        ("parse", "types and places", "OpenAI, TEI"),
        ("budget", "texts, tokens,", "bytes of the answer"),
    ]
    for i, (title, first, second) in enumerate(steps):
        x = 16 + 200 * i
        d.box(x, 30, 176, title, first, second)
        if i < len(steps) - 1:
            d.arrow(x + 176, 63, x + 199, 63)
    d.arrow(792, 63, 840, 63)
    d.arrow(840, 63, 840, 150)
    d.text(750, 120, "413, 422, 429 with the limit's name", anchor="end")
    d.box(596, 152, 290, "two queues: interactive and bulk", "order: arrival plus estimated work", "a fixed share for bulk",
          kind="ours")  # fmt: skip
    d.arrow(596, 185, 546, 185)
    d.box(310, 152, 234, "worker", "takes a batch whenever it is free", "never waits for more", kind="ours")
    d.arrow(310, 185, 246, 185)
    d.box(16, 152, 228, "the library's own engine", "the same vectors, bit for bit", "deadline passed: dropped")
    d.arrow(130, 218, 130, 272)
    d.box(16, 274, 310, "answer", "JSON or base64, streamed in pieces", "metrics, trace, log: names, never keys")
    return d


def row_of_int8() -> Drawing:
    """How a row is quantized and multiplied."""
    d = Drawing(900, 400, "Quantization of a row")
    d.text(16, 34, "one token's row, float32 (K,)", "title")
    values = [0.42, -1.90, 0.07, 0.88, -0.31, 1.27]
    codes = [round(v / (1.9 / 127)) for v in values]
    for i, (value, code) in enumerate(zip(values, codes, strict=True)):
        x = 16 + 92 * i
        d.parts.append(f'<rect class="box" x="{x}" y="48" width="84" height="34" rx="5"/>')
        d.text(x + 42, 70, f"{value:+.2f}", "mono", "middle")
        d.parts.append(f'<rect class="ours" x="{x}" y="150" width="84" height="34" rx="5"/>')
        d.text(x + 42, 172, f"{code:+d}", "mono", "middle")
    d.arrow(280, 84, 280, 146, "divided by r = largest / 127 of this row, rounded")
    d.text(16, 140, "8 bits", "title")
    d.arrow(280, 186, 280, 240, "times int8 weights (K, N), summed exactly in 32 bits")
    d.box(16, 242, 560, "y = r * scale of the column * sum + bias", "float32, as norms, softmax and the residual are",
          kind="ours")  # fmt: skip
    d.box(620, 48, 264, "before that, at export:", "shift and scale of each channel are", "folded into norm and weights,",
          "so that rows have no far peaks", "(SmoothQuant)", kind="store")  # fmt: skip
    d.box(620, 180, 264, "what stays wider:", "outlying neurons of the FFN: float32", "V of the first token: two rows",
          "products that miss a gate: float32", kind="store")  # fmt: skip
    d.text(16, 330, "Sums of integers are exact, and each row has its own scale: the same bits alone, in any batch, on any threads.")
    return d


DIAGRAMS = {"way-of-a-text": way_of_a_text, "bundle": bundle, "request": request, "int8-row": row_of_int8}

if __name__ == "__main__":
    for name, draw in DIAGRAMS.items():
        Path(__file__).with_name(f"{name}.svg").write_text(draw().svg(), encoding="utf-8")
