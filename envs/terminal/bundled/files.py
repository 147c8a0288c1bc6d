"""Tasks about files and folders: sorting, renaming, deduplicating, linking, mirroring."""

from __future__ import annotations

import random
from collections.abc import Sequence

from pivotgym.envs.terminal.bundled.draw import PEOPLE, WORDS, ask, prose
from pivotgym.envs.terminal.bundled.look import Look, Wrong, lines, same
from pivotgym.envs.terminal.bundled.spec import Builder, Built, Expected


def photos_by_month(rng: random.Random) -> Built:
    """Pictures go to folders by the date in their names; other files stay."""
    folder = rng.choice(("camera", "inbox", "import"))
    files: dict[str, str] = {}
    after: dict[str, Expected] = {}
    months = rng.sample(range(1, 13), 3)
    for number in range(12):
        year, month, day = rng.choice((2022, 2023)), rng.choice(months), rng.randrange(1, 29)
        name = f"IMG_{year}{month:02}{day:02}_{number:04}.{rng.choice(('jpg', 'jpg', 'JPG'))}"
        files[f"{folder}/{name}"] = content = f"picture {number} {rng.random()}\n"
        after[f"{folder}/{name}"] = None
        after[f"photos/{year}/{month:02}/{name}"] = content
    files[f"{folder}/notes.txt"] = prose(rng, 2)
    files[f"{folder}/VID_20230101_0001.mp4"] = "video\n"
    files[f"{folder}/IMG_edited.jpg"] = "no date in this one\n"
    move = (
        f"cd {folder}\n"
        "for f in IMG_[0-9]*_*.[jJ][pP][gG]; do\n"
        '  d="${f#IMG_}"; dir="../photos/${d:0:4}/${d:4:2}"\n'
        '  mkdir -p "$dir" && mv -n "$f" "$dir/"\n'
        "done\ncd .."
    )
    return Built(
        ask(
            rng,
            f"In {folder}/ there are pictures named IMG_YYYYMMDD_NNNN.jpg (some end in .JPG). Move each of them to "
            "photos/YYYY/MM/ according to the date in its name, keeping the file name.",
            f"Everything else in {folder}/ stays where it is, and create no folders for months without pictures.",
        ),
        (
            ("Let me look at what is there first.", f"ls {folder}"),
            ("The date is at a fixed place in the name, so substrings are enough.", move),
            ("Now see what is left and where the pictures went.", f"ls {folder}; find photos -type f | sort"),
            ("Twelve pictures should have moved.", "find photos -type f | wc -l"),
        ),
        f"All 12 dated pictures are in photos/YYYY/MM; the other files are still in {folder}/.",
        files=files,
        after=after,
        closed=(folder, "photos"),
    )


def remove_duplicates(rng: random.Random) -> Built:
    """Of files with equal content only the first by path stays."""
    contents = [prose(rng, rng.randrange(1, 4)) for _ in range(7)]
    folders = ("archive", "documents", "documents/old", "mail")
    files: dict[str, str] = {}
    for number in range(18):
        name = f"{rng.choice(WORDS)}-{number:02}.txt"
        files[f"store/{rng.choice(folders)}/{name}"] = contents[number if number < 7 else rng.randrange(7)]
    # Same size, other content: sizes alone must not decide.
    files["store/archive/size-a.txt"], files["store/mail/size-b.txt"] = "abcdef\n", "abcdeg\n"
    first: dict[str, str] = {}
    for path in sorted(files):
        first.setdefault(files[path], path)
    gone = sorted(path for path in files if path not in first.values())
    remove = "find store -type f -print0 | sort -z | xargs -0 sha256sum | awk 'seen[$1]++ { print $2 }' > removed.txt"
    return Built(
        ask(
            rng,
            "store/ holds many text files, some of them with exactly the same content under different names.",
            "Of each group of identical files keep only the one whose path comes first in plain byte order "
            "(LC_ALL=C) and delete the others. List the deleted paths, relative to the current directory "
            "(store/...), sorted, one a line, in removed.txt.",
        ),
        (
            ("How many files, and how many different contents?", "find store -type f | sort"),
            (
                "Hashes show the groups.",
                "find store -type f -exec sha256sum {} + | cut -c1-12 | sort | uniq -c | sort -rn",
            ),
            ("Sorted by path, every repeated hash marks a file to delete. I write the list before deleting.", remove),
            ("Check the list.", "cat removed.txt"),
            ("It is right; delete exactly these.", "xargs -d '\\n' rm -- < removed.txt"),
            (
                "No content may be left twice.",
                "find store -type f -exec sha256sum {} + | cut -d' ' -f1 | sort | uniq -d | wc -l",
            ),
        ),
        f"Deleted {len(gone)} duplicates; they are listed in removed.txt.",
        files=files,
        after={**dict.fromkeys(gone), "removed.txt": lines(gone)},
        closed=("store",),
    )


