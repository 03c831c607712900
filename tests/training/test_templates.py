"""A zoo of chat templates: ids as template and tokenizer write them together, and loss on the answers alone."""

from datetime import date
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, normalizers, pre_tokenizers, processors, trainers
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

from g2is_assets.errors import ModelError
from g2is_assets.training.rendering import RefusedRow
from g2is_assets.training.text import IGNORED, Template
from support.models import byte_tokenizer
from support.templates import CALL as WRITTEN_CALL
from support.templates import FAMILIES, Family

DAY = date(2024, 2, 29)
ASKED = {"role": "user", "content": "How many legs has a spider?"}
SAID = {"role": "assistant", "content": "Eight."}
SYSTEM = {"role": "system", "content": "Be brief."}
TWO = [ASKED, SAID, {"role": "user", "content": "And an ant?"}, {"role": "assistant", "content": "Six."}]
THOUGHT = [ASKED, {**SAID, "reasoning_content": "Eight legs."}]
CALL = {"type": "function", "function": {"name": "clock", "arguments": '{"city": "Oslo"}'}}
CALLED = [ASKED, {"role": "assistant", "content": "", "tool_calls": [CALL]}]
RESULT = [*CALLED, {"role": "tool", "content": "noon"}, {"role": "assistant", "content": "Noon."}]
TOOLS = [{"type": "function", "function": {"name": "clock"}}]


def sentencepiece_tokenizer(special: dict[str, Any], first: bool) -> Any:
    """As Llama 2 and Mistral have them: a space is a sign of its own, and one is put before a text or a first word."""
    raw = Tokenizer(BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    if first:
        raw.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=False)
    else:
        raw.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    raw.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    every = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    alphabet = [*map(chr, range(33, 127)), "▁", "\n"]
    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=every, initial_alphabet=alphabet, show_progress=False)
    raw.train_from_iterator(["▁How▁many▁legs▁has▁a▁spider?", "▁Eight.", "Six", "\nEight", "▁assistant\n"] * 9, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=raw, unk_token="<unk>", **special)


def tokens(family: Family) -> dict[str, Any]:
    named = {"eos_token": family.eos, "pad_token": "<pad>", "additional_special_tokens": list(family.special)}
    return named | ({"bos_token": family.bos} if family.bos else {})


def template_of(family: Family, kind: str = "bytes", **options: Any) -> Template:
    tokenizer = (
        byte_tokenizer(**tokens(family))
        if kind == "bytes"
        else sentencepiece_tokenizer(tokens(family), kind == "first")
    )
    tokenizer.chat_template = family.chat
    return Template(tokenizer, 4096, day=DAY, **options)


def own_row(template: Template, family: Family, turns: list[Any], tools: list[Any]) -> list[int]:
    """What transformers makes of the row, with the fixed day, up to the end of its last turn."""
    chat = family.chat.replace("strftime_now", "today")
    for form in ("%d %b %Y", "%B %d, %Y", "%Y-%m-%d"):
        chat = chat.replace(f"today('{form}')", f"'{DAY.strftime(form)}'")
    given = {"type": "function", "function": {"name": "clock", "arguments": {"city": "Oslo"}}}
    said = [turn | ({"tool_calls": [given]} if "tool_calls" in turn else {}) for turn in turns]
    if "part.text" in chat:
        said = [{**turn, "content": [{"type": "text", "text": turn["content"]}]} for turn in turns]
    text = template.tokenizer.apply_chat_template(said, tools=tools or None, tokenize=False, chat_template=chat)
    text = text.rstrip() + (family.eos if not text.rstrip().endswith(family.end) else "")
    default = template.tokenizer.apply_chat_template([ASKED], tokenize=False, chat_template=chat).partition(
        template.render([ASKED, SAID]).prompt.removeprefix(family.bos or "").partition(ASKED["content"])[0]
    )[0]
    if turns[0]["role"] != "system" and not tools and default:
        text = (family.bos or "") + text.removeprefix(default)
    return list(template.tokenizer(text, add_special_tokens=False)["input_ids"])


def loss_of(template: Template, turns: list[Any], tools: list[Any] = ()) -> list[str]:  # type: ignore[assignment]
    """The stretches of text that carry loss."""
    example = template.encode("r", turns, tools)
    found: list[list[int]] = [[]]
    for label in example.labels:
        if label == IGNORED and found[-1]:
            found.append([])
        elif label != IGNORED:
            found[-1].append(label)
    return [template.tokenizer.decode(ids) for ids in found if ids]


