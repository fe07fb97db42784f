"""Which prompt goes before a text. Pure: the bundle's prompts and the caller's wishes in, one string out."""

from __future__ import annotations

from embedrt.errors import OptionError
from embedrt.manifest import Prompts

_TASK = "{task}"
_DOCUMENT_NAMES = ("document", "passage", "corpus")


def choose_prompt(prompts: Prompts, prompt_name: str | None, prompt: str | None) -> str:
    """The prompt for `encode`: `prompt` itself, else the one called `prompt_name`, else the default, else "".

    Raises:
        OptionError: no prompt has that name, or its task is open.
    """
    if prompt is not None:
        return prompt
    name = prompt_name if prompt_name is not None else prompts.default_name
    if name is None:
        return ""
    try:
        chosen = prompts.texts[name]
    except KeyError:
        have = ", ".join(prompts.texts) or "none"
        raise OptionError(f"there is no prompt {name!r}; this bundle has: {have}") from None
    return fill_task(chosen, None, prompts.default_task)


def query_prompt(prompts: Prompts, prompt_name: str | None, prompt: str | None, task: str | None) -> str:
    """The prompt for a query: as `choose_prompt`, but "query" by default, and `{task}` filled with `task`."""
    if prompt is None:
        name = prompt_name if prompt_name is not None else ("query" if "query" in prompts.texts else None)
        if name in prompts.texts:
            return fill_task(prompts.texts[name], task, prompts.default_task)
        prompt = choose_prompt(prompts, name, None)
    return fill_task(prompt, task, None) if task is not None or prompt_name is not None else prompt


def document_prompt(prompts: Prompts, prompt_name: str | None, prompt: str | None) -> str:
    """The prompt for a document: as `choose_prompt`, but the first of document, passage, corpus by default."""
    if prompt is None and prompt_name is None:
        prompt_name = next((name for name in _DOCUMENT_NAMES if name in prompts.texts), None)
    return choose_prompt(prompts, prompt_name, prompt)


def fill_task(prompt: str, task: str | None, default_task: str | None) -> str:
    """`prompt` with `{task}` replaced; by plain replacement, so that other braces stay as they are."""
    if _TASK not in prompt:
        if task is not None:
            raise OptionError(f"task={task!r} was given, but the prompt {prompt!r} has no {_TASK} to fill")
        return prompt
    task = task if task is not None else default_task
    if task is None:
        raise OptionError(f"the prompt {prompt!r} needs a task: encode_query(..., task='...')")
    return prompt.replace(_TASK, task)