def tidy_names(rng: random.Random) -> Built:
    """Names without blanks, brackets and capitals, in a nested tree."""
    kinds = ("Report", "Meeting Notes", "Budget", "Slides", "Offer")
    files: dict[str, str] = {}
    after: dict[str, Expected] = {}
    for number in range(9):
        name = (
            f"{rng.choice(kinds)} {rng.choice(PEOPLE).title()} Q{rng.randrange(1, 5)} "
            f"({number}).{rng.choice(('TXT', 'md'))}"
        )
        folder = rng.choice(("shared", "shared/2023", "shared/drafts"))
        content = prose(rng, 2)
        new = name.lower().replace(" ", "_").replace("(", "").replace(")", "")
        files[f"{folder}/{name}"], after[f"{folder}/{new}"] = content, content
        after[f"{folder}/{name}"] = None
    files["shared/readme.md"] = "Fine as it is.\n"
    files["other/Do Not Touch (1).txt"] = "outside\n"
    rename = (
        "find shared -type f -print0 | sort -z | while IFS= read -r -d '' f; do\n"
        '  base="${f##*/}"\n'
        "  new=\"$(printf '%s' \"$base\" | tr 'A-Z ' 'a-z_' | tr -d '()')\"\n"
        '  [ "$base" = "$new" ] || mv -n -- "$f" "${f%/*}/$new"\n'
        "done"
    )
    return Built(
        ask(
            rng,
            "Please clean up the file names below shared/ (all levels): lower case only, every blank replaced by an "
            "underscore, round brackets removed. So `Budget Elena Q2 (3).TXT` becomes `budget_elena_q2_3.txt`.",
            "Contents and folders stay as they are, and nothing outside shared/ is renamed.",
        ),
        (
            ("Look at the names as they are.", "find shared other -type f | sort"),
            ("tr does all three changes on the base name; -print0 because of the blanks.", rename),
            ("Check the result.", "find shared -type f | sort"),
            (
                "Nothing with capitals, blanks or brackets should be left.",
                "find shared -type f -name '*[A-Z ()]*' | wc -l",
            ),
        ),
        "All names below shared/ are in lower case, without blanks and brackets.",
        files=files,
        after=after,
        closed=("shared", "other"),
    )


