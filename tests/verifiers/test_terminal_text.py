"""What a terminal output tells, on outputs that the real programs print."""

from __future__ import annotations

import subprocess

import pytest

from pivotgym.verifiers.terminal_commands import (
    answers_by_status,
    chooses_by_place,
    loop_variables,
    only_reports,
    only_speaks,
    orders,
    programs,
    same_question,
    selects_by_rank,
    spelling,
)
from pivotgym.verifiers.terminal_sources import absolute_paths, asks_alike, computes, only_words
from pivotgym.verifiers.terminal_text import Asked, excess, facts, is_numeric, made_up, read, untold


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("text")
    (path / "fruit.txt").write_text("pear\napple\nfig\napple\n")
    (path / "data.csv").write_text("name,age\nann,30\nben,41\n")
    (path / "sub").mkdir()
    (path / "sub" / "deep.py").write_text("x = 1\n# TODO\n")
    return str(path)


def output(folder: str, command: str) -> str:
    done = subprocess.run(["bash", "-c", command], cwd=folder, capture_output=True, text=True, check=False)
    text = done.stdout + done.stderr
    return text + (f"[exit status {done.returncode}]" if done.returncode else "")


def gaps(folder: str, demonstrated: str, sampled: str) -> list[str]:
    shown, got = read([output(folder, demonstrated)]), read([output(folder, sampled)])
    assert shown.lines
    return untold(shown, got, Asked(demonstrated, sampled, folder))


@pytest.mark.parametrize(
    ("demonstrated", "sampled"),
    [
        ("ls", "ls -la"),
        ("ls -la", "ls -lA"),
        ("ls -l fruit.txt", "stat -c '%A %h %U %G %s %n' fruit.txt"),
        ("wc -l fruit.txt", "wc -l < fruit.txt"),
        ("wc -l fruit.txt", "wc fruit.txt"),
        ("find . -name '*.py'", "find $PWD -name '*.py'"),
        ("grep -n apple fruit.txt", "grep -Hn apple fruit.txt"),
        ("sort fruit.txt | uniq -c", "awk '{n[$1]++} END {for (w in n) print w, n[w]}' fruit.txt | sort"),
        ("awk 'BEGIN {printf \"%.2f\\n\", 10 / 3}'", "python3 -c 'print(10 / 3)'"),
        ("sort fruit.txt | tail -1", "sort -r fruit.txt"),
        ("head -c 12 data.csv", "cat data.csv"),
    ],
)
def test_tells_at_least_as_much(folder: str, demonstrated: str, sampled: str) -> None:
    assert gaps(folder, demonstrated, sampled) == []


@pytest.mark.parametrize(
    ("demonstrated", "sampled"),
    [
        ("ls -l", "ls"),
        ("ls", "ls sub"),
        ("wc -l fruit.txt", "wc -l data.csv"),
        ("cat fruit.txt", "sort -u fruit.txt"),  # a line that stands there twice
        ("cat fruit.txt", "sort fruit.txt"),  # the order
        ("cat fruit.txt", "head -3 fruit.txt"),
        ("sort fruit.txt | uniq -c", "sort -u fruit.txt"),
        ("sort fruit.txt | head -1", "cat fruit.txt"),  # which is the first
        ("python3 -c 'print(10 / 3)'", "awk 'BEGIN {printf \"%.2f\\n\", 10 / 3}'"),  # fewer digits
        ("echo 3.4", "echo 3"),
        ("paste -sd, fruit.txt", "sort fruit.txt | paste -sd,"),
        ("diff <(echo a) <(echo b)", "echo a; echo b"),  # which side
        ("wc -l < data.csv", "printf '1\\n3\\n5\\n'"),  # a number out of a list
    ],
)
def test_tells_less(folder: str, demonstrated: str, sampled: str) -> None:
    assert gaps(folder, demonstrated, sampled)


def test_a_commit_in_many_lines_is_told(folder: str) -> None:
    script = (
        "export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@x.org GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@x.org;"
        "cd $(mktemp -d) && git init -q && git commit -q --allow-empty -m 'First one' && "
        "git commit -q --allow-empty -m 'Second one' && git log --oneline && echo ===== && git log"
    )
    short, _, long = output(folder, script).partition("=====\n")
    asked = Asked("git log --oneline", "git log")
    assert untold(read([short]), read([long]), asked) == []
    assert untold(read([long]), read([short]), Asked("git log", "git log --oneline"))
    other = long.replace("Second", "Third")
    assert untold(read([short]), read([other]), asked)


def test_what_differs_from_run_to_run_is_no_fact() -> None:
    once, again = "Ran 3 tests in 0.004s\n", "Ran 3 tests in 1.310s\n"
    assert untold(read([once]), read([again]), Asked("x", "y")) == []
    rows = "total 8\n-rw-r--r-- 1 root root 3 {} a\n"
    once, again = rows.format("Nov 22 15:16"), rows.format("Jan  1 00:01")
    assert untold(read([once]), read([again]), Asked("ls -l", "ls -la")) == []


def test_status_and_notes_are_read() -> None:
    assert read(["a\n[exit status 3]"]).status == 3
    assert read(["a\n[exit status 3]"]).lines == ("a",)
    assert read(["[killed: it ran for more than 60 s]"]).status is None
    assert read(["<returncode>2</returncode>\n<output>\nx\n</output>"]).status == 2
    assert read(["(no output)"]).lines == ()
    assert read(["\x1b[31mred\x1b[0m\r\n"]).lines == ("red",)


