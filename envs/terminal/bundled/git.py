"""Tasks about git repositories: finding, reverting, merging, restoring, picking, releasing."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

from pivotgym.envs.terminal.bundled.draw import PEOPLE, PRODUCTS, WORDS, ask, prose
from pivotgym.envs.terminal.bundled.look import Look, Wrong, same, table
from pivotgym.envs.terminal.bundled.repository import ENV, Change, Commit, Repository, commit_ids, create
from pivotgym.envs.terminal.bundled.spec import Builder, Built


def _day(number: int) -> str:
    return f"2024-{1 + number // 28:02}-{1 + number % 28:02} 10:{number % 60:02}"


def _texts(repository: Repository, commit: Commit) -> dict[str, str]:
    return {path: data.decode(errors="replace") for path, data in repository.files(commit).items()}


def _on_top(tip: Commit, changes: Sequence[Change]) -> None:
    """Raises Wrong unless ``tip`` is one new commit after exactly this history."""
    same(tip.parents, (commit_ids(changes)[-1],), "what the last commit of main is based on")


def blame_regression(rng: random.Random) -> Built:
    """Which commit made the test fail; the repository stays as it is."""
    rate = rng.randrange(5, 30)
    bad = rng.randrange(7, 13)
    changes = [
        Change(
            "alba",
            _day(0),
            "Price calculation with a test",
            {
                "price.sh": f"rate={rate}\necho $(( $1 + $1 * rate / 100 ))\n",
                "test.sh": f'[ "$(bash price.sh 200)" = {200 + 2 * rate} ]\n',
            },
        )
    ]
    for number in range(1, 16):
        files: dict[str, str | None] = {f"docs/{rng.choice(WORDS)}{number}.md": prose(rng, 1)}
        if number == bad:
            files["price.sh"] = f"rate={rate + 1}\necho $(( $1 + $1 * rate / 100 ))\n"
        elif number == bad - 3 or number == bad + 2:
            files["price.sh"] = (
                f"# {rng.choice(WORDS)}\nrate={rate + (number > bad)}\necho $(( $1 + $1 * rate / 100 ))\n"
            )
        message = rng.choice(("Tidy up", "Describe", "Update notes on", "Clarify", "Rework")) + f" {rng.choice(WORDS)}"
        changes.append(Change(rng.choice(PEOPLE), _day(number), f"{message} ({number})", files))
    guilty = changes[bad].message

    def check(look: Look) -> None:
        repository = Repository(look, "shop")
        tip = repository.clean("main")
        same(tip.id, commit_ids(changes)[-1], "the last commit of main")
        same(look.text("culprit.txt").strip(), commit_ids(changes)[bad], "culprit.txt")
        if not look.absent("shop/.git/BISECT_LOG"):
            raise Wrong("a bisection is still under way")

    return Built(
        ask(
            rng,
            "In the git repository shop/, `bash test.sh` succeeded at the first commit and fails now. Find the commit "
            "that broke it and write its full hash (40 characters) to culprit.txt beside the repository "
            "(/root/work/culprit.txt).",
            "Leave the repository as it is: main checked out, no bisection left open, no new commits.",
        ),
        (
            (
                "Look at history and test.",
                "cd shop && git log --oneline | cat && cat test.sh price.sh; bash test.sh; echo status $?",
            ),
            (
                "Fifteen commits: let git bisect run the test. Output of the first good commit is at the end.",
                'git bisect start HEAD "$(git rev-list --max-parents=0 HEAD)" > /dev/null && git bisect run bash '
                'test.sh > /tmp/bisect.out 2>&1; grep "is the first bad commit" /tmp/bisect.out',
            ),
            (
                "Keep the hash, then end the bisection.",
                "git rev-parse refs/bisect/bad > ../culprit.txt && git bisect reset 2> /dev/null; git status -sb",
            ),
            (
                "Check that this commit fails and its parent does not change the rate.",
                'git show --format=%s "$(cat ../culprit.txt)" -- price.sh; cd .. && cat culprit.txt',
            ),
        ),
        f'The test fails since "{guilty}"; its hash is in culprit.txt.',
        script=create("shop", changes),
        env=ENV,
        check=check,
    )


def revert_one(rng: random.Random) -> Built:
    """A commit in the middle is reverted by a new one; later work stays."""
    topic = rng.choice(("caching", "retries", "compression"))
    names = rng.sample(WORDS, 6)
    changes = [Change("bruno", _day(0), "Start", {"settings.conf": "mode=plain\nlimit=10\n", "README.md": "# Tool\n"})]
    for number, name in enumerate(names[:3]):
        changes.append(Change(rng.choice(PEOPLE), _day(1 + number), f"Add {name}", {f"src/{name}.txt": prose(rng, 2)}))
    changes.append(
        Change(
            rng.choice(PEOPLE),
            _day(5),
            f"Switch on {topic}",
            {"settings.conf": f"mode={topic}\nlimit=10\n", f"src/{topic}.txt": prose(rng, 2), "README.md": None},
        )
    )
    for number, name in enumerate(names[3:]):
        changes.append(Change(rng.choice(PEOPLE), _day(6 + number), f"Add {name}", {f"src/{name}.txt": prose(rng, 2)}))
    wanted = {path: text for change in changes for path, text in change.files.items() if path != f"src/{topic}.txt"}
    wanted.update({"settings.conf": "mode=plain\nlimit=10\n", "README.md": "# Tool\n"})

    def check(look: Look) -> None:
        repository = Repository(look, "tool")
        tip = repository.clean("main")
        same(_texts(repository, tip), wanted, "the files of main")
        _on_top(tip, changes)
        if "revert" not in tip.message.lower():
            raise Wrong("the message does not say that something is reverted")
        same(look.absent(f"tool/src/{topic}.txt"), True, "the work tree")

    return Built(
        ask(
            rng,
            f'The commit "Switch on {topic}" in the repository tool/ turned out to be a mistake. Undo exactly that '
            "commit on main with one new commit whose message says that it is a revert.",
            "Others have pulled already: do not rewrite history, and keep what came later.",
        ),
        (
            ("Find the commit.", "cd tool && git status -sb && git log --format='%h %s'"),
            ("What did it do?", f"git show --stat --format=%s ':/Switch on {topic}'"),
            (
                "A revert makes the inverse commit.",
                f"git revert --no-edit ':/Switch on {topic}' > /dev/null && git log --format=%s -n 2",
            ),
            (
                "Check the settings, the file that was deleted and the later files.",
                "cat settings.conf; git ls-files; git status --short",
            ),
        ),
        f'"Switch on {topic}" is reverted by a new commit; the rest of the history is unchanged.',
        script=create("tool", changes),
        env=ENV,
        check=check,
    )


def merge_conflict(rng: random.Random) -> Built:
    """A branch is merged; one conflict has a stated solution."""
    ours, theirs = rng.sample(range(20, 90), 2)
    name, extra = rng.sample(WORDS, 2)
    base = "retries = 3\ntimeout = 10\ncolor = auto\n"
    changes = [
        Change("chiara", _day(0), "Defaults", {"app.conf": base, "main.txt": prose(rng, 2)}),
        Change(
            "dario",
            _day(3),
            f"Timeout of {ours}",
            {"app.conf": base.replace("10", str(ours)), f"{extra}.txt": prose(rng, 1)},
        ),
    ]
    feature = base.replace("timeout = 10", f"timeout = {theirs}") + f"{name} = on\n"
    branch = [
        Change("elena", _day(1), f"Add {name}", {"app.conf": base + f"{name} = on\n", f"{name}.txt": prose(rng, 3)}),
        Change("elena", _day(2), f"Timeout for {name}", {"app.conf": feature}),
    ]
    larger = max(ours, theirs)
    merged = base.replace("timeout = 10", f"timeout = {larger}") + f"{name} = on\n"
    wanted = {
        "app.conf": merged,
        "main.txt": changes[0].files["main.txt"],
        f"{extra}.txt": changes[1].files[f"{extra}.txt"],
        f"{name}.txt": branch[0].files[f"{name}.txt"],
    }

    def check(look: Look) -> None:
        repository = Repository(look, "app")
        tip = repository.clean("main")
        same(_texts(repository, tip), wanted, "the files of main")
        if len(tip.parents) != 2:
            raise Wrong("the last commit of main is no merge")
        side = commit_ids([changes[0], *branch])[-1]
        same(tip.parents, (commit_ids(changes)[-1], side), "what was merged")
        same(repository.branch("feature").id, side, "the branch feature")

    return Built(
        ask(
            rng,
            "In the repository app/, merge the branch `feature` into main with a merge commit.",
            "There will be a conflict about the timeout in app.conf: the larger of the two values is right. Everything "
            "else of both sides is to be kept, with the lines in the order they have. Leave the branch `feature` "
            "as it is.",
        ),
        (
            (
                "See both sides.",
                "cd app && git log --oneline --all | cat && git diff main...feature -- app.conf && git diff "
                "feature...main -- app.conf",
            ),
            ("Merge.", "git merge --no-ff --no-edit feature"),
            ("As expected. What does the file look like?", "cat app.conf; git status --short"),
            (
                f"The larger timeout is {larger}.",
                f"sed -i -e '/^<<<<<<< /d' -e '/^=======$/d' -e '/^>>>>>>> /d' -e '/^timeout = "
                f"{min(ours, theirs)}$/d' app.conf && cat app.conf",
            ),
            (
                "The order matters: compare with both sides, then commit the merge.",
                "git add app.conf && git commit -q --no-edit && git log --format='%s' -n 1 && git status --short",
            ),
            ("No markers anywhere?", "grep -rlE '^(<<<<<<<|>>>>>>>)' --exclude-dir=.git . ; git ls-files"),
        ),
        f"feature is merged into main, with timeout = {larger}.",
        script=create("app", changes, feature=("main~1", branch)),
        env=ENV,
        check=check,
    )


def restore_deleted(rng: random.Random) -> Built:
    """A file that was deleted some commits ago comes back as it was last."""
    name = f"scripts/{rng.choice(WORDS)}.sh"
    versions = [f"#!/bin/sh\n# version {number}\necho {rng.choice(WORDS)}\n" for number in range(3)]
    changes = [Change("fabio", _day(0), "Start", {name: versions[0], "notes.md": prose(rng, 2)})]
    for number, version in enumerate(versions[1:], 1):
        changes.append(Change("greta", _day(number), f"Improve the script ({number})", {name: version}))
        changes.append(Change("henri", _day(number + 3), f"Notes ({number})", {"notes.md": prose(rng, 2)}))
    changes.append(Change("ines", _day(9), "Clean up", {name: None, f"data/{rng.choice(WORDS)}.csv": "a,b\n1,2\n"}))
    for number in range(2):
        changes.append(Change("jonas", _day(10 + number), f"More notes ({number})", {"notes.md": prose(rng, 3)}))
    wanted = {path: text for change in changes for path, text in change.files.items()} | {name: versions[-1]}

    def check(look: Look) -> None:
        repository = Repository(look, "ops")
        tip = repository.clean("main")
        same(_texts(repository, tip), wanted, "the files of main")
        _on_top(tip, changes)
        same(tip.subject, f"Restore {name}", "the message")

    return Built(
        ask(
            rng,
            f"Somebody deleted {name} from the repository ops/ by mistake. Bring it back with the content it had right "
            f"before it was deleted, in one commit on main with the message `Restore {name}`.",
            "Nothing else may change.",
        ),
        (
            ("When was it deleted?", f"cd ops && git log --format='%h %an %s' --diff-filter=D -- {name}"),
            ("All its versions, to be sure which one is the last.", f"git log --format='%h %s' -- {name}"),
            (
                "Take it from the parent of the deletion.",
                f'del="$(git rev-list -n 1 HEAD -- {name})" && git checkout -q "$del^" -- {name} && cat {name}',
            ),
            ("Only this file is staged?", "git status --short"),
            ("Commit.", f"git commit -q -m 'Restore {name}' && git show --stat --format=%s HEAD"),
        ),
        f"{name} is back in its last version.",
        script=create("ops", changes),
        env=ENV,
        check=check,
    )


def pick_fixes(rng: random.Random) -> Built:
    """The fixes of a branch go to the release branch, the features do not."""
    fixes, features = rng.sample(PRODUCTS, 3), rng.sample(WORDS, 3)
    files: dict[str, str | None] = {f"{name}.txt": f"{name}: broken\n" for name in fixes}
    changes = [Change("karla", _day(0), "Version 1", files)]
    for number, (fix, feature) in enumerate(zip(fixes, features, strict=True)):
        parts = [
            Change(
                rng.choice(PEOPLE),
                _day(2 + number),
                f"fix: {fix}",
                {f"{fix}.txt": f"{fix}: repaired {rng.randrange(99)}\n"},
            ),
            Change(rng.choice(PEOPLE), _day(3 + number), f"feature: {feature}", {f"new/{feature}.txt": prose(rng, 1)}),
        ]
        changes += parts if rng.random() < 0.5 else parts[::-1]
    release = [Change("leon", _day(20), "Release notes", {"NOTES.md": prose(rng, 2)})]
    wanted: dict[str, str | None] = {"NOTES.md": release[0].files["NOTES.md"]}
    for change in changes[1:]:
        wanted |= change.files if change.message.startswith("fix") else {}

    def check(look: Look) -> None:
        repository = Repository(look, "product")
        tip = repository.clean("release")
        same(_texts(repository, tip), wanted, "the files of release")
        order = [change.message for change in changes if change.message.startswith("fix")]
        found = [commit.subject for commit in repository.history(tip)]
        same(found, [*reversed(order), "Release notes", "Version 1"], "the history of release")
        same(repository.branch("main").id, commit_ids(changes)[-1], "main")
        authors = {change.message: f"{change.who.capitalize()} <{change.who}@example.org>" for change in changes}
        for commit in repository.history(tip)[: len(order)]:
            same(commit.author, authors[commit.subject], "the author of a fix")

    return Built(
        ask(
            rng,
            "In the repository product/, all commits of main whose message starts with `fix:` have to go onto the "
            "branch `release` as well, oldest first, with their authors and messages; the features must not.",
            "main stays as it is. Leave `release` checked out.",
        ),
        (
            (
                "What is on the branches?",
                "cd product && git log --format='%h %an %s' main && echo && git log --format='%h %s' release",
            ),
            (
                "The fixes, oldest first, that release lacks.",
                "git log --reverse --format=%s --grep='^fix:' release..main",
            ),
            (
                "Pick them in this order.",
                "git checkout -q release && git cherry-pick $(git rev-list --reverse --grep='^fix:' "
                "release..main) > /dev/null; git status -sb",
            ),
            ("Check history, authors and files.", "git log --format='%an: %s'; git ls-files"),
        ),
        "The three fixes are on release; main is unchanged.",
        script=create("product", changes, release=("main~6", release)),
        env=ENV,
        check=check,
    )


def count_authors(rng: random.Random) -> Built:
    """Commits by author in a range between a tag and the tip that touch one folder."""
    people = rng.sample(PEOPLE, 4)
    folder, start = rng.choice(("src", "lib", "server")), rng.randrange(7, 11)
    changes, count = [], Counter[str]()
    for number in range(26):
        who, where = rng.choice(people), rng.choice((folder, folder, "docs", f"{folder}-old"))
        file = f"{where}/{rng.choice(WORDS)}.txt"
        changes.append(Change(who, _day(number), f"Work {number} on {folder}", {file: f"{number}\n"}))
        count[who.capitalize()] += number > start and where == folder
    ranked = sorted(((who, number) for who, number in count.items() if number), key=lambda row: (-row[1], row[0]))
    wanted = [("author", "commits"), *ranked]
    command = f"git log --format=%an v1.0..main -- {folder}/ | sort | uniq -c | sort -k1,1nr -k2,2"

    def check(look: Look) -> None:
        repository = Repository(look, "code")
        same(sorted(repository.refs()), ["refs/heads/main", "refs/tags/v1.0"], "the branches and tags")
        same(repository.clean("main").id, commit_ids(changes)[-1], "the last commit of main")

    return Built(
        ask(
            rng,
            f"Who worked on {folder}/ since version 1.0? For the repository code/, count the commits on main after the "
            f"tag v1.0 that touch files below {folder}/, by author name.",
            "Write /root/work/authors.csv with the header `author,commits`, most commits first, equal counts by name. "
            "Do not change the repository.",
        ),
        (
            ("Overview.", "cd code && git tag && git rev-list --count main v1.0..main && ls"),
            (f"Only commits after the tag, only paths below {folder}/.", command),
            (
                "As CSV.",
                f"(echo author,commits; {command} | awk '{{ print $2 \",\" $1 }}') > ../authors.csv; cd .. && cat "
                f"authors.csv",
            ),
        ),
        f"authors.csv has the commits since v1.0 that touch {folder}/.",
        script=create("code", changes) + f"git -C code tag v1.0 main~{25 - start}\n",
        env=ENV,
        after={"authors.csv": table(wanted)},
        check=check,
    )


def stop_tracking(rng: random.Random) -> Built:
    """Generated files and a secret leave the repository but stay on disk."""
    secret = rng.choice((".env", "secrets.ini", "credentials.txt"))
    built = [f"build/{name}.o" for name in rng.sample(WORDS, 3)]
    tracked: dict[str, str | None] = {
        "main.c": "int main(void) { return 0; }\n",
        ".gitignore": "*.swp\n",
        "src/build.txt": "build notes\n",
    }
    private = {secret: f"token={rng.randrange(10**9)}\n", **{name: f"object {rng.random()}\n" for name in built}}
    changes = [
        Change("alba", _day(0), "Start", tracked),
        Change("bruno", _day(1), "First build", {**private}),
        Change("chiara", _day(2), "Readme", {"README.md": prose(rng, 2)}),
    ]

    def check(look: Look) -> None:
        repository = Repository(look, "firmware")
        tip = repository.clean("main")
        files = _texts(repository, tip)
        ignored = set(files.pop(".gitignore", "").split())
        same(
            files,
            {p: t for p, t in {**tracked, "README.md": changes[2].files["README.md"]}.items() if p != ".gitignore"},
            "the files of main",
        )
        if (
            not {"*.swp"} <= ignored
            or not {secret, f"/{secret}"} & ignored
            or not {"build/", "/build/", "build", "/build", "build/*"} & ignored
        ):
            raise Wrong(".gitignore does not name everything")
        _on_top(tip, changes)
        for path, text in private.items():
            same(look.text(f"firmware/{path}"), text, path)

    return Built(
        ask(
            rng,
            f"In the repository firmware/, {secret} and everything in the top-level folder build/ were committed by "
            "mistake. Make git stop tracking them, but keep the files on disk.",
            "Add both to .gitignore (keeping what is in it), and put all this in one commit on main. History need not "
            "be rewritten.",
        ),
        (
            ("What is tracked, what is ignored?", "cd firmware && git ls-files && cat .gitignore"),
            (
                "--cached takes them out of the index only.",
                f"git rm -r -q --cached {secret} build && printf '%s\\n' {secret} /build/ >> .gitignore",
            ),
            ("Check before committing.", "git add .gitignore && git status --short"),
            ("Commit.", f"git commit -q -m 'Stop tracking build results and {secret}' && git ls-files"),
            ("The files have to be there still, and ignored.", f"ls {secret} build; git status --short | wc -l"),
        ),
        f"{secret} and build/ are not tracked any more and ignored; the files are still on disk.",
        script=create("firmware", changes),
        env=ENV,
        check=check,
    )


TASKS: Sequence[Builder] = (
    blame_regression,
    revert_one,
    merge_conflict,
    restore_deleted,
    pick_fixes,
    count_authors,
    stop_tracking,
)