def expire_logs(rng: random.Random) -> Built:
    """Old logs are deleted by modification time unless they are pinned."""
    year = rng.choice((2021, 2022, 2023))
    month = rng.randrange(3, 11)
    files, script, names = {}, "", []
    after: dict[str, Expected] = {}
    for number in range(14):
        name = f"{rng.choice(('app', 'db', 'web'))}/{rng.choice(WORDS)}{number}.{'log' if number % 5 else 'txt'}"
        when = month + rng.choice((-2, -1, 0, 1))
        files[f"logs/{name}"] = prose(rng, 1)
        script += f"touch -d '{year}-{when:02}-{rng.randrange(2, 28):02} 12:00' logs/{name}\n"
        if when < month and name.endswith(".log"):
            names.append(f"logs/{name}")
    for index, offset in enumerate((-1, -2)):  # there is always something to delete
        name = f"logs/web/extra{index}.log"
        files[name] = prose(rng, 1)
        script += f"touch -d '{year}-{month + offset:02}-15 08:00' {name}\n"
        names.append(name)
    files["logs/db/schema.txt"] = prose(rng, 1)
    script += f"touch -d '{year}-{month - 1:02}-20 09:30' logs/db/schema.txt\n"
    pinned = sorted(rng.sample(names, 2)) if len(names) > 3 else names[:1]
    files["pinned.txt"] = "\n".join([*pinned, "logs/app/long-gone.log"]) + "\n"
    after.update(dict.fromkeys(name for name in names if name not in pinned))
    date = f"{year}-{month:02}-01"
    old = f"find logs -type f -name '*.log' ! -newermt {date} | sort"
    return Built(
        ask(
            rng,
            f"Delete all *.log files below logs/ that were last modified before {date} (00:00 UTC), except those "
            "listed in pinned.txt. Files that do not end in .log stay whatever their age.",
        ),
        (
            (
                "First the list of pinned files and the modification dates.",
                "cat pinned.txt; find logs -type f -printf '%TF %p\\n' | sort",
            ),
            (f"Candidates: logs not modified since {date}.", old),
            ("Without the pinned ones.", f"{old} | grep -vxFf pinned.txt | tee /tmp/expired.txt"),
            ("That is the list to delete.", "xargs -r -d '\\n' rm -- < /tmp/expired.txt; rm /tmp/expired.txt"),
            ("What is left of that age should be pinned or no log.", f"find logs -type f ! -newermt {date} | sort"),
        ),
        f"Removed {len(names) - len(pinned)} old logs; the pinned ones and all other files are still there.",
        files=files,
        script=script,
        after=after,
        closed=("logs",),
    )


def repair_links(rng: random.Random) -> Built:
    """Dangling links into a folder that was renamed point into the new one again, as relative links."""
    old, new = rng.choice((("v1", "v2"), ("release-old", "release"), ("data", "dataset")))
    names = rng.sample(WORDS, 6)
    files = {f"{new}/{rng.choice(('a', 'b'))}/{name}.cfg": f"name={name}\n" for name in names}
    links = {f"links/{path.rsplit('/', 1)[1]}": f"../{path}" for path in files}
    files["shared/common.cfg"] = "name=common\n"
    script = "mkdir links\n"
    for link, target in links.items():
        script += f"ln -s /root/work/{old}{target.removeprefix(f'../{new}')} {link}\n"
    script += "ln -s ../shared/common.cfg links/common.cfg\nln -s /root/work/gone/lost.cfg links/lost.cfg\n"
    kept = {"common.cfg": "../shared/common.cfg", "lost.cfg": "/root/work/gone/lost.cfg"}
    repair = (
        "cd links\n"
        "for l in *; do\n"
        '  t="$(readlink "$l")"\n'
        f'  case "$t" in /root/work/{old}/*) ln -sfn "../{new}/${{t#/root/work/{old}/}}" "$l";; esac\n'
        "done\ncd .."
    )

    def check(look: Look) -> None:
        wanted = {**{link.removeprefix("links/"): target for link, target in links.items()}, **kept}
        found = {path: entry for path, entry in look.tree("links").items() if path}
        same({path: entry.target for path, entry in found.items()}, wanted, "links/")
        if any(entry.kind != "link" for entry in found.values()):
            raise Wrong("there are not only links in links/")

    return Built(
        ask(
            rng,
            f"The folder {old}/ was renamed to {new}/, and now the symbolic links in links/ that pointed into {old}/ "
            "are broken.",
            f"Make each of them point to the same file in {new}/ again, as a relative link (../{new}/...). Leave the "
            "links that never pointed there alone, broken or not, and change no regular file.",
        ),
        (
            ("See where the links point.", "find links -type l -printf '%p -> %l\\n' | sort"),
            ("And which of them are broken.", "find links -xtype l | sort"),
            (f"Do the targets exist in {new}?", f"find {new} -type f | sort"),
            (f"Replace only links into {old}; -n so that a link is never followed.", repair),
            ("Verify.", "find links -type l -printf '%p -> %l\\n' | sort; echo broken:; find links -xtype l"),
        ),
        f"The links into {old}/ point into {new}/ now. links/lost.cfg was broken for another reason and is as it was.",
        files=files,
        script=script,
        check=check,
        closed=(new, "shared"),
    )


