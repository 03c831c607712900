"""Small chat templates, each with what people stumble over in a family of models, in words of their own."""

from dataclasses import dataclass
from typing import Any

from support.models import CHATML


@dataclass(frozen=True)
class Family:
    """A chat template with the special tokens that it writes.

    Attributes:
        chat: The template.
        special: Special tokens.
        eos, bos: The tokenizer's.
        before: What it writes before an answer without reasoning, after the role.
        end: What ends a response, and `between` what ends an answer that others follow.
        knows: What it keeps of `system`, `tools` and `reasoning`.
        thought: A thought as it is written before the answer, from its first own character.
        call: A call of a tool as it is written.
        refuses: What it refuses.
    """

    chat: str
    special: tuple[str, ...]
    eos: str
    end: str
    bos: str | None = None
    between: str | None = None
    before: str = ""
    knows: frozenset[str] = frozenset({"system"})
    thought: str = ""
    call: str = ""
    refuses: frozenset[str] = frozenset()


def chatml(chat: str, **more: Any) -> Family:
    """A template that writes turns as ChatML does."""
    return Family(chat, ("<|im_start|>", "<|im_end|>"), eos="<|im_end|>", end="<|im_end|>", **more)


ROLE = "'<|im_start|>' + m.role + '\n'"
CALL = '<tool_call>\n{"name": "clock", "arguments": {"city": "Oslo"}}\n</tool_call>'
CALLS = (
    '{% for c in m.tool_calls or [] %}{{ \'<tool_call>\n{"name": "\' + c.function.name + \'", "arguments": \' }}'
    "{{ c.function.arguments | tojson }}{{ '}\n</tool_call>' }}{% endfor %}"
)
TOOLS = "{% if tools %}{{ 'You may call:\n' + tools | tojson + '\n' }}{% endif %}"
SPLIT = (
    "{% set c, r = m.content, m.reasoning_content or '' %}{% if '</think>' in c %}"
    "{% set r = c.split('</think>')[0].split('<think>')[-1].strip('\n') %}"
    "{% set c = c.split('</think>')[-1].lstrip('\n') %}{% endif %}"
)
ALTERNATE = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}{% for m in messages %}"
    "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}"
    "{% endfor %}"
)

