# SPDX-License-Identifier: Apache-2.0
"""What is in deploy/: files that their readers accept, and commands that exist."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import venv
from configparser import RawConfigParser
from pathlib import Path
from typing import Any

import click
import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from chipcash.center.publishing import LogWriter
from chipcash.center.service import Service
from chipcash.cli import root
from tests.center.test_publishing import new_log
from tests.center.world import World

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
UNITS = sorted(DEPLOY.glob("*.service"))
PROGRAM = "/opt/chipcash/bin/chipcash"


def parses(words: list[str], files: Path) -> None:
    """A chipcash command line up to its running; files that it names are taken from a folder."""
    for at, word in enumerate(words):
        name = word.rsplit("/", 1)[-1]
        if word.startswith("/"):
            if name == "network":
                (files / name).mkdir(exist_ok=True)
            elif "." in name:
                (files / name).touch()
            words[at] = str(files / name)
    context = click.Context(root, info_name="chipcash")
    command: click.Command = root
    rest = list(words)
    while isinstance(command, click.Group):
        found = command.get_command(context, rest.pop(0))
        assert found is not None, words
        command = found
    try:
        command.make_context(command.name, rest, parent=context)
    except click.BadParameter as error:
        # An empty file is no key of a log; that far it came.
        assert error.param is not None and error.param.name == "logs", error


def started_by(unit: Path) -> list[str]:
    """The words of a unit's command."""
    config = RawConfigParser(strict=False)
    config.optionxform = str  # type: ignore[assignment, method-assign]
    config.read_string(unit.read_text())
    specifiers = {"%d": "/run/credentials", "%%": "%"}
    line = re.sub("%.", lambda found: specifiers[found[0]], config["Service"]["ExecStart"])
    words = shlex.split(line)
    if words[0] == "/bin/sh":
        words = shlex.split(words[2].replace("$$", "$").removeprefix("exec "))
    return words


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_units(unit: Path, tmp_path: Path) -> None:
    program, *words = started_by(unit)
    assert program == PROGRAM
    parses([word for word in words if not word.startswith("$")], tmp_path)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    here = str(Path(sys.executable).with_name("chipcash"))
    for unit in (*UNITS, DEPLOY / "chipcash-backup.timer"):
        (tmp_path / unit.name).write_text(unit.read_text().replace(PROGRAM, here))
    units = sorted(str(path) for path in tmp_path.iterdir())
    verify = ["systemd-analyze", "verify", *units]
    done = subprocess.run(verify, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stderr.strip()
    for unit in units:
        if unit.endswith(".service"):
            rate = ["systemd-analyze", "security", "--offline=true", "--threshold=12", unit]
            done = subprocess.run(rate, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout[-300:]


def test_compose(tmp_path: Path) -> None:
    compose_spec = pytest.importorskip("compose_spec")
    text = (DEPLOY / "compose.yaml").read_text()
    compose_spec.PyCompose.from_yaml(text)
    with pytest.raises(ValueError):
        compose_spec.PyCompose.from_yaml(text.replace("read_only:", "read_onyl:"))
    data: dict[str, Any] = yaml.safe_load(text)
    for name, service in data["services"].items():
        assert ":" in service["image"] or service["image"] == "chipcash", name  # a version
        assert set(service.get("secrets", ())) <= set(data["secrets"])
        assert set(service.get("networks", ())) <= set(data["networks"])
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            assert source in data["volumes"] or (DEPLOY / source).is_file(), volume
        if service["image"] == "chipcash":
            secrets = [x for x in service["command"] if x.startswith("/run/secrets/")]
            assert {Path(x).name for x in secrets} <= set(service["secrets"])
            parses(list(service["command"]), tmp_path)
    for secret in data["secrets"].values():
        assert secret["file"].startswith("./secrets/")


def test_what_is_watched_is_there(tmp_path: Path) -> None:
    world = World()
    log = new_log(tmp_path)
    with Service(world.center, log=log) as service, LogWriter(world.center, log):
        title = world.issue(100, "alice")
        deposit = world.deposit(world.claim("alice", "shop", [(title, 0, 1)]))
        httpx.post(f"{service.url}/v1/deposits", content=deposit.encode())
        text = httpx.get(f"{service.url}/metrics").text
    given = {x.name for family in text_string_to_metric_families(text) for x in family.samples}
    rules = yaml.safe_load((DEPLOY / "alerts.yml").read_text())["groups"][0]["rules"]
    named = {name for rule in rules for name in re.findall(r"chipcash_center_\w+", rule["expr"])}
    assert len(named) >= 6 and named <= given
    assert all(rule["annotations"]["summary"] for rule in rules)


def test_the_images_packages_are_those_that_were_tested() -> None:
    pin = re.compile(r"^([a-z0-9-]+)==(\S+)", re.MULTILINE)
    tested = dict(pin.findall((ROOT / "requirements.lock").read_text()))
    image = dict(pin.findall((DEPLOY / "requirements.lock").read_text()))
    assert {"jinja2", "starlette", "uvicorn", "psycopg", "hatchling"} <= set(image)
    assert image.items() <= tested.items()
    assert not {"pytest", "schemathesis", "pyscard"} & set(image)


def test_what_the_dockerfile_copies_is_there() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    kept = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    for line in re.findall(r"^COPY (?!--from)(.*)$", text, re.MULTILINE):
        *sources, _ = line.split()
        for source in sources:
            assert (ROOT / source).exists(), source
            assert any(f"!{source}".rstrip("/").startswith(rule) for rule in kept if rule[0] == "!")


@pytest.mark.long
@pytest.mark.timeout(600)
def test_the_steps_of_the_dockerfile(tmp_path: Path) -> None:
    """In an environment of its own, without an engine: what would be installed runs a center."""
    place = tmp_path / "opt"
    source = tmp_path / "src"
    venv.create(place, with_pip=True)
    text = (DEPLOY / "Dockerfile").read_text()
    for line in re.findall(r"^COPY (?!--from)(.*)$", text, re.MULTILINE):
        *sources, target = line.split()
        for name in sources:
            to = source / target.removeprefix("/src/").removeprefix("/src")
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, to, dirs_exist_ok=True)
            else:
                to.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, to)
    for line in re.findall(r"^RUN (/opt/chipcash/.*)$", text, re.MULTILINE):
        words = line.replace("/opt/chipcash", str(place)).replace("/src", str(source)).split()
        subprocess.run(words, check=True)
    program = place / "bin" / "chipcash"
    subprocess.run([program, "center", "init", tmp_path / "network"], check=True, cwd=tmp_path)
    checked = [program, "center", "check", "--home", tmp_path / "network"]
    done = subprocess.run(checked, check=True, cwd=tmp_path, capture_output=True, text=True)
    assert "Conserved" in done.stdout
