"""Version, citation, changelog and the hosted checks agree."""

import re
import tomllib
from pathlib import Path

import yaml

from website.badges import FOLDER, badges

ROOT = Path(__file__).parents[2]
CHANGES = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_the_version_is_the_same_everywhere() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    version, date = re.findall(r"^## \[([\d.]+)\] - (\d{4}-\d\d-\d\d)$", CHANGES, re.MULTILINE)[0]
    assert PROJECT["version"] == citation["version"] == version
    assert str(citation["date-released"]) == date
    assert citation["license"] == PROJECT["license"]
    assert CHANGES.index("## [Unreleased]") < CHANGES.index(f"## [{version}]")


def test_badges_say_what_is_true() -> None:
    shown = re.findall(r"badges/(\w+\.svg)", (ROOT / "README.md").read_text(encoding="utf-8"))
    expected = badges()
    assert sorted(shown) == sorted(expected)
    for name, content in expected.items():
        found = (FOLDER / name).read_text(encoding="utf-8")
        assert found == content, "run `python -m website.badges`"
    assert f"version: {PROJECT['version']}" in expected["version.svg"]


def test_the_hosted_checks_are_those_of_the_script() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    targets = re.search(r"^for target in (.*); do$", script, re.MULTILINE)[1].split()
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    job = yaml.safe_load(workflow)["jobs"]["checks"]
    steps = [step["run"] for step in job["steps"] if "run" in step]
    assert steps == [f"make {target}" for target in targets]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert all(f"\n{target}: " in makefile for target in targets)
    versions = job["strategy"]["matrix"]["python"]
    assert PROJECT["requires-python"] == f">={versions[0]}"
    assert versions == ["3.11", "3.12", "3.13"]
    assert "secrets" not in workflow.replace("No secrets", "")


def test_actions_are_pinned_to_commits() -> None:
    for place in (ROOT / ".github" / "workflows").glob("*.yml"):
        used = re.findall(r"uses: (\S+)", place.read_text(encoding="utf-8"))
        assert used
        assert all(re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", one) for one in used)


def test_templates_are_forms() -> None:
    folder = ROOT / ".github" / "ISSUE_TEMPLATE"
    forms = [place for place in folder.glob("*.yml") if place.stem != "config"]
    assert len(forms) == 3
    for place in forms:
        form = yaml.safe_load(place.read_text(encoding="utf-8"))
        assert {"name", "description", "body"} <= form.keys()
        known = {"markdown", "textarea", "input", "dropdown", "checkboxes"}
        assert {part["type"] for part in form["body"]} <= known
    assert (ROOT / ".github" / "pull_request_template.md").read_text(encoding="utf-8").strip()


def test_every_direct_dependency_is_pinned() -> None:
    pinned = {
        re.split(r"==", line)[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if "==" in line
    }
    wanted = PROJECT["dependencies"] + [
        name
        for extra, names in PROJECT["optional-dependencies"].items()
        if extra != "ray"  # its environments are in no test of the script
        for name in names
    ]
    names = {re.match(r"[\w-]+", one)[0].lower().replace("_", "-") for one in wanted}
    assert names - pinned - {"rl2-lightning"} == set()