@pytest.mark.parametrize("kind", ["bytes", "first", "every"])
@pytest.mark.parametrize("turns", [[ASKED, SAID], [SYSTEM, ASKED, SAID], TWO], ids=["one", "system", "two"])
@pytest.mark.parametrize("name", FAMILIES)
def test_ids_are_those_that_template_and_tokenizer_write_together(name: str, turns: list[Any], kind: str) -> None:
    family = FAMILIES[name]
    template = template_of(family, kind)
    if turns[0] is SYSTEM and "system" in family.refuses:
        with pytest.raises(RefusedRow, match="refuses the roles system, user, assistant: no system role"):
            template.render(turns)
        return
    assert template.encode("r", turns).input_ids == own_row(template, family, turns, [])


@pytest.mark.parametrize("name", FAMILIES)
def test_the_answers_alone_carry_loss_each_with_the_end_of_its_turn(name: str) -> None:
    family = FAMILIES[name]
    between = family.end if family.between is None else family.between
    assert loss_of(template_of(family), TWO) == [f"Eight.{between}", f"Six.{family.end}"]
    assert loss_of(template_of(family, turns="last"), TWO) == [f"Six.{family.end}"]
    row = template_of(family).render([ASKED, SAID])
    assert row.prompt.endswith(family.before)
    assert row.completion == f"Eight.{family.end}"
    assert (row.lost, row.n_thoughts) == ((), 0)


@pytest.mark.parametrize("name", FAMILIES)
def test_what_follows_an_end_of_turn_can_be_kept_and_carries_loss_then(name: str) -> None:
    family = FAMILIES[name]
    chosen, dropped = template_of(family, after_turn="keep"), template_of(family)
    whole = chosen.tokenizer.apply_chat_template(TWO, tokenize=False, chat_template=dropped._chat)
    end = whole[len(whole.rstrip()) :] if whole.rstrip().endswith(family.end) else ""
    assert chosen.render(TWO).text == dropped.render(TWO).text + end
    first, last = loss_of(dropped, TWO)
    assert loss_of(chosen, TWO) == [first + ("\n" if name == "phi" else end), last + end]
    assert loss_of(template_of(family, turns="last", after_turn="keep"), TWO) == [f"Six.{family.end}{end}"]


@pytest.mark.parametrize("name", FAMILIES)
def test_reasoning_is_kept_where_the_template_keeps_it_and_its_loss_is_said(name: str) -> None:
    family = FAMILIES[name]
    row = template_of(family).render(THOUGHT)
    assert row.completion == f"{family.thought}Eight.{family.end}"
    kept = "reasoning" in family.knows
    assert (row.n_thoughts, row.lost) == ((1, ()) if kept else (0, ("reasoning",)))
    literal = [ASKED, {"role": "assistant", "content": "<think>\nEight legs.\n</think>\n\nEight."}]
    assert "Eight legs." in template_of(family).render(literal).completion


@pytest.mark.parametrize("name", FAMILIES)
def test_calls_and_their_results_reach_the_template(name: str) -> None:
    family = FAMILIES[name]
    template = template_of(family)
    if "tools" not in family.knows:
        if family.refuses:
            with pytest.raises(RefusedRow, match="alternate"):
                template.render(RESULT, TOOLS)
            return
        lost = template.render([ASKED, SAID], TOOLS).lost
        assert ("definitions of tools" in lost) == ("tools" not in family.chat)
        if name == "glm":  # writes calls, though no definitions
            assert loss_of(template, CALLED, TOOLS) == [f"{WRITTEN_CALL}{family.end}"]
            return
        with pytest.raises(RefusedRow, match="keeps nothing of the response"):
            template.render(CALLED, TOOLS)
        return
    end = "<|call|>" if name == "gpt_oss" else family.end
    assert loss_of(template, CALLED, TOOLS) == [f"{family.call}{end}"]
    assert loss_of(template, RESULT, TOOLS) == [f"{family.call}{end}", f"Noon.{family.end}"]
    assert "noon" in template.render(RESULT, TOOLS).prompt
    assert template.encode("r", RESULT, TOOLS).input_ids == own_row(template, family, RESULT, TOOLS)


@pytest.mark.parametrize(("name", "keeps_date"), [("llama3", True), ("granite", False), ("gpt_oss", True)])
def test_a_template_that_writes_the_date_is_told_a_fixed_one(name: str, keeps_date: bool) -> None:
    """Granite writes it into its default system message alone, which is left out."""
    family = FAMILIES[name]
    template = template_of(family)
    today = template.tokenizer.apply_chat_template([ASKED], tokenize=False)
    rows = [template.render([SYSTEM, ASKED, SAID], TOOLS).text, template.render([ASKED, SAID]).text]
    assert not any(str(date.today().year) in row for row in rows)
    assert str(date.today().year) in today
    assert any("2024" in row for row in rows) == keeps_date


