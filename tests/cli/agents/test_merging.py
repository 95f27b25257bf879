"""Whatever stands in a configuration file stays there."""

from __future__ import annotations

import pytest

from appliance.cli.agents.merging import CannotMerge, merged_json, merged_yaml, merged_yaml_list

MINE = {"name": "appliance", "model": "gull"}


def test_json_objects_are_merged_and_all_else_is_replaced() -> None:
    before = '{"env": {"A": "1", "B": "2"}, "hooks": [1], "theme": "dark"}'
    assert merged_json(before, {"env": {"B": "3", "C": "4"}, "hooks": [2]}) == (
        '{\n  "env": {\n    "A": "1",\n    "B": "3",\n    "C": "4"\n  },\n'
        '  "hooks": [\n    2\n  ],\n  "theme": "dark"\n}\n'
    )
    assert merged_json("", {"a": "é"}) == '{\n  "a": "é"\n}\n'


@pytest.mark.parametrize("text", ['{"a": 1} // why', '{"a": 1,}', "[1]", "a: 1"])
def test_what_is_no_plain_json_object_is_left_alone(text: str) -> None:
    with pytest.raises(CannotMerge):
        merged_json(text, {"b": 2})


def test_yaml_keys_are_set_where_they_stand_and_comments_stay() -> None:
    before = "# mine\nmodel: gpt-5  # the best\nedit-format: diff"
    assert merged_yaml(before, {"model": "openai/gull", "openai-api-base": "http://a/v1"}) == (
        '# mine\nmodel: "openai/gull"\nedit-format: diff\nopenai-api-base: "http://a/v1"\n'
    )


@pytest.mark.parametrize(
    "text",
    ["{model: a, b: c}", "model: &x\n  - a\nb: *x\n", "- a", "a: [", "model: >\n  a\n  b\n"],
    ids=["in braces", "an anchor", "a list", "broken", "many lines"],
)
def test_yaml_that_would_change_otherwise_is_left_alone(text: str) -> None:
    with pytest.raises(CannotMerge):
        merged_yaml(text, {"model": "gull"})


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", 'models:\n  - {"name": "appliance", "model": "gull"}\n'),
        ("models: []\n", 'models:\n  - {"name": "appliance", "model": "gull"}\n'),
        ("models:\n", 'models:\n  - {"name": "appliance", "model": "gull"}\n'),
        (
            "name: A\nmodels:  # mine\n\n- name: b\n  model: c\nrules: []\n",
            'name: A\nmodels:\n- {"name": "appliance", "model": "gull"}\n\n- name: b\n'
            "  model: c\nrules: []\n",
        ),
        (
            "models:\n    - name: b\n    # old\n"
            '    - {"name": "appliance", "model": "auk", "x": 1}\n',
            'models:\n    - name: b\n    # old\n    - {"name": "appliance", "model": "gull"}\n',
        ),
    ],
    ids=["no file", "an empty list", "nothing", "others", "an older one of ours"],
)
def test_an_item_of_a_yaml_list_is_added_or_replaced(before: str, after: str) -> None:
    assert merged_yaml_list(before, "models", MINE) == after
    assert merged_yaml_list(after, "models", MINE) == after


@pytest.mark.parametrize(
    "text",
    ["models: [{name: b}]\n", "models: x\n", "models:\n  - name: appliance\n    model: auk\n"],
    ids=["in one line", "no list", "ours, rewritten"],
)
def test_lists_that_are_written_otherwise_are_left_alone(text: str) -> None:
    with pytest.raises(CannotMerge):
        merged_yaml_list(text, "models", MINE)
