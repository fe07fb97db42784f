from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from embedrt.errors import OptionError
from embedrt.manifest import Prompts
from embedrt.prompting import choose_prompt, document_prompt, fill_task, query_prompt

NONE = Prompts({}, None, None, "model")
E5 = Prompts({"query": "query: ", "passage": "passage: "}, None, None, "embedrt table: E5")
INSTRUCT = Prompts(
    {"query": "Instruct: {task}\nQuery: "}, None, "Retrieve relevant passages", "embedrt table: E5-instruct"
)
NO_DEFAULT_TASK = Prompts({"query": "Instruct: {task}\nQuery: "}, None, None, "model")
DEFAULTED = Prompts({"sts": "sts: ", "query": "q: "}, "sts", None, "model")


@pytest.mark.parametrize(
    ("prompts", "prompt_name", "prompt", "expected"),
    [
        (NONE, None, None, ""),
        (NONE, None, "free: ", "free: "),
        (NONE, None, "", ""),
        (E5, None, None, ""),  # encode() adds nothing unless the model has a default
        (E5, "query", None, "query: "),
        (E5, "query", "free: ", "free: "),  # prompt wins over prompt_name
        (DEFAULTED, None, None, "sts: "),
        (DEFAULTED, "query", None, "q: "),
        (DEFAULTED, None, "", ""),  # an empty prompt switches the default off
        (INSTRUCT, "query", None, "Instruct: Retrieve relevant passages\nQuery: "),
    ],
)
def test_encode(prompts: Prompts, prompt_name: str | None, prompt: str | None, expected: str) -> None:
    assert choose_prompt(prompts, prompt_name, prompt) == expected


@pytest.mark.parametrize(
    ("prompts", "prompt_name", "prompt", "task", "expected"),
    [
        (NONE, None, None, None, ""),
        (E5, None, None, None, "query: "),
        (E5, "passage", None, None, "passage: "),
        (E5, None, "free: ", None, "free: "),
        (DEFAULTED, None, None, None, "q: "),  # "query" comes before the model's default
        (INSTRUCT, None, None, None, "Instruct: Retrieve relevant passages\nQuery: "),
        (INSTRUCT, None, None, "Find duplicates", "Instruct: Find duplicates\nQuery: "),
        (NO_DEFAULT_TASK, None, None, "Find duplicates", "Instruct: Find duplicates\nQuery: "),
        (NONE, None, "Task: {task}. ", "Find", "Task: Find. "),
        (NONE, None, "braces {task} stay ", None, "braces {task} stay "),
    ],
)
def test_query(prompts: Prompts, prompt_name: str | None, prompt: str | None, task: str | None, expected: str) -> None:
    assert query_prompt(prompts, prompt_name, prompt, task) == expected


@pytest.mark.parametrize(
    ("prompts", "prompt_name", "prompt", "expected"),
    [
        (NONE, None, None, ""),
        (E5, None, None, "passage: "),
        (INSTRUCT, None, None, ""),  # instruct models leave documents alone
        (DEFAULTED, None, None, "sts: "),
        (E5, "query", None, "query: "),
        (E5, None, "free: ", "free: "),
        (Prompts({"corpus": "c ", "passage": "p ", "document": "d "}, None, None, "m"), None, None, "d "),
        (Prompts({"corpus": "c ", "passage": "p "}, None, None, "m"), None, None, "p "),
        (Prompts({"corpus": "c "}, None, None, "m"), None, None, "c "),
    ],
)
def test_document(prompts: Prompts, prompt_name: str | None, prompt: str | None, expected: str) -> None:
    assert document_prompt(prompts, prompt_name, prompt) == expected


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: choose_prompt(E5, "sts", None), "there is no prompt 'sts'; this bundle has: query, passage"),
        (lambda: choose_prompt(NONE, "sts", None), "this bundle has: none"),
        (lambda: query_prompt(E5, "sts", None, None), "there is no prompt 'sts'"),
        (lambda: document_prompt(E5, "sts", None), "there is no prompt 'sts'"),
        (lambda: query_prompt(NO_DEFAULT_TASK, None, None, None), "needs a task: encode_query(..., task='...')"),
        (lambda: choose_prompt(NO_DEFAULT_TASK, "query", None), "needs a task"),
        (lambda: query_prompt(E5, None, None, "Find"), "task='Find' was given, but the prompt 'query: ' has no {task}"),
        (lambda: query_prompt(NONE, None, None, "Find"), "has no {task} to fill"),
        (lambda: query_prompt(NONE, None, "free: ", "Find"), "has no {task} to fill"),
    ],
)
def test_errors_say_what_there_is(call: Callable[[], str], message: str) -> None:
    with pytest.raises(OptionError, match=re.escape(message)):
        call()


def test_filling_leaves_other_braces_and_the_task_itself_alone() -> None:
    assert fill_task("{a} {task} {0}", "{task} {b}", None) == "{a} {task} {b} {0}"