FAMILIES = {
    "chatml": chatml(CHATML),
    "default_system": chatml(
        "{% if messages[0].role != 'system' %}{{ '<|im_start|>system\nYou are Robin.<|im_end|>\n' }}{% endif %}"
        + CHATML
    ),
    "llama3": Family(
        "{{ bos_token }}{{ '<|head|>system<|/head|>\n\nToday: ' + strftime_now('%d %b %Y') + '\n\n' }}"
        "{% if messages[0].role == 'system' %}{{ messages[0].content | trim }}{% endif %}" + TOOLS + "{{ '<|eot|>' }}"
        "{% for m in messages if m.role != 'system' %}{{ '<|head|>' + m.role + '<|/head|>\n\n' }}"
        "{% for c in m.tool_calls or [] %}{{ {'name': c.function.name, 'parameters': c.function.arguments} | tojson }}"
        "{% endfor %}{{ m.content | trim + '<|eot|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|head|>assistant<|/head|>\n\n' }}{% endif %}",
        ("<|head|>", "<|/head|>", "<|eot|>"),
        eos="<|eot|>",
        bos="<|start|>",
        end="<|eot|>",
        knows=frozenset({"system", "tools"}),
        call='{"name": "clock", "parameters": {"city": "Oslo"}}',
    ),
    "mistral": Family(
        "{{ bos_token }}{% set own = messages if messages[0].role != 'system' else messages[1:] %}"
        "{% for m in own %}{% if m.role == 'user' %}{% if loop.last or loop.index0 == own | length - 2 %}"
        "{% if tools %}{{ '[TOOLS]' + tools | tojson + '[/TOOLS]' }}{% endif %}{{ '[INST] ' }}"
        "{% if own | length < messages | length %}{{ messages[0].content + '\n\n' }}{% endif %}"
        "{% else %}{{ '[INST] ' }}{% endif %}{{ m.content + ' [/INST]' }}"
        "{% else %}{{ ' ' + m.content + eos_token }}{% endif %}{% endfor %}",
        ("[INST]", "[/INST]", "[TOOLS]", "[/TOOLS]"),
        eos="</s>",
        bos="<s>",
        end="</s>",
    ),
    "gemma": Family(
        "{{ bos_token }}" + ALTERNATE + "{% for m in messages %}"
        "{{ '<turn>' + ('model' if m.role == 'assistant' else m.role) + '\n' + m.content | trim + '</turn>\n' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<turn>model\n' }}{% endif %}",
        ("<turn>", "</turn>"),
        eos="<eos>",
        bos="<bos>",
        end="</turn>",
        knows=frozenset(),
        refuses=frozenset({"system", "tools"}),
    ),
    "qwen3": chatml(
        "{% if tools %}{{ '<|im_start|>system\n' }}"
        "{% if messages[0].role == 'system' %}{{ messages[0].content + '\n\n' }}{% endif %}"
        + TOOLS
        + "{{ '<|im_end|>\n' }}{% endif %}"
        "{% set last = namespace(user=0) %}{% for m in messages if m.role == 'user' %}"
        "{% set last.user = messages.index(m) %}"
        "{% endfor %}{% for m in messages %}"
        + SPLIT
        + "{% if m.role == 'system' and tools %}{% else %}{{ "
        + ROLE
        + " }}"
        "{% if m.role == 'assistant' and loop.index0 > last.user and (loop.last or r) %}"
        "{{ '<think>\n' + r + '\n</think>\n\n' }}{% endif %}{{ c }}"
        + CALLS
        + "{{ '<|im_end|>\n' }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
        before="<think>\n\n</think>\n\n",
        knows=frozenset({"system", "tools", "reasoning"}),
        thought="Eight legs.\n</think>\n\n",
        call=CALL,
    ),
    "deepseek_r1": Family(
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}{{ m.content }}{% elif m.role == 'user' %}"
        "{{ '<|U|>' + m.content }}{% elif m.role == 'tool' %}{{ '<|O|>' + m.content }}{% else %}{{ '<|A|>' }}"
        "{% set c = m.content %}{% if '</think>' in c %}{% set c = c.split('</think>')[-1] %}{% endif %}"
        "{{ c + eos_token }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|A|><think>\n' }}{% endif %}",
        ("<|U|>", "<|A|>", "<|O|>"),
        eos="<|E|>",
        bos="<|B|>",
        end="<|E|>",
        knows=frozenset({"system", "reasoning"}),
        thought="Eight legs.\n</think>\n\n",
    ),
    "glm": Family(
        "[gMASK]<sop>{% for m in messages %}" + SPLIT + "{{ '<|' + m.role + '|>\n' }}{% if m.role == 'assistant' %}"
        "{{ '<think>' + r + '</think>\n' }}{% endif %}{{ c | trim }}" + CALLS + "{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}",
        ("[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>"),
        eos="<|end|>",
        end="<|end|>",
        between="",
        before="<think></think>\n",
        knows=frozenset({"system", "reasoning"}),
        thought="Eight legs.</think>\n",
    ),
    "phi": Family(
        "{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content + '<|end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}",
        ("<|system|>", "<|user|>", "<|assistant|>", "<|tool|>", "<|end|>"),
        eos="<|text|>",
        end="<|end|>\n<|text|>",
        between="<|end|>",
    ),
    "granite": Family(
        "{{ '<|r|>system<|/r|>' }}{% if messages[0].role == 'system' %}{{ messages[0].content }}{% else %}"
        "{{ 'Today is ' + strftime_now('%B %d, %Y') + '.' }}{% endif %}{{ '<|text|>\n' }}"
        "{% for m in messages if m.role != 'system' %}{{ '<|r|>' + m.role + '<|/r|>' + m.content + '<|text|>\n' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|r|>assistant<|/r|>' }}{% endif %}",
        ("<|r|>", "<|/r|>"),
        eos="<|text|>",
        end="<|text|>",
    ),
    "gpt_oss": Family(
        "{{ '<|start|>system<|message|>Current date: ' + strftime_now('%Y-%m-%d') + '<|end|>' }}{% for m in messages %}"
        "{% if m.role == 'system' %}{{ '<|start|>developer<|message|>' + m.content + '<|end|>' }}"
        "{% elif m.role == 'user' %}{{ '<|start|>user<|message|>' + m.content + '<|end|>' }}"
        "{% elif m.role == 'tool' %}{% if not messages[loop.index0 - 1].tool_calls %}{{ raise_exception('no call') }}"
        "{% endif %}{{ '<|start|>functions.clock<|message|>' + m.content | tojson + '<|end|>' }}"
        "{% elif m.tool_calls %}{{ '<|start|>assistant to=functions.' + m.tool_calls[0].function.name }}"
        "{{ '<|message|>' + m.tool_calls[0].function.arguments | tojson + '<|call|>' }}"
        "{% else %}{% if m.thinking and loop.last %}"
        "{{ '<|start|>assistant<|channel|>analysis<|message|>' + m.thinking + '<|end|>' }}{% endif %}"
        "{{ '<|start|>assistant<|channel|>final<|message|>' + m.content + ('<|return|>' if loop.last else '<|end|>') }}"
        "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|start|>assistant' }}{% endif %}{# tools #}",
        ("<|start|>", "<|message|>", "<|end|>", "<|channel|>", "<|call|>", "<|return|>"),
        eos="<|return|>",
        end="<|return|>",
        between="<|end|>",
        before="<|channel|>final<|message|>",
        knows=frozenset({"system", "tools", "reasoning"}),
        thought="analysis<|message|>Eight legs.<|end|><|start|>assistant<|channel|>final<|message|>",
        call=' to=functions.clock<|message|>{"city": "Oslo"}',
    ),
    "end_at_the_end": Family(
        "{% for m in messages %}{{ '<|' + m.role + '|>' + m.content }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% else %}{{ eos_token }}{% endif %}",
        ("<|system|>", "<|user|>", "<|assistant|>", "<|tool|>"),
        eos="<|end|>",
        end="<|end|>",
        between="",
    ),
    "marked": chatml(
        "{% for m in messages %}{{ " + ROLE + " }}{% if m.role == 'assistant' %}{% generation %}"
        "{{ m.content + '<|im_end|>\n' }}{% endgeneration %}"
        "{% else %}{{ m.content + '<|im_end|>\n' }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    ),
    "parts": chatml(
        "{% for m in messages %}{{ " + ROLE + " }}{% for part in m.content %}{{ part.text }}{% endfor %}"
        "{{ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    ),
}
