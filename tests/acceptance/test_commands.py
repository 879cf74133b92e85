"""Commands where no service runs: they work on the state alone, and say clearly what is wrong."""

import fcntl
import gzip
import json
import os
import subprocess
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.certificates import Authority
from tests.support.server import COMMAND, Done, HallMonitor

PROBLEMS = """\
nonsense = 1
[server]
listen = ["127.0.0.1", "[::1]:5353"]
workers = "many"
prot = 53
[upstream]
servers = ["http://192.0.2.1"]
[querylog]
on_full = "panic"
[sever]
listen = []
"""
PATHS = ("nonsense", "server.listen", "server.workers", "server.prot", "upstream.servers", "querylog.on_full", "sever")


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HallMonitor]:
    """Give a server that is configured and never runs."""
    server = HallMonitor(tmp_path_factory.mktemp("still") / "here")
    yield server
    assert server.process is None
    server.close()


def run(directory: Path, *arguments: str, environ: Mapping[str, str] | None = None) -> Done:
    """Run a command from a directory, under no configuration but what is there."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HALLMONITOR_")}
    done = subprocess.run(
        [COMMAND, *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=directory,
        env=kept | dict(environ or {}),
        timeout=60,
    )
    return Done(done.returncode, done.stdout, done.stderr)


class TestWithoutTheService:
    def test_the_first_command_sets_up_and_shows_the_token(self, still: HallMonitor) -> None:
        done = still.hallmonitor("status", "--json")
        assert "shown this once: hm_" in done.err
        status = done.object()
        assert (status["serving"], status["workers"], status["node"]) == (False, [], "test-node")
        assert status["lists"]["rules"] > 100
        again = still.hallmonitor("status")
        assert again.err == ""
        assert again.out.splitlines()[0].split() == ["serving:", "no"]

    def test_changes_hold_without_a_service(self, still: HallMonitor) -> None:
        still.hallmonitor("networks", "add", "10.20.0.0/16", "--group", "staff", "--site", "Lincoln High")
        assert still.hallmonitor("networks", "list", "--json").objects() == [
            {"cidr": "10.20.0.0/16", "group": "staff", "site": "Lincoln High"}
        ]
        made = still.hallmonitor(
            "exceptions", "add", "pokerstars.com", "--action", "allow", "--group", "staff", "--reason", "r", "--json"
        ).object()
        lookups = {
            client: still.hallmonitor("lookup", "www.pokerstars.com", "--client", client, "--json").object()
            for client in ("10.20.1.1", "10.21.1.1")
        }
        assert (lookups["10.20.1.1"]["group"], lookups["10.20.1.1"]["verdict"]) == ("staff", "exception")
        assert lookups["10.20.1.1"]["exception_id"] == made["id"]
        assert (lookups["10.21.1.1"]["group"], lookups["10.21.1.1"]["verdict"]) == ("students", "blocked")
        still.hallmonitor("exceptions", "revoke", str(made["id"]))
        found = still.hallmonitor("lookup", "www.pokerstars.com", "--client", "10.20.1.1", "--json").object()
        assert found["verdict"] == "blocked"

    def test_an_expiry_as_people_write_it(self, still: HallMonitor) -> None:
        for expires in ("45m", "7d", "2100-12-01T15:00:00Z"):
            made = still.hallmonitor(
                "exceptions", "add", "a.example", "--action", "block", "--reason", "r", "--expires", expires, "--json"
            ).object()
            assert made["status"] == "active"
            assert made["expires_at"].endswith("Z")
        assert made["expires_at"] == "2100-12-01T15:00:00Z"

    def test_the_log_is_empty(self, still: HallMonitor) -> None:
        assert still.hallmonitor("logs", "search", "--json").out == ""
        assert still.hallmonitor("logs", "search").out == "Nothing was found.\n"

    @pytest.mark.parametrize(
        ("kind", "fields"),
        [
            (
                "sources",
                {"key", "state", "location", "format", "category", "enabled", "licence", "homepage", "last_error"},
            ),
            ("categories", {"key", "name", "clause", "kind", "severity", "rules", "names", "only_here"}),
            ("groups", {"name", "mode", "addresses", "blocked"}),
            ("networks", {"cidr", "group", "site"}),
            ("exceptions", {"id", "domain", "action", "match", "groups", "clients", "status", "expires_at"}),
            ("tokens", {"name", "role", "created_at", "last_used_at", "revoked_at"}),
        ],
    )
    def test_lists_come_as_json_lines_and_as_tables(self, still: HallMonitor, kind: str, fields: set[str]) -> None:
        objects = still.hallmonitor(kind, "list", "--json").objects()
        assert objects
        assert all(fields <= set(one) for one in objects)
        head, *rows = still.hallmonitor(kind, "list").out.splitlines()
        assert len(rows) == len(objects)
        assert head == head.lower()


class TestLookup:
    def test_what_is_no_name(self, still: HallMonitor) -> None:
        done = still.hallmonitor("lookup", "bad..example", expect=1)
        assert done.err == "hallmonitor: not a domain name: 'bad..example'\n"


class TestInspect:
    def inspect(self, still: HallMonitor, *arguments: str, expect: int = 0) -> list[dict[str, Any]]:
        return still.hallmonitor("sources", "inspect", *arguments, "--json", expect=expect).objects()

    def test_the_contracts_object_for_each_location(self, still: HallMonitor) -> None:
        directory = still.directory
        (directory / "a.hosts").write_text("0.0.0.0 a.example b.example\n10.0.0.1 c.example\n")
        (directory / "b.txt.gz").write_bytes(
            gzip.compress(
                b"||d.example^$important,dnstype=A|AAAA,denyallow=x.d.example\n@@||e.example^\n/^ads[0-9]+\\./\n"
            )
        )
        hosts, adblock = self.inspect(still, "a.hosts", "b.txt.gz")
        exact = {"scope": "exact", "action": "block", "important": False, "types": None, "except": []}
        assert hosts == {
            "location": "a.hosts",
            "format": "hosts",
            "rules": [{"line": 1, "name": "a.example"} | exact, {"line": 1, "name": "b.example"} | exact],
            "rejected": [{"line": 2, "text": "10.0.0.1 c.example", "reason": "not_a_sink_address"}],
        }
        assert (adblock["location"], adblock["format"], adblock["rejected"]) == ("b.txt.gz", "adblock", [])
        important, allowed, expression = adblock["rules"]
        assert important == {
            "line": 1,
            "name": "d.example",
            "scope": "subtree",
            "action": "block",
            "important": True,
            "types": ["A", "AAAA"],
            "except": ["x.d.example"],
        }
        assert (allowed["name"], allowed["action"]) == ("e.example", "allow")
        assert (expression["line"], expression["regex"], expression["action"]) == (3, "^ads[0-9]+\\.", "block")
        assert "name" not in expression

    def test_a_summary_counts(self, still: HallMonitor) -> None:
        (still.directory / "c.txt").write_text("a.example\nb.example\nhttp://c.example/\n")
        (summary,) = self.inspect(still, "c.txt", "--summary")
        assert (summary["location"], summary["rules"], summary["rejected"]) == ("c.txt", 2, 1)
        assert summary["reasons"] == {"url": 1}
        said = still.hallmonitor("sources", "inspect", "c.txt").out
        assert "rules:    2\n" in said

    def test_a_format_by_name(self, still: HallMonitor) -> None:
        (still.directory / "d.txt").write_text("one.example\n")
        scopes = {
            name: self.inspect(still, "d.txt", "--format", name)[0]["rules"][0]["scope"]
            for name in ("domains", "adblock")
        }
        assert scopes == {"domains": "subtree", "adblock": "exact"}
        assert (
            self.inspect(still, "d.txt", "--format", "domains", "--scope", "exact")[0]["rules"][0]["scope"] == "exact"
        )

    def test_what_cannot_be_read_is_named_and_the_others_are_shown(self, still: HallMonitor) -> None:
        (still.directory / "page.txt").write_text("<!DOCTYPE html>\n<html><body>Sign in</body></html>\n")
        (still.directory / "good.txt").write_text("a.example\n")
        zipfile.ZipFile(still.directory / "hollow.zip", "w").close()
        locations = ("page.txt", "hollow.zip", "missing.txt", "good.txt")
        done = still.hallmonitor("sources", "inspect", *locations, "--json", expect=1)
        assert [shown["location"] for shown in done.objects()] == ["good.txt"]
        page, hollow, missing = done.err.splitlines()
        assert "page.txt" in page
        assert "HTML" in page
        assert "hollow.zip: it is an archive without a text file" in hollow
        assert "missing.txt" in missing
        assert "no such file" in missing

    def test_nothing_is_stored(self, still: HallMonitor) -> None:
        (still.directory / "e.txt").write_text("inspected-only.example\n")
        self.inspect(still, "e.txt")
        found = still.hallmonitor("lookup", "inspected-only.example", "--json").object()
        assert found["verdict"] == "allowed"


class TestCheck:
    def test_all_that_is_wrong_at_once(self, tmp_path: Path) -> None:
        (tmp_path / "hallmonitor.toml").write_text(PROBLEMS)
        done = run(tmp_path, "check")
        assert done.code == 1
        *said, last = done.err.splitlines()
        assert last == f"hallmonitor: {len(said)} problems in {tmp_path / 'hallmonitor.toml'}"
        for path in PATHS:
            assert any(line.startswith((f"{path}:", f"{path}[")) for line in said), (path, said)
        told = run(tmp_path, "check", "--json")
        assert told.code == 1
        found = told.object()
        assert found["valid"] is False
        assert found["problems"] == said
        assert found["file"] == str(tmp_path / "hallmonitor.toml")
        assert not (tmp_path / "var").exists()

    def test_other_commands_say_so_too(self, tmp_path: Path) -> None:
        (tmp_path / "hallmonitor.toml").write_text(PROBLEMS)
        done = run(tmp_path, "status")
        assert done.code == 1
        assert all(line.startswith("hallmonitor: ") for line in done.err.splitlines())
        assert len(done.err.splitlines()) >= len(PATHS)

    def test_what_is_right(self, tmp_path: Path) -> None:
        assert run(tmp_path, "check").out == "no file: every key has its default: valid\n"
        (tmp_path / "hallmonitor.toml").write_text('[server]\nlisten = ["[::1]:5300"]\n')
        assert run(tmp_path, "check").out == f"{tmp_path / 'hallmonitor.toml'}: valid\n"
        assert run(tmp_path, "check", "--json").object() == {
            "valid": True,
            "file": str(tmp_path / "hallmonitor.toml"),
            "problems": [],
            "warnings": [],
        }

    def test_a_certificate_that_is_anothers(self, tmp_path: Path) -> None:
        """A wrong name is a problem; without the address it is one for those alone who look for the ports."""
        identity = Authority(tmp_path).issue("dns.example", "127.0.0.1")

        def configure(name: str) -> None:
            server = {"listen": ["192.0.2.53:53"], "tls_listen": ["192.0.2.53:853"], "name": name}
            server |= {"certificate": str(identity.certificate), "private_key": str(identity.key)}
            lines = (f"{key} = {json.dumps(value)}" for key, value in server.items())
            (tmp_path / "hallmonitor.toml").write_text("[server]\n" + "\n".join(lines))

        configure("other.example")
        done = run(tmp_path, "check")
        assert done.code == 1
        assert done.err.startswith(f"server.name: {identity.certificate} doesn't carry other.example, so no client")
        configure("dns.example")
        done = run(tmp_path, "check")
        assert done.code == 0
        assert done.err.startswith(f"warning: server.certificate: {identity.certificate} doesn't carry 192.0.2.53: ")
        (warning,) = run(tmp_path, "check", "--json").object()["warnings"]
        assert f"warning: {warning}\n" == done.err

    def test_a_file_that_is_no_toml(self, tmp_path: Path) -> None:
        (tmp_path / "hallmonitor.toml").write_text("[server\n")
        done = run(tmp_path, "check")
        assert done.code == 1
        assert len(done.err.splitlines()) == 2
        assert "hallmonitor.toml" in done.err.splitlines()[0]


class TestConfiguration:
    def test_where_it_is_found(self, tmp_path: Path) -> None:
        for name in ("option", "variable", "here"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "hallmonitor.toml").write_text(f'[server]\nnode = "{name}"\n')
        here, variable = tmp_path / "here", {"HALLMONITOR_CONFIG": str(tmp_path / "variable" / "hallmonitor.toml")}
        option = ("--config", str(tmp_path / "option" / "hallmonitor.toml"))
        assert run(here, "check", "--json").object()["file"] == str(here / "hallmonitor.toml")
        assert run(here, "check", "--json", environ=variable).object()["file"] == variable["HALLMONITOR_CONFIG"]
        assert run(here, *option, "check", "--json", environ=variable).object()["file"] == option[1]
        # What it says counts, and relative paths start at its directory.
        assert run(here, *option, "status", "--json").object()["node"] == "option"
        assert (tmp_path / "option" / "var").is_dir()
        assert not (here / "var").exists()

    def test_one_that_is_not_there(self, tmp_path: Path) -> None:
        done = run(tmp_path, "--config", "missing.toml", "check")
        assert done.code == 1
        assert "missing.toml" in done.err

    def test_the_environment_overrides_it(self, still: HallMonitor, tmp_path: Path) -> None:
        changed = {"HALLMONITOR_SERVER__NODE": "from-environment"}
        assert still.hallmonitor("status", "--json", environ=changed).object()["node"] == "from-environment"
        elsewhere = {"HALLMONITOR_STATE__DIRECTORY": str(tmp_path / "elsewhere")}
        still.hallmonitor("status", environ=elsewhere)
        assert (tmp_path / "elsewhere" / "hallmonitor.db").exists()

    def test_what_the_environment_has_wrong(self, tmp_path: Path) -> None:
        wrong = {"HALLMONITOR_SERVER__WORKERS": "many", "HALLMONITOR_NONSENSE__KEY": "1"}
        done = run(tmp_path, "check", "--json", environ=wrong)
        assert done.code == 1
        problems = done.object()["problems"]
        assert any(problem.startswith("server.workers") for problem in problems)
        assert any("nonsense" in problem.lower() for problem in problems)


class TestExitCodes:
    @pytest.mark.parametrize(
        "arguments",
        [
            ("nonsense",),
            ("lookup",),
            ("refresh", "--nonsense"),
            ("networks", "add", "10.0.0.0/8"),
            ("groups", "set", "staff", "--mode", "nonsense"),
            ("exceptions", "add", "a.example", "--action", "maybe", "--reason", "r"),
            ("exceptions", "add", "a.example", "--action", "allow"),
            ("exceptions", "add", "a.example", "--action", "allow", "--reason", "r", "--expires", "soon"),
            ("logs", "search", "--limit", "0"),
            ("logs", "search", "--since", "soon"),
            ("logs", "search", "--client", "10.0.0"),
            ("lookup", "a.example", "--client", "10.0.0"),
            ("lookup", "a.example", "--type", "NONSENSE"),
            ("sources", "search", "a.example", "--at", "soon"),
            ("sources", "rollback", "house", "--to", "0"),
            ("sources", "set", "house"),
            ("categories", "set", "games", "--severity", "0"),
        ],
        ids=" ".join,
    )
    def test_called_wrongly(self, still: HallMonitor, arguments: tuple[str, ...]) -> None:
        done = still.hallmonitor(*arguments, expect=2)
        assert done.out == ""
        assert done.err.startswith("Usage: hallmonitor")

    @pytest.mark.parametrize(
        "arguments",
        [("refresh", "nothing"), ("sources", "remove", "nothing"), ("sources", "enable", "nothing")],
        ids=" ".join,
    )
    def test_failed(self, still: HallMonitor, arguments: tuple[str, ...]) -> None:
        done = still.hallmonitor(*arguments, expect=1)
        assert done.err == "hallmonitor: there is no source 'nothing'\n"

    def test_help_and_version(self, still: HallMonitor) -> None:
        help_text = still.hallmonitor("--help").out
        for command in (
            "serve", "refresh", "lookup", "status", "check", "sources", "categories", "groups", "networks",
            "exceptions", "tokens", "logs",
        ):  # fmt: skip
            assert f"  {command} " in help_text
        assert still.hallmonitor("--version").out.startswith("hallmonitor, version ")

    def test_a_reader_that_has_had_enough(self, still: HallMonitor) -> None:
        command = f"'{COMMAND}' --config '{still.config}' sources list --json | head -n 1"
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, timeout=60)
        assert json.loads(done.stdout)["key"]
        assert "Traceback" not in done.stderr


class TestCategories:
    def test_they_are_added_changed_and_removed(self, still: HallMonitor) -> None:
        run = still.hallmonitor
        run("categories", "add", "knitting", "--name", "Knitting", "--severity", "700")
        changed = run("categories", "set", "knitting", "--clause", "4.2", "--json").object()
        assert (changed["name"], changed["clause"], changed["severity"]) == ("Knitting", "4.2", 700)
        run("groups", "block", "guests", "knitting")
        done = run("categories", "remove", "knitting", expect=1)
        assert done.err == "hallmonitor: category 'knitting' is used by group guests\n"
        run("groups", "unblock", "guests", "knitting")
        assert run("categories", "remove", "knitting").out == "knitting: removed\n"

    def test_what_they_share_is_counted(self, still: HallMonitor) -> None:
        run = still.hallmonitor
        for key, names in (("wool", "one.example\ntwo.example\n"), ("yarn", "two.example\nthree.example\n")):
            (still.directory / f"{key}.txt").write_text(names)
            run("sources", "add", key, f"{key}.txt", "--category", key, "--create-category")
        run("refresh", "wool", "yarn")
        listed = {category["key"]: category for category in run("categories", "list", "--json").objects()}
        for key, other in (("wool", "yarn"), ("yarn", "wool")):
            counted = listed[key]
            assert (counted["sources"], counted["rules"], counted["names"], counted["only_here"]) == (1, 2, 2, 1)
            assert counted["shared_with"] == {other: 1}
        (row,) = [line for line in run("categories", "list").out.splitlines() if line.startswith("wool ")]
        assert row.split()[-2:] == ["yarn", "1"]
        run("sources", "remove", "wool")
        run("sources", "remove", "yarn")


class TestHistory:
    def test_a_list_through_its_versions(self, still: HallMonitor) -> None:
        run, path = still.hallmonitor, still.directory / "past.txt"
        options = ("--category", "gambling", "--mirror", "https://m.example/past.txt", "--stale-after", "4000")
        made = run("sources", "add", "past", "past.txt", *options, "--json").object()
        assert (made["mirrors"], made["stale_seconds"]) == (["https://m.example/past.txt"], 4000)
        assert run("sources", "history", "past").out == "past: never loaded\n"
        for text in ("first.example\nboth.example\n", "both.example\nsecond.example\n"):
            path.write_text(text)
            run("refresh", "past")
        newest, first = run("sources", "history", "past", "--json").objects()
        assert (newest["number"], newest["added"], newest["removed"], newest["rules"]) == (2, 1, 1, 2)
        assert (first["number"], first["restored"]) == (1, None)

        (then,) = run("sources", "search", "www.first.example", "--at", first["at"], "--json").objects()
        assert then == {
            "source": "past",
            "directory": None,
            "category": "gambling",
            "rule": "||first.example^",
            "action": "block",
            "enabled": True,
            "since": first["at"],
            "version": 1,
        }
        assert run("sources", "search", "first.example", "--json").out == ""
        assert run("sources", "search", "first.example").out == "first.example is on no list\n"

        said = run("sources", "rollback", "past").out
        assert said.startswith("past: version 1 is back in force, as version 3: 2 rules, 1 back and 1 gone.")
        assert "until it changes" in said
        assert run("lookup", "first.example", "--json").object()["source"] == "past"
        (outcome,) = run("refresh", "past", "--json").objects()
        assert (outcome["status"], outcome["version"]) == ("unchanged", 3)
        listed = {source["key"]: source for source in run("sources", "list", "--json").objects()}
        assert listed["past"]["state"] == "rolled back"
        assert run("sources", "rollback", "past", "--to", "9", expect=1).err.startswith(
            "hallmonitor: there is no version"
        )
        assert run("sources", "set", "past", "--no-mirrors", "--json").object()["mirrors"] == []
        run("refresh", "past", "--force")
        assert run("lookup", "first.example", "--json").object()["verdict"] == "allowed"

    def test_how_each_source_is(self, still: HallMonitor) -> None:
        lines = still.hallmonitor("sources", "list").out.splitlines()
        assert lines[0].split() == ["key", "category", "state", "rules", "rejected", "updated", "last", "error"]
        (starter,) = [line for line in lines if line.startswith("starter-games ")]
        assert " ok " in starter
        assert starter.rstrip(" -").endswith(" ago")
        states = {source["state"] for source in still.hallmonitor("sources", "list", "--json").objects()}
        assert {"ok", "off"} <= states


class TestComparing:
    def test_what_the_next_refresh_would_change(self, still: HallMonitor) -> None:
        run, path = still.hallmonitor, still.directory / "compared.txt"
        path.write_text("".join(f"n{number}.compared.example\n" for number in range(20)))
        run("sources", "add", "compared", "compared.txt", "--category", "gambling")
        run("refresh", "compared")
        made = run("exceptions", "add", "n1.compared.example", "--action", "allow", "--reason", "r", "--json").object()
        path.write_text("n1.compared.example\nn20.compared.example\nhttp://x.example/\n")
        (report,) = run("sources", "inspect", "compared.txt", "--json").objects()
        assert [rule["name"] for rule in report["rules"]] == ["n1.compared.example", "n20.compared.example"]
        compared = report["compared"]
        assert "it shrank by more than half" in compared.pop("refused")
        assert compared == {
            "against": "compared",
            "added": 1,
            "removed": 19,
            "unchanged": 1,
            "top_lookups": [],
            "exceptions": [{"id": made["id"], "domain": "n1.compared.example", "action": "allow"}],
        }
        said = run("sources", "inspect", "compared.txt").out
        assert "compared: 1 added, 19 removed, 1 unchanged" in said
        (history,) = run("sources", "history", "compared", "--json").objects()
        assert history["rules"] == 20, "nothing was stored"
        run("exceptions", "revoke", str(made["id"]))

    def test_one_that_is_named_and_what_must_never_be_blocked(self, still: HallMonitor) -> None:
        (still.directory / "other.txt").write_text("captive.apple.com\npokerstars.com\n")
        arguments = ("sources", "inspect", "other.txt", "--summary", "--json")
        assert "compared" not in still.hallmonitor(*arguments).object()
        compared = still.hallmonitor(*arguments, "--compare", "starter-gambling").object()["compared"]
        assert (compared["against"], compared["added"], compared["unchanged"]) == ("starter-gambling", 1, 1)
        assert "captive.apple.com" in compared["refused"]
        done = still.hallmonitor(*arguments, "--compare", "nothing", expect=1)
        assert done.err == "hallmonitor: there is no source 'nothing'\n"

    def test_looking_sets_nothing_up(self, tmp_path: Path) -> None:
        (tmp_path / "a.txt").write_text("a.example\n")
        assert run(tmp_path, "sources", "inspect", "a.txt", "--json").object()["format"] == "domains"
        assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_a_failing_refresh_without_the_service(still: HallMonitor) -> None:
    path = still.directory / "house.txt"
    path.write_text("house.example\n")
    still.hallmonitor("sources", "add", "house", "house.txt", "--category", "gambling")
    still.hallmonitor("refresh", "house")
    path.write_text("<html><body>Moved</body></html>")
    done = still.hallmonitor("refresh", "house", expect=1)
    assert "house: an HTML page, not a list" in done.err
    found = still.hallmonitor("lookup", "www.house.example", "--json").object()
    assert (found["verdict"], found["source"]) == ("blocked", "house")


def test_a_refresh_that_can_not_be_put_in_force_tells_what_it_stored(still: HallMonitor) -> None:
    (still.directory / "yard.txt").write_text("yard.example\n")
    still.hallmonitor("sources", "add", "yard", "yard.txt", "--category", "gambling")
    in_the_way = still.state / "policy" / "compiling"
    in_the_way.write_text("")
    done = still.hallmonitor("refresh", "yard", "--json", expect=1)
    in_the_way.unlink()
    outcome = done.object()
    assert (outcome["status"], outcome["added"], outcome["error"]) == ("updated", 1, None)
    assert done.err == "hallmonitor: what was stored is not in force yet: the index can't be written: File exists\n"
    still.hallmonitor("refresh", "yard")
    assert still.hallmonitor("lookup", "yard.example", "--json").object()["source"] == "yard"


def test_a_refresh_says_that_it_waits_for_another(still: HallMonitor) -> None:
    (still.directory / "court.txt").write_text("court.example\n")
    still.hallmonitor("sources", "add", "court", "court.txt", "--category", "gambling")
    with (still.state / "run" / "refresh.lock").open("ab") as another:
        fcntl.flock(another, fcntl.LOCK_EX)
        command = [str(COMMAND), "--config", str(still.config), "refresh", "court"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as waiting:
            assert waiting.stderr is not None
            assert waiting.stderr.readline() == "Another refresh goes on: waiting for its end.\n"
            fcntl.flock(another, fcntl.LOCK_UN)
            assert waiting.stderr.read() == "court: updated\n"
    assert waiting.returncode == 0
