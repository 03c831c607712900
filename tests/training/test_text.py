"""From messages to token ids with the chat templates that are out there."""

from typing import Any

import pytest
import torch

from g2is_assets.training.text import IGNORED, Example, Template, collator

QUESTION = [{"role": "user", "content": "Hi there"}]
DIALOGUE = [*QUESTION, {"role": "assistant", "content": "Yes?"}, {"role": "user", "content": "Bye"}]
OWN_SYSTEM = [{"role": "system", "content": "Be brief."}, *QUESTION]

DEFAULT_SYSTEM = (
    "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are helpful.<|im_end|>\n' }}{% endif %}"
)
LLAMA3 = (
    "{{ bos_token }}{% if messages[0]['role'] != 'system' %}{{ '<|header|>system<|header|>\n\nCutting date.<|eot|>' }}"
    "{% endif %}{% for m in messages %}"
    "{{ '<|header|>' + m['role'] + '<|header|>\n\n' + m['content'] | trim + '<|eot|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|header|>assistant<|header|>\n\n' }}{% endif %}"
)
INSTRUCT = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}"
    "{% else %}{{ ' ' + m['content'] + eos_token }}{% endif %}{% endfor %}"
)


def template(tools: Any, chat_template: str | None, max_length: int = 512, **options: Any) -> Template:
    tokens = {"bos_token": options.pop("bos_token")} if "bos_token" in options else {}
    return Template(tools.tokenizer(chat_template, **tokens), max_length, **options)


def test_chatml_is_rendered_as_the_template_says(tools: Any):
    prompt, completion = template(tools, tools.chatml).render(QUESTION, "Hello!")
    assert prompt == "<|im_start|>user\nHi there<|im_end|>\n<|im_start|>assistant\n"
    assert completion == "Hello!<|im_end|>"


def test_the_default_system_message_of_a_template_is_taken_out(tools: Any):
    plain, default = template(tools, tools.chatml), template(tools, DEFAULT_SYSTEM + tools.chatml)
    assert "You are helpful." in default.tokenizer.apply_chat_template(QUESTION, tokenize=False)
    for messages in (QUESTION, DIALOGUE):
        assert default.render(messages, "Hello!") == plain.render(messages, "Hello!")


def test_the_system_setting_replaces_the_default(tools: Any):
    prompt, _ = template(tools, DEFAULT_SYSTEM + tools.chatml, system="Answer in verse.").render(QUESTION, "Hello!")
    assert prompt.startswith("<|im_start|>system\nAnswer in verse.<|im_end|>\n<|im_start|>user\nHi there")
    assert "You are helpful." not in prompt


@pytest.mark.parametrize("system", [None, "Answer in verse."])
def test_a_system_message_of_the_row_wins(tools: Any, system: str | None):
    prompt, _ = template(tools, DEFAULT_SYSTEM + tools.chatml, system=system).render(OWN_SYSTEM, "Hello!")
    assert prompt.startswith("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi there")
    assert "verse" not in prompt


def test_a_row_whose_system_message_is_the_default_keeps_it(tools: Any):
    messages = [{"role": "system", "content": "You are helpful."}, *QUESTION]
    prompt, _ = template(tools, DEFAULT_SYSTEM + tools.chatml).render(messages, "Hello!")
    assert prompt.startswith("<|im_start|>system\nYou are helpful.<|im_end|>\n")


def test_the_start_token_before_a_default_system_message_stays(tools: Any):
    llama = template(tools, LLAMA3, bos_token="<|bos|>")
    prompt, completion = llama.render(QUESTION, "Hello!")
    assert prompt == "<|bos|><|header|>user<|header|>\n\nHi there<|eot|><|header|>assistant<|header|>\n\n"
    assert completion == "Hello!<|eot|>"
    assert llama.render(OWN_SYSTEM, "Hello!")[0].startswith("<|bos|><|header|>system<|header|>\n\nBe brief.<|eot|>")
    assert llama.encode("a", QUESTION, "Hello!").input_ids.count(llama.tokenizer.bos_token_id) == 1


def test_a_template_without_a_default_system_message_is_left_alone(tools: Any):
    prompt, completion = template(tools, INSTRUCT, bos_token="<|bos|>").render(DIALOGUE, "Bye!")
    assert prompt == "<|bos|>[INST] Hi there [/INST] Yes?<|im_end|>[INST] Bye [/INST]"
    assert completion == " Bye!<|im_end|>"


