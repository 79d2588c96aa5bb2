"""What pinned.py decides reaches the program that it starts. A few lines stand in for lmms-eval there; the
processor is a real one.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import CLIPImageProcessorPil, LlavaProcessor, PreTrainedTokenizerFast

PROGRAM = """\
import sys
from transformers import AutoProcessor

processor = AutoProcessor.from_pretrained(sys.argv[2])
print(sys.argv[:2], type(processor.image_processor).__name__, processor.tokenizer.chat_template, sep="\\n")
"""
TEMPLATE = "A sentence of the export's own. {{ messages[0]['content'] }}"


@pytest.fixture
def start(tmp_path, repo_root):
    """start("pil", folder): what the program says when pinned.py starts it."""
    (tmp_path / "lmms_eval").mkdir()
    (tmp_path / "lmms_eval" / "__main__.py").write_text(PROGRAM)

    def run(backend: str, folder: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "locvlm.evals.lmms.pinned", backend, "eval", str(folder)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (repo_root, tmp_path)))},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.fixture
def export(tmp_path) -> Path:
    """A processor with a chat template."""
    words = WordLevel({"<unk>": 0, "<image>": 1}, unk_token="<unk>")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(words), unk_token="<unk>")
    images = CLIPImageProcessorPil(size={"height": 28, "width": 28}, do_center_crop=False)
    processor = LlavaProcessor(images, tokenizer, patch_size=14, chat_template=TEMPLATE)
    processor.save_pretrained(tmp_path / "export")
    return tmp_path / "export"


@pytest.mark.parametrize(
    ("backend", "kind"), [("pil", "CLIPImageProcessorPil"), ("torchvision", "CLIPImageProcessor")]
)
def test_what_resizes_images_is_chosen_and_the_template_is_the_exports(start, export, backend, kind):
    done = start(backend, export)
    words, image_processor, template = done.stdout.splitlines()
    assert words == "['lmms_eval', 'eval']"
    assert image_processor == kind
    assert template == TEMPLATE


def test_a_folder_without_a_template_is_refused(start, export):
    (export / "chat_template.jinja").unlink()
    done = start("pil", export)
    assert done.returncode == 1
    assert f"{export} has no chat template" in done.stderr


def test_another_backend_is_refused_before_anything_is_started(start, export):
    done = start("jpeg", export)
    assert done.returncode == 1
    assert "the first argument is the image backend, pil or torchvision, got 'jpeg'" in done.stderr
    assert done.stdout == ""
