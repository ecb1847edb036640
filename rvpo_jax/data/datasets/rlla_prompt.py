"""The prompt of RLLA: tools, steps and output format in a system message, then the dialogue."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

_SYSTEM = """\
You are a helpful multi-turn dialogue assistant capable of leveraging tool calls to solve user \
tasks and provide structured chat responses.

**Available Tools**
In your response, you can use the following tools:
%s

**Steps for Each Turn**
1. **Think:** Recall relevant context and analyze the current user goal.
2. **Decide on Tool Usage:** If a tool is needed, specify the tool and its parameters.
3. **Respond Appropriately:** If a response is needed, generate one while maintaining consistency \
across user queries.

**Output Format**
```plaintext
<think> Your thoughts and reasoning </think>
<tool_call>
{"name": "Tool name", "parameters": {"Parameter name": "Parameter content", "... ...": "... ..."}}
{"name": "... ...", "parameters": {"... ...": "... ...", "... ...": "... ..."}}
...
</tool_call>
<response> AI's final response </response>
```

**Important Notes**
1. You must always include the `<think>` field to outline your reasoning. Provide at least one of \
`<tool_call>` or `<response>`. Decide whether to use `<tool_call>` (possibly multiple times), \
`<response>`, or both.
2. You can invoke multiple tool calls simultaneously in the `<tool_call>` fields. Each tool call \
should be a JSON object with a "name" field and an "parameters" field containing a dictionary of \
parameters. If no parameters are needed, leave the "parameters" field an empty dictionary.
3. Refer to the previous dialogue records in the history, including the user's queries, previous \
`<tool_call>`, `<response>`, and any tool feedback noted as `<obs>` (if exists)."""


def rlla_prompt(
    tools: Sequence[Mapping[str, Any]], turns: Sequence[Mapping[str, str]]
) -> list[dict[str, str]]:
    """A prompt in the form that ToolRL trains on.

    Args:
      tools: Each with ``name``, ``description`` and ``parameters``, a mapping from parameter to
        what is known of it.
      turns: Messages by the user and the assistant; those of the system are left out, as ToolRL
        does in its evaluation on BFCL.

    Returns:
      A system and a user message.

    Source:
      github.com/qiancheng0/ToolRL (Apache-2.0): the messages of RLLA's rows, and for further turns
      its handler for BFCL.

    >>> messages = rlla_prompt([], [{"role": "user", "content": "Hi"}])
    >>> print(messages[1]["content"])
    **Dialogue Records History**
    <user> Hi </user>
    """
    listed = [
        f"{number}. Name: {tool['name']}\nDescription: {tool['description']}\n"
        f"Parameters: {json.dumps(tool['parameters'])}"
        for number, tool in enumerate(tools, start=1)
    ]
    dialogue = "**Dialogue Records History**\n"
    for turn in turns:
        content = turn["content"].strip()
        if turn["role"] == "user":
            dialogue += f"<user> {content} </user>\n"
        elif turn["role"] == "assistant":
            dialogue += f"\n{content}\n"
    return [
        {"role": "system", "content": _SYSTEM % "\n".join(listed)},
        {"role": "user", "content": dialogue.strip()},
    ]