def test_without_a_chat_template_the_text_of_the_messages_is_the_prompt(tools: Any):
    plain = template(tools, None)
    assert plain.render(QUESTION, "Hello!") == ("Hi there\n", "Hello!<|im_end|>")
    assert plain.render(OWN_SYSTEM, "Hello!") == ("Be brief.\nHi there\n", "Hello!<|im_end|>")
    with_start = template(tools, None, system="Be kind.", bos_token="<|bos|>")
    assert with_start.render(QUESTION, "Hello!")[0] == "<|bos|>Be kind.\nHi there\n"


@pytest.mark.parametrize("chat_template", [None, "chatml", DEFAULT_SYSTEM, LLAMA3, INSTRUCT])
@pytest.mark.parametrize("messages", [QUESTION, DIALOGUE], ids=["question", "dialogue"])
def test_the_ids_decode_to_the_rendered_text(tools: Any, chat_template: str | None, messages: list[dict[str, str]]):
    chosen = chat_template and chat_template.replace("chatml", tools.chatml).replace(
        DEFAULT_SYSTEM, DEFAULT_SYSTEM + tools.chatml
    )
    made = template(tools, chosen, bos_token="<|bos|>")
    prompt, completion = made.render(messages, "Zwölf  Äpfel,\n\tdanke ✓")
    example = made.encode("a", messages, "Zwölf  Äpfel,\n\tdanke ✓")
    assert example is not None
    assert made.tokenizer.decode(example.input_ids[: example.n_prompt]) == prompt
    assert made.tokenizer.decode(example.input_ids) == prompt + completion
    assert made.token_counts(messages, "Zwölf  Äpfel,\n\tdanke ✓") == (
        example.n_prompt,
        example.n_tokens - example.n_prompt,
    )


@pytest.mark.parametrize(("chat_template", "end"), [(None, "<|im_end|>"), (LLAMA3, "<|eot|>")])
def test_the_response_ends_with_the_end_token_and_it_carries_loss(tools: Any, chat_template: str | None, end: str):
    made = template(tools, chat_template, bos_token="<|bos|>")
    example = made.encode("a", QUESTION, "Hello!")
    assert example is not None
    assert example.input_ids[-1] == example.features()["labels"][-1] == made.tokenizer.convert_tokens_to_ids(end)


def test_a_row_longer_than_max_length_loses_the_end_of_its_response(tools: Any):
    whole = template(tools, tools.chatml).encode("a", QUESTION, "Hello, you there!")
    assert whole is not None
    cut = template(tools, tools.chatml, max_length=whole.n_prompt + 5).encode("a", QUESTION, "Hello, you there!")
    assert cut is not None
    assert cut.input_ids == whole.input_ids[: whole.n_prompt + 5]
    assert cut.n_prompt == whole.n_prompt
    assert template(tools, tools.chatml, max_length=whole.n_tokens).encode("a", QUESTION, "Hello, you there!") == whole


@pytest.mark.parametrize(("spare", "left"), [(1, 1), (0, None), (-3, None)])
def test_a_row_without_any_response_token_left_is_none(tools: Any, spare: int, left: int | None):
    n_prompt, _ = template(tools, tools.chatml).token_counts(QUESTION, "Hello!")
    example = template(tools, tools.chatml, max_length=n_prompt + spare).encode("a", QUESTION, "Hello!")
    assert (example and example.n_tokens - example.n_prompt) == left


def test_labels_mask_the_prompt_and_repeat_the_response():
    features = Example("a", [5, 6, 7, 8], n_prompt=3).features()
    assert features == {
        "input_ids": [5, 6, 7, 8],
        "attention_mask": [1, 1, 1, 1],
        "labels": [IGNORED, IGNORED, IGNORED, 8],
    }


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_batch_is_padded_to_its_longest_row_on_the_tokenizers_side(tools: Any, side: str):
    tokenizer = tools.tokenizer(padding_side=side)
    batch = collator(tokenizer)([Example("a", [5, 6, 7], 2).features(), Example("b", [8, 9], 1).features()])
    pad = tokenizer.pad_token_id
    short = {"input_ids": [8, 9, pad], "attention_mask": [1, 1, 0], "labels": [IGNORED, 9, IGNORED]}
    if side == "left":
        short = {"input_ids": [pad, 8, 9], "attention_mask": [0, 1, 1], "labels": [IGNORED, IGNORED, 9]}
    assert {key: batch[key][1].tolist() for key in short} == short
    assert batch["input_ids"][0].tolist() == [5, 6, 7]
    assert all(values.dtype == torch.int64 for values in batch.values())


def test_the_digest_changes_with_whatever_changes_the_ids(tools: Any):
    digests = {
        template(tools, tools.chatml).digest,
        template(tools, tools.chatml, max_length=100).digest,
        template(tools, tools.chatml, system="Be kind.").digest,
        template(tools, None).digest,
    }
    assert len(digests) == 4
    assert template(tools, None).digest in digests