def test_dumps_are_excessive() -> None:
    asked = read(["one line\n"])
    assert excess(asked, read(["".join(f"word {n} of many\n" for n in range(20))])) is None
    assert excess(asked, read(["".join(f"word {n} of many\n" for n in range(500))]))
    assert excess(asked, read(["x" * 50_000]))


def test_made_up_answers() -> None:
    shown = read(["5\n"])
    assert made_up(shown, Asked("wc -l < f", "echo 5"))
    assert made_up(shown, Asked("wc -l < f", "expr 5"))
    assert not made_up(shown, Asked("wc -l < f", "grep -c '' f"))
    assert not made_up(shown, Asked("echo 5", "printf '5\\n'"))
    assert only_speaks("cd x && echo 5; true") and not only_speaks("echo $X") and not only_speaks("echo *.py")


def test_facts_of_a_line() -> None:
    assert facts("./src/a.py:12:  x = 07") == ("src", "a.py", "12", "x", "7")
    assert facts("\tmodified:   one.py") == ("M", "one.py")
    assert facts("-3.50 +x --all") == ("-3.50", "x", "all")


def test_reading_commands() -> None:
    assert programs("cat f | grep -c x && sudo -u me rm y; X=1 /bin/ls") == ["cat", "grep", "rm", "ls"]
    assert programs("find . -print0 | xargs -0 rm -f") == ["find", "rm"]
    assert programs("# look\nls  # here\ngrep '#' f") == ["ls", "grep"]
    assert loop_variables("for f in *; do echo $f; done; while read -r a b; do :; done; X=1") == {"f", "a", "b"}
    assert spelling("ls   -l  a;") == spelling("ls -l a") != spelling("ls -l 'a'")
    for one, other in (
        ("touch a\\ b", "touch a\\  b"),
        ("echo 'a b'", "echo 'a  b'"),
        ("cat <<E\n a\nE", "cat <<E\n  a\nE"),
        ("find . -exec x \\;", "find . -exec x \\"),
        ("echo 2>x", "echo 2 >x"),
        ("x=${y:-a b}", "x=${y:-a  b}"),
    ):
        assert spelling(one) != spelling(other)
    assert answers_by_status("cat f | grep x") and answers_by_status("test -f x && echo y")
    assert not answers_by_status("mkdir x")
    assert only_reports("cd x && git commit -m y") and not only_reports("git log") and not only_reports("make")
    assert not orders("find . -name x") and orders("cat f") and orders("ls -t") and not orders("grep -rn x .")
    assert selects_by_rank("ls -S | head -1") == (1, True) and selects_by_rank("cat f | head -1") is None
    assert chooses_by_place("cat f | tail -3") and not chooses_by_place("sort f | tail -3")
    assert same_question("diff a b", "cmp a b") and not same_question("diff a b", "true")


@pytest.mark.parametrize("source", ["echo 'open", "a <<EOF\nb", "$(", "", "\\", "for x in", ";;;", "|", "\x00"])
def test_no_source_is_too_broken_to_read(source: str) -> None:
    for reader in (programs, loop_variables, spelling, answers_by_status, only_reports, orders, selects_by_rank):
        reader(source)
    untold(read(["a b\n"]), read(["c\n"]), Asked(source, source))


@pytest.mark.parametrize(
    "source",
    [
        "echo 4", "x=4; echo $x", "echo $((1+1))", "x=mast; echo ${x}er", "echo found $(true)", "cat <<E\n4\nE",
        "echo NAo= | base64 -d", "python3 -c 'print(1+2)'", "awk 'BEGIN {print 4}'", "seq 4 4", "bash -c 'echo 4'",
        "ls >/dev/null; echo 4", "f() { echo 4; }; f", "printf '%s' \"$(echo 4)\"", "[ 1 = 1 ] && echo yes",
        "echo 4 > f", "echo 'a < b; $(cat f)'",
    ],
)  # fmt: skip
def test_commands_of_words_alone(source: str) -> None:
    assert only_words(source)


@pytest.mark.parametrize(
    "source",
    [
        "cat f", "echo *.py", "echo $HOME", "wc -l < f", "echo $(cat f)", "echo \"$(cat f)\"",
        "grep -q x f && echo yes",
        "[ -f x ] && echo yes", "nproc", "python3 t.py", "python3 -c 'print(open(\"f\").read())'", "cat <<E\n$(ls)\nE",
        "python3 -c 'import util; print(util.x())'", "awk '{print}' f", "echo `ls`", "sort f | tail -1", "echo $$",
        "while read l; do echo $l; done < f",
    ],
)  # fmt: skip
def test_commands_that_read(source: str) -> None:
    assert not only_words(source)


def test_what_is_written_and_what_is_asked() -> None:
    assert computes("sort a > b") and computes("n=$(wc -l < f)") and computes("python3 t.py | tee out")
    assert not computes("echo x > b") and not computes("sort a 2>/dev/null") and not computes("cat > f <<E\na > b\nE")
    assert asks_alike("test -f a && echo yes", "if [ -e a ]; then echo yes; fi")
    assert not asks_alike("test -f a && echo yes", "test -f a; echo yes")
    assert not asks_alike("test -s a && echo yes", "test -f a && echo yes")
    assert not asks_alike("grep -q x a && echo yes", "grep -qv x a && echo yes")
    assert absolute_paths("cat /etc/my.conf /usr/bin/x a/b > /dev/null") == ["/etc/my.conf"]


def test_the_digits_of_a_commit_are_no_lone_number() -> None:
    asked = Asked("git commit -qm First && git log --oneline", "git log")
    assert not is_numeric(read(["6261071 First"]), asked)
    assert is_numeric(read(["62610 First"]), asked) and is_numeric(read(["17"]), asked)