def largest_files(rng: random.Random) -> Built:
    """A report of the largest files, hidden ones included."""
    count = rng.choice((4, 5, 6))
    sizes = rng.sample(range(100, 1500), 14)
    files = {}
    for number, size in enumerate(sizes):
        folder = rng.choice(("project/src", "project/docs/img", "project/.cache", "project"))
        name = f"{rng.choice(WORDS)} {number}.bin" if number % 4 == 0 else f"{rng.choice(WORDS)}{number}.bin"
        files[f"{folder}/{name}"] = "x" * size
    files["outside.bin"] = "x" * 1600
    ranked = sorted(files, key=lambda path: (-len(files[path]), path))
    wanted = [f"{len(files[path])}\t{path}" for path in ranked if path.startswith("project/")][:count]
    report = f"find project -type f -printf '%s\\t%p\\n' | sort -k1,1nr | head -n {count}"
    return Built(
        ask(
            rng,
            f"Which are the {count} largest regular files below project/ (hidden folders included)? Write them to "
            "largest.txt, largest first, one a line: size in bytes, a tab, path beginning with project/.",
        ),
        (
            ("What is there?", "find project -type d | sort; find project -type f | wc -l"),
            ("find prints exact sizes and looks into hidden folders as well.", report),
            ("That is the format asked for.", f"{report} > largest.txt"),
            ("Check for tabs and the number of lines.", "cat -A largest.txt"),
        ),
        f"largest.txt lists the {count} largest files of project/.",
        files=files,
        after={"largest.txt": lines(wanted)},
    )


def mirror(rng: random.Random) -> Built:
    """A folder becomes an exact copy of another one, but for some names."""
    source, copy = rng.choice((("site", "backup"), ("master", "replica"), ("current", "mirror")))
    skip = rng.choice(("*.tmp", "*.swp", "*.part"))
    files: dict[str, str] = {}
    after: dict[str, Expected] = {}
    for number in range(12):
        path = f"{rng.choice(('', 'css/', 'img/icons/', 'pages/'))}{rng.choice(WORDS)}{number}.html"
        files[f"{source}/{path}"] = content = prose(rng, 2)
        if number % 3 == 0:
            files[f"{copy}/{path}"] = content
        elif number % 3 == 1:
            files[f"{copy}/{path}"] = prose(rng, 1)
        after[f"{copy}/{path}"] = content
    for number in range(3):
        files[f"{copy}/old/{rng.choice(WORDS)}{number}.html"] = prose(rng, 1)
    after.update({path: None for path in files if path.startswith(f"{copy}/old/")})
    for number in range(2):
        files[f"{source}/pages/draft{number}{skip[1:]}"] = "unfinished\n"

    def check(look: Look) -> None:
        folders = sorted(path for path, entry in look.tree(copy).items() if entry.kind == "directory")
        wanted = {""} | {p.rpartition("/")[0].removeprefix(copy).lstrip("/") for p in after if after[p] is not None}
        wanted |= {path.rpartition("/")[0] for path in wanted}
        same(folders, sorted(wanted), f"folders of {copy}/")

    return Built(
        ask(
            rng,
            f"Make {copy}/ an exact mirror of {source}/: files that are missing or different are copied, whatever is "
            f"only in {copy}/ (files and folders) is deleted.",
            f"Files named {skip} are not to be mirrored. {source}/ itself is not changed. You cannot count on rsync.",
        ),
        (
            ("What differs now?", f"diff -rq {source} {copy}"),
            (
                "The simplest exact way is to rebuild the copy with tar, which can leave names out.",
                f"rm -rf {copy} && mkdir {copy} && tar -C {source} --exclude='{skip}' -cf - . | tar -C {copy} -xf -",
            ),
            ("Only the files left out may differ now.", f"diff -rq {source} {copy}"),
            (
                "And their count should be the same otherwise.",
                f"find {source} -type f ! -name '{skip}' | wc -l; find {copy} -type f | wc -l",
            ),
        ),
        f"{copy}/ is the same as {source}/ now, without {skip}.",
        files=files,
        after=after,
        closed=(source, copy),
        check=check,
    )


TASKS: Sequence[Builder] = (
    photos_by_month,
    remove_duplicates,
    tidy_names,
    expire_logs,
    repair_links,
    largest_files,
    mirror,
)