@pytest.mark.parametrize(
    "chat",
    [
        "{{ strftime_now(form) }}",
        "{% set now = strftime_now %}{{ now('%Y') }}",
        "{{ ['a', 'b'] | random }}",
        "{{ lipsum(n=1) }}",
    ],
)
def test_a_template_that_cannot_be_kept_true_is_refused_once(chat: str) -> None:
    with pytest.raises(ModelError, match="another text on another day or at every call"):
        template_of(Family(chat + FAMILIES["chatml"].chat, ("<|im_start|>", "<|im_end|>"), "<|im_end|>", "<|im_end|>"))


@pytest.mark.parametrize("chat", ["{% for m in messages %}{{ m.content", "{{ 1 / 0 }}"])
def test_a_template_with_a_fault_is_refused_once(chat: str) -> None:
    with pytest.raises(ModelError, match="mend its chat template"):
        template_of(Family(chat, (), "<|im_end|>", ""))


def test_of_several_chat_templates_one_has_to_be_the_default() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = {"tool_use": FAMILIES["chatml"].chat}
    with pytest.raises(ModelError, match="none of the chat templates tool_use is named default"):
        Template(tokenizer, 99)


def test_a_fault_of_the_template_that_one_row_meets_refuses_that_row() -> None:
    chat = "{% for m in messages %}{{ m.content + '<|im_end|>' }}{{ 1 / (m.content | length - 4) }}{% endfor %}"
    template = Template(byte_tokenizer(chat), 99)
    with pytest.raises(RefusedRow, match="division by zero"):
        template.render([ASKED, {**SAID, "content": "Four"}])
    template.render([ASKED, SAID])


def test_a_date_is_told_however_the_call_is_written_and_comments_ask_for_none() -> None:
    chat = "{# strftime_now #}{% if strftime_now is defined %}{{ strftime_now ( '%Y' ) }}{% endif %}"
    template = Template(byte_tokenizer(chat + FAMILIES["chatml"].chat), 99, day=DAY)
    assert template.render([SYSTEM, ASKED, SAID]).text.startswith("2024<|im_start|>")


def test_the_end_of_every_turn_carries_loss_where_a_blank_stands_before_it() -> None:
    chat = (
        "{% for m in messages %}{{ '[INST] ' + m.content + ' [/INST]' if m.role == 'user' else m.content + ' </s>' }}"
    )
    template = Template(byte_tokenizer(chat + "{% endfor %}", eos_token="</s>"), 99)
    assert loss_of(template, TWO) == ["Eight. </s>", "Six. </s>"]


def test_the_end_of_a_turn_carries_loss_where_the_marks_of_the_template_leave_it_out() -> None:
    said = "{% generation %}{{ m.content }}{% endgeneration %}"
    chat = (
        "{% for m in messages %}{{ '[' + m.role + ']' }}{% if m.role == 'assistant' %}" + said + "{% else %}"
        "{{ m.content }}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
    )
    template = Template(byte_tokenizer(chat), 99)
    assert loss_of(template, TWO) == ["Eight.<|im_end|>", "Six.<|im_end|>"]
    assert template.ending == "<|im_end|>"


def test_signs_of_the_private_area_are_text_like_any_other() -> None:
    turns = [{"role": "user", "content": "\ue000?"}, {"role": "assistant", "content": "\ue001\ue000."}]
    row = template_of(FAMILIES["chatml"]).render(turns)
    assert row.completion == "\ue001\ue000.<|im_end|>"


def test_a_developer_is_the_system_where_the_template_knows_none() -> None:
    turns = [{"role": "developer", "content": "Be brief."}, ASKED, SAID]
    assert template_of(FAMILIES["chatml"]).render(turns).text.startswith("<|im_start|>system\nBe brief.<|im_end|>")


def test_white_space_and_unknown_signs_that_are_lost_are_told() -> None:
    spaced = [ASKED, {"role": "assistant", "content": "  Eight.\n"}]
    assert template_of(FAMILIES["gemma"]).render(spaced).lost == ("white space around assistant texts",)
    assert template_of(FAMILIES["chatml"]).render(spaced).completion == "  Eight.\n<|im_end|>"


def test_a_token_of_the_template_that_takes_blanks_up_is_no_part_of_the_answer() -> None:
    header = AddedToken("[/INST]", special=True, rstrip=True)
    tokenizer = byte_tokenizer("[INST]{{ messages[0].content }}[/INST]{{ messages[1].content + '<|im_end|>' }}")
    tokenizer.add_special_tokens({"additional_special_tokens": [header]})
    assert loss_of(Template(tokenizer, 99), [ASKED, {**SAID, "content": "\n Eight."}]) == ["Eight.<|im_end|>"]


