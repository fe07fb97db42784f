"""What a class is made with: an unknown keyword is refused with the nearest one, or with what does the same here."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar, cast

from embedrt.errors import OptionError
from embedrt.options import nearest_of

F = TypeVar("F", bound=Callable[..., Any])

_CALL = "it goes with a call, encode(..., {name}=...)"
_NAME = "the bundle's directory or name is the first argument"
_RUNS = "variant= says what is computed in, executor= what computes"
_CODE = "a bundle holds no code; 'embedrt export --trust-remote-code' is where a model's runs"
_ELSEWHERE = {
    "model_name_or_path": _NAME,
    "model_name": _NAME,
    "model_path": _NAME,
    "model": _NAME,
    "path": _NAME,
    "max_seq_length": "max_tokens= is the limit",
    "max_length": "max_tokens= is the limit",
    "trust_remote_code": _CODE,
    "backend": _RUNS,
    "providers": _RUNS,
    "model_file_name": _RUNS,
    "torch_dtype": _RUNS,
    "dtype": _RUNS,
    "quantize": _RUNS,
    "model_kwargs": _RUNS,
    "tokenizer_kwargs": "the tokenizer is the bundle's; max_tokens= sets its limit",
    "config_kwargs": "the bundle says what the model is, and 'embedrt export' made it",
    "processor_kwargs": "the tokenizer is the bundle's; max_tokens= sets its limit",
    "modules": "the bundle says what the model is, and 'embedrt export' made it",
    "cache_folder": "the variable EMBEDRT_HOME says where bundles are kept",
    "cache_dir": "the variable EMBEDRT_HOME says where bundles are kept",
    "revision": "a name may have one, OWNER/NAME@REVISION",
    "token": "the hub's client reads the variable HF_TOKEN",
    "use_auth_token": "the hub's client reads the variable HF_TOKEN",
    "local_files_only": "the variable HF_HUB_OFFLINE=1 keeps the hub's client from the network",
    "similarity_fn_name": "the bundle says it; embedrt.util has every similarity",
    "prompt": "prompts= gives several with names, and a call takes prompt=",
    **dict.fromkeys(("batch_size", "normalize_embeddings", "precision", "prompt_name", "show_progress_bar"), _CALL),
}
"""Keywords of sentence-transformers and its kin -> what does it here."""


def told_keywords(method: F) -> F:
    """A method that raises OptionError for keywords that it does not have; to type checkers it is the method itself."""
    known = [name for name in inspect.signature(method).parameters if name != "self"]

    @functools.wraps(method)
    def checked(self: Any, *args: Any, **given: Any) -> Any:
        for name in given:
            if name not in known:
                advice = _ELSEWHERE[name].format(name=name) if name in _ELSEWHERE else nearest_of(name, known)
                raise OptionError(f"{type(self).__name__} has no option {name!r}; {advice}")
        return method(self, *args, **given)

    return cast(F, checked)
