import subprocess
import sys


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_open_clip_imports_beside_any_build_of_torch() -> None:
    run("import locvlm; import torchvision; import open_clip")


def test_importing_locvlm_imports_neither_torch_nor_torchvision() -> None:
    run("import locvlm, sys; assert not {'torch', 'torchvision'} & set(sys.modules)")


def test_the_schemas_are_declared_only_where_torchvision_lacks_them() -> None:
    run(
        "import locvlm, torchvision, torch\n"
        "from locvlm import torchvision_shim as shim\n"
        "assert bool(shim._fragments) == (not torchvision.extension._has_ops())\n"
        "assert torch.ops.torchvision.nms\n"
    )


def test_a_whole_torchvision_is_left_alone() -> None:
    run(
        "import sys, types\n"
        "from locvlm import torchvision_shim as shim\n"
        "extension = types.ModuleType('torchvision.extension')\n"
        "extension._has_ops = lambda: True\n"
        "sys.modules['torchvision.extension'] = extension\n"
        "shim._declare_missing_schemas()\n"
        "assert not shim._fragments and 'torch' not in sys.modules\n"
    )


def test_the_hook_is_added_once_and_removes_itself() -> None:
    run(
        "import sys, locvlm\n"
        "from locvlm import torchvision_shim as shim\n"
        "shim.install()\n"
        "hooks = [f for f in sys.meta_path if isinstance(f, shim._SchemaHook)]\n"
        "assert len(hooks) == 1\n"
        "import torchvision\n"
        "assert not any(isinstance(f, shim._SchemaHook) for f in sys.meta_path)\n"
        "shim.install()\n"
        "assert not any(isinstance(f, shim._SchemaHook) for f in sys.meta_path)\n"
    )