def test_a_blank_that_the_tokenizer_puts_before_a_word_takes_no_letter_out_of_the_loss() -> None:
    family = FAMILIES["end_at_the_end"]
    tokenizer = byte_tokenizer(family.chat, **tokens(family))
    raw = tokenizer.backend_tokenizer
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    raw.post_processor = processors.ByteLevel(add_prefix_space=True, trim_offsets=True)
    said = [{**turn, "content": "é" if turn["role"] == "assistant" else turn["content"]} for turn in TWO]
    assert [text.strip() for text in loss_of(Template(tokenizer, 99), said)] == ["é", f"é{family.end}"]


def test_a_thought_that_begins_as_the_end_of_one_carries_loss_from_its_first_sign() -> None:
    chat = (
        "{% for m in messages %}{{ '[' + m.role + ']' }}{% if m.role == 'assistant' %}{{ '<think>' }}"
        "{{ m.reasoning_content or '' }}{{ '</think>' }}{% endif %}{{ m.content + '<|im_end|>' }}{% endfor %}"
    )
    tokenizer = byte_tokenizer(chat)
    tokenizer.add_tokens([AddedToken("<think>"), AddedToken("</think>")])
    row = Template(tokenizer, 99).render([ASKED, {**SAID, "reasoning_content": "</p> ends it"}])
    assert row.completion == "</p> ends it</think>Eight.<|im_end|>"


RESULT_FIRST = (
    "{% for m in messages %}{% if m.role == 'tool' %}{% elif m.tool_calls %}{{ '[assistant]' }}{% if loop.last %}"
    "{{ m.reasoning_content or '' }}{{ m.content }}{% endif %}{{ '<call>clock</call>' }}"
    "{% if not loop.last %}{{ '<result>' + messages[loop.index].content + '</result>' + m.content }}{% endif %}"
    "{{ '<|im_end|>' }}{% else %}{{ '[' + m.role + ']' + m.content + '<|im_end|>' }}{% endif %}{% endfor %}"
)


def test_a_result_carries_no_loss_where_the_template_puts_it_into_the_turn_that_called() -> None:
    called = {**CALLED[1], "content": "Let me see.", "reasoning_content": "A clock tells."}
    template = Template(byte_tokenizer(RESULT_FIRST), 999)
    turns = [ASKED, called, *RESULT[2:]]
    assert loss_of(template, turns, TOOLS) == ["<call>clock</call>", "Noon.<|im_end|>"]
    assert template.render(turns, TOOLS).lost == ("assistant texts", "reasoning", "definitions of tools")


def test_a_call_that_the_template_drops_is_told_though_definitions_name_the_tool() -> None:
    template = Template(byte_tokenizer("{% if tools %}{{ tools | tojson }}{% endif %}" + FAMILIES["chatml"].chat), 999)
    assert template.render(RESULT, TOOLS).lost == ("calls of tools",)
    twice = [ASKED, {**CALLED[1], "tool_calls": [CALL, CALL]}]
    assert template_of(FAMILIES["gpt_oss"]).render(twice, TOOLS).lost == ("calls of tools",)


def test_reasoning_of_an_answer_that_carries_no_loss_is_not_counted() -> None:
    turns = [*THOUGHT, ASKED, {**SAID, "reasoning_content": "Still eight."}]
    chat = "{% for m in messages %}{{ (m.reasoning_content or '') + m.content + '<|im_end|>' }}{% endfor %}"
    counted = [Template(byte_tokenizer(chat), 99, turns=which).render(turns).n_thoughts for which in ("last", "all")]
    assert counted == [1, 2]


def test_an_answer_of_which_the_template_keeps_nothing_is_not_learnt_as_an_empty_one() -> None:
    family = FAMILIES["deepseek_r1"]
    called = {**CALLED[1], "reasoning_content": "A clock tells."}
    assert loss_of(template_of(family), [ASKED, called, *RESULT[2:]], TOOLS) == [f"Noon.{family.end}"]


def test_what_the_template_drops_is_told_even_where_others_say_the_same() -> None:
    row = [{"role": "system", "content": "Ask the clock at noon."}, *RESULT]
    assert template_of(FAMILIES["chatml"]).render(row).lost == ("calls of tools",)
    spoken = "{% for m in messages if m.role in ('user', 'assistant') %}{{ '<s>' + m.content + '</s>' }}{% endfor %}"
    deaf = template_of(Family(spoken, ("<s>", "</s>"), "</s>", "</s>"))
    answer = {"role": "assistant", "content": "It is noon. Be brief. Be brief."}
    assert deaf.render([SYSTEM, *RESULT[:-1], answer]).lost == ("system texts", "calls of tools", "tool texts")
    again = [{**ASKED, "content": "noon"}, {**SAID, "content": "noon"}] * 2
    assert deaf.render([*again, {"role": "user", "content": "no"}, answer]).lost == ()
