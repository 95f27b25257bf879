"""Chat templates by name, where a checkpoint has no usual one."""

from __future__ import annotations

import json
from pathlib import Path

from gguf import GGUFReader

from convert.pipeline import Job, convert
from tests.convert.checkpoints import Shape, write_checkpoint


def test_a_template_for_functions_alone_is_kept(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "source", Shape())
    config = source / "tokenizer_config.json"
    named = [{"name": "tool_use", "template": "tools"}]
    config.write_text(json.dumps({**json.loads(config.read_text()), "chat_template": named}))
    job = Job(source=source, directory=tmp_path, name="named", types=("F16",), num_threads=1)
    (file,) = convert(job)
    fields = GGUFReader(file.path).fields
    assert fields["tokenizer.chat_template.tool_use"].contents() == "tools"
    assert "tokenizer.chat_template" not in fields
