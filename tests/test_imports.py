"""What a fresh interpreter brings in: nobody waits for torch who does not train or localise."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

HEAVY = ("torch", "matplotlib", "scipy", "pandas")


def loaded_by(code: str) -> set[str]:
    """Names of the modules that a fresh interpreter holds after ``code``."""
    script = f"{code}\nimport sys\nprint('\\n'.join(sys.modules), file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True
    )
    return set(done.stderr.split())


@pytest.mark.parametrize(
    "code",
    [
        "import dgam; dgam.__version__, dir(dgam)",
        "import dgam; dgam.evaluate, dgam.read_labels, dgam.open_features, dgam.simulate, dgam.load_config",
        "import dgam.evaluation",
        "import dgam.core.config; dgam.core.config.load_config()",
        "import dgam.features.layouts, dgam.features.convert, dgam.data.annotations",
        "import dgam.detection.proposals, dgam.detection.nms, dgam.detection.scoring",
        "from dgam.cli import main; main(['--help'])",
        "from dgam.cli import main; main(['--version'])",
        "from dgam.cli import main; main(['info'])",
        "from dgam.cli import main; main(['evaluate', '--help'])",
    ],
)
def test_light_things_bring_in_nothing_heavy(code: str) -> None:
    assert loaded_by(code) & set(HEAVY) == set()


def test_the_list_of_commands_imports_none_of_them() -> None:
    modules = loaded_by("from dgam.cli import main; main(['--help'])")
    assert {name for name in modules if name.startswith("dgam.")} == {
        "dgam.cli",
        "dgam.cli.app",
        "dgam.cli.run",
        "dgam.core",
        "dgam.core.errors",
    }
    assert "numpy" not in modules


def test_the_check_itself_sees_torch() -> None:
    assert "torch" in loaded_by("import dgam.model.networks")


def test_help_answers_at_once() -> None:
    """0.21 s of processor time when written; half a second is room for a slower machine, not for torch."""
    times = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [sys.executable, "-m", "dgam", "--help"], stdout=subprocess.DEVNULL, check=True, timeout=60
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(times) < 0.5
