"""Tasks about archives and compressed files: tar, zip, gzip, bzip2, xz, checksums, parts."""

from __future__ import annotations

import bz2
import hashlib
import io
import lzma
import random
import tarfile
import zipfile
import zlib
from collections.abc import Mapping, Sequence

from pivotgym.envs.terminal.bundled.draw import PEOPLE, PRODUCTS, SERVICES, WORDS, ask, prose
from pivotgym.envs.terminal.bundled.look import Look, Wrong, lines, same
from pivotgym.envs.terminal.bundled.spec import Builder, Built, Expected

_LIMIT = 8 << 20
"""Bytes an archive of the agent may unpack to."""
_MEMORY = 128 << 20
"""Bytes that taking a file apart may need; the dictionary of xz -9 has half of that."""
_TAR = "tar --sort=name --mtime='2024-02-01 12:00' --owner=0 --group=0 --numeric-owner"


def _pack(files: Mapping[str, str], command: str) -> str:
    """Bash source: writes files in a scratch folder, runs a command there, removes the folder."""
    parts = ["rm -rf /tmp/pack; mkdir /tmp/pack; cd /tmp/pack\n"]
    for folder in sorted({path.rpartition("/")[0] for path in files} - {""}):
        parts.append(f"mkdir -p '{folder}'\n")
    for path, content in files.items():
        parts.append(f"cat > '{path}' <<'END_OF_FILE'\n{content}END_OF_FILE\n")
    return (
        "".join(parts)
        + "find . -exec touch -h -d '2024-02-01 12:00' {} +\n"
        + command
        + "\ncd /root/work; rm -rf /tmp/pack\n"
    )


class _Member(tarfile.TarInfo):
    def _block(self, count: int) -> int:
        # A negative size would make tarfile read the same header for ever.
        if count < 0:
            raise tarfile.ReadError("a negative size")
        return int(super()._block(count))  # type: ignore[misc]


def _unpacked(data: bytes, kind: str) -> bytes:
    # Bounded: what the agent leaves behind may be small and unpack to more than this machine holds.
    if kind == "gz":
        unzip = zlib.decompressobj(31)
        plain, done = unzip.decompress(data, _LIMIT), unzip.eof
    else:
        unpack = bz2.BZ2Decompressor() if kind == "bz2" else lzma.LZMADecompressor(memlimit=_MEMORY)
        plain, done = unpack.decompress(data, _LIMIT), unpack.eof
    if not done:
        raise Wrong("the archive is cut off or too large")
    return plain


def _tar(data: bytes, kind: str) -> dict[str, bytes]:
    """The files of a tar archive that has to be compressed in that way, ``""`` for not at all. Raises Wrong."""
    try:
        plain = _unpacked(data, kind) if kind else data
        with tarfile.open(fileobj=io.BytesIO(plain), mode="r:", tarinfo=_Member) as archive:
            members = [member for member in archive.getmembers() if not member.isdir()]
            if not all(member.isfile() and not member.issparse() for member in members):
                raise Wrong("there are other things than files in the archive")
            return {m.name.removeprefix("./"): (archive.extractfile(m) or io.BytesIO()).read() for m in members}
    except Wrong:
        raise
    except Exception as error:  # whatever these bytes make the reader do, the agent wrote them
        raise Wrong(f"this is no tar archive compressed with {kind}: {error}") from error


def _zip(data: bytes) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if sum(member.file_size for member in archive.infolist()) > _LIMIT:
                raise Wrong("the archive is too large")
            return {m.filename: archive.read(m) for m in archive.infolist() if not m.filename.endswith("/")}
    except Wrong:
        raise
    except Exception as error:  # as above: a broken file, an unknown method, a password …
        raise Wrong(f"this is no zip archive: {error}") from error


def _encoded(files: Mapping[str, str]) -> dict[str, bytes]:
    return {path: content.encode() for path, content in files.items()}


def zip_to_tar(rng: random.Random) -> Built:
    """A zip archive becomes a tar archive with other compression, without some members."""
    kind, flag = rng.choice((("gz", "z"), ("xz", "J"), ("bz2", "j")))
    name = rng.choice(WORDS)
    keep = {
        f"{name}/{rng.choice(('src', 'doc', 'doc/img'))}/{word}{number}.txt": prose(rng, 2)
        for number, word in enumerate(rng.sample(WORDS, 7))
    }
    keep[f"{name}/__MACOSX.txt"] = "a file with an odd name that is to be kept\n"
    drop = {f"{name}/.DS_Store": "x\n", f"{name}/doc/.DS_Store": "y\n", f"__MACOSX/{name}/._a": "z\n"}

    def check(look: Look) -> None:
        same(
            sorted(_tar(look.bytes(f"{name}.tar.{kind}"), kind).items()), sorted(_encoded(keep).items()), "the archive"
        )
        same(_zip(look.bytes("delivery.zip")), _encoded({**keep, **drop}), "delivery.zip")

    return Built(
        ask(
            rng,
            f"Repack delivery.zip as {name}.tar.{kind} (members named {name}/... as in the zip file).",
            "Leave out the rubbish of a Mac: files called .DS_Store at any depth and the folder __MACOSX at the top. "
            "Keep delivery.zip.",
        ),
        (
            ("What is in it?", "unzip -Z1 delivery.zip | sort"),
            (
                "Unpack to a scratch folder without the unwanted members.",
                "mkdir /tmp/repack && unzip -q delivery.zip -x '__MACOSX/*' '*.DS_Store' -d /tmp/repack && find "
                "/tmp/repack -type f | sort",
            ),
            (
                "Pack again from inside, so that the names stay.",
                f"tar -C /tmp/repack -c{flag}f {name}.tar.{kind} {name} && rm -r /tmp/repack",
            ),
            (
                "Check the members and that the archive is sound.",
                f"tar -t{flag}f {name}.tar.{kind} | grep -v '/$' | sort; ls",
            ),
        ),
        f"{name}.tar.{kind} has the {len(keep)} files that belong to it.",
        script=_pack({**keep, **drop}, f"zip -q -X -r /root/work/delivery.zip '{name}' __MACOSX"),
        check=check,
    )


def nested_archives(rng: random.Random) -> Built:
    """A file three archives deep comes out, nothing else does."""
    service, code = rng.choice(SERVICES), rng.randrange(10**5)
    inner = {f"etc/{service}.conf": f"# {service}\ncode = {code}\n" + prose(rng, 2), "etc/other.conf": prose(rng, 1)}
    path = f"nightly/{rng.choice(WORDS)}"
    command = (
        f"{_TAR} -cjf inner.tar.bz2 etc; mkdir -p {path}; mv inner.tar.bz2 {path}/config.tar.bz2\n"
        f"echo old > {path}/config.old; zip -q -X -r day.zip nightly; mkdir dump; mv day.zip "
        f"dump/{rng.choice(WORDS)}.zip\n"
        f"{_TAR} -cJf /root/work/backup.tar.xz dump"
    )

    def check(look: Look) -> None:
        same(look.files("."), ["backup.tar.xz", f"restored/{service}.conf"], "what is in the work directory")
        days = list(_tar(look.bytes("backup.tar.xz"), "xz").values())
        same(len(days), 1, "backup.tar.xz")
        same(_tar(_zip(days[0]).get(f"{path}/config.tar.bz2", b""), "bz2"), _encoded(inner), "backup.tar.xz")

    return Built(
        ask(
            rng,
            f"Somewhere inside backup.tar.xz, in archives within archives, there is the file {service}.conf. Put it "
            f"into restored/{service}.conf (content unchanged).",
            "Leave nothing else behind in the work directory; backup.tar.xz stays.",
        ),
        (
            ("The outermost level.", "tar -tJf backup.tar.xz"),
            (
                "A zip archive. Work in a scratch folder.",
                "mkdir /tmp/x && tar -xJf backup.tar.xz -C /tmp/x && unzip -Z1 /tmp/x/dump/*.zip | sort",
            ),
            ("One more level.", "unzip -q /tmp/x/dump/*.zip -d /tmp/x && tar -tjf /tmp/x/nightly/*/config.tar.bz2"),
            (
                "Extract only the wanted file.",
                f"mkdir restored && tar -xjOf /tmp/x/nightly/*/config.tar.bz2 etc/{service}.conf > "
                f"restored/{service}.conf && rm -r /tmp/x",
            ),
            ("Look at it.", f"cat restored/{service}.conf; find . -type f | sort"),
        ),
        f"restored/{service}.conf is out of the archives.",
        script=_pack(inner, command),
        after={f"restored/{service}.conf": inner[f"etc/{service}.conf"]},
        check=check,
    )


def pick_members(rng: random.Random) -> Built:
    """Only some members of an archive are extracted, into one flat folder."""
    year = rng.choice((2022, 2023))
    members, after = {}, dict[str, Expected]()
    for number, name in enumerate(rng.sample(WORDS, 12)):
        when = rng.choice((year, year - 1, year + 1)) if number else year
        path = f"invoices/{rng.choice(PEOPLE)}/{when}/{name}{number}.{'csv' if number % 4 else 'pdf'}"
        members[path] = prose(rng, 2)
        if when == year and path.endswith(".csv"):
            after[f"selected/{path.rsplit('/', 1)[1]}"] = members[path]
    extra = f"invoices/{rng.choice(PEOPLE)}/{year}/always.csv"
    members[extra] = after["selected/always.csv"] = f"year,{year}\n"
    members[f"invoices/{year}/total.csv"] = "not of one customer\n"
    pattern = f"invoices/*/{year}/*.csv"

    def check(look: Look) -> None:
        same(look.files("."), sorted(["invoices.tar.gz", *after]), "what is in the work directory")
        same(_tar(look.bytes("invoices.tar.gz"), "gz"), _encoded(members), "invoices.tar.gz")

    return Built(
        ask(
            rng,
            f"From invoices.tar.gz extract all CSV files of {year}, that is invoices/CUSTOMER/{year}/*.csv, into the "
            "folder selected/, without the folders above them (the names are unique).",
            "Extract nothing else.",
        ),
        (
            ("List the archive.", "tar -tzf invoices.tar.gz | sort"),
            ("The matching members.", f"tar -tzf invoices.tar.gz --wildcards '{pattern}' | sort"),
            (
                "Three leading folders go.",
                f"mkdir selected && tar -xzf invoices.tar.gz -C selected --strip-components=3 --wildcards "
                f"'{pattern}' && find selected | sort",
            ),
        ),
        f"The {len(after)} CSV files of {year} are in selected/.",
        script=_pack(members, f"{_TAR} -czf /root/work/invoices.tar.gz invoices"),
        after=after,
        check=check,
    )


def quarantine_corrupt(rng: random.Random) -> Built:
    """Archives are tested against checksums; those that fail are moved, and one has no checksum."""
    names = [f"{word}-{number}.dat" for number, word in enumerate(rng.sample(WORDS, 9))]
    files = {f"downloads/{name}": prose(rng, 3) for name in names}
    sums = {name: hashlib.sha256(files[f"downloads/{name}"].encode()).hexdigest() for name in names}
    bad = sorted(rng.sample(names[:-1], 3))
    for name in bad:
        text = files[f"downloads/{name}"]
        files[f"downloads/{name}"] = text[:7] + ("#" if text[7] != "#" else "+") + text[8:]
    order = names[:-1]
    rng.shuffle(order)
    files["downloads/SHA256SUMS"] = "".join(f"{sums[name]}  {name}\n" for name in order)
    after: dict[str, Expected] = {f"downloads/{name}": None for name in bad}
    after.update({f"corrupt/{name}": files[f"downloads/{name}"] for name in bad})
    after["corrupt/LIST"] = lines(bad)
    failed = "sha256sum -c SHA256SUMS 2> /dev/null | sed -n 's/: FAILED$//p' | sort"
    return Built(
        ask(
            rng,
            "downloads/SHA256SUMS gives the checksums of the files in downloads/. Move every file whose checksum is "
            "wrong to corrupt/ and list their names there in corrupt/LIST (sorted, one a line).",
            "A file without a checksum stays where it is, and SHA256SUMS is not changed.",
        ),
        (
            ("Test all.", "cd downloads && ls && sha256sum -c SHA256SUMS"),
            ("Names of those that failed.", failed),
            (
                "List and move them.",
                f"mkdir ../corrupt && {failed} > ../corrupt/LIST && xargs -d '\\n' -I{{}} mv {{}} ../corrupt/ < "
                f"../corrupt/LIST",
            ),
            (
                "Check: the rest is sound, the others are gone.",
                "sha256sum --ignore-missing -c SHA256SUMS; cd ..; ls downloads corrupt; cat corrupt/LIST",
            ),
        ),
        f"{len(bad)} corrupt files are in corrupt/.",
        files=files,
        after=after,
        closed=("downloads", "corrupt"),
    )


def backup_project(rng: random.Random) -> Built:
    """A backup without caches and logs, with a checksum file that verifies."""
    kind, flag = rng.choice((("xz", "J"), ("gz", "z"), ("bz2", "j")))
    name = rng.choice(PRODUCTS)
    keep = {
        f"{name}/{folder}{word}.py": prose(rng, 2)
        for folder, word in zip(("", "core/", "core/", "tests/", "cache_tools/"), rng.sample(WORDS, 5), strict=True)
    }
    keep[f"{name}/.settings"] = "hidden=1\n"
    keep[f"{name}/core/catalog.txt"] = "not a log\n"
    drop = {
        f"{name}/core/cache/{rng.choice(WORDS)}.bin": "1\n",
        f"{name}/cache/a.bin": "2\n",
        f"{name}/run.log": "3\n",
        f"{name}/tests/out.log": "4\n",
    }
    target = f"{name}-backup.tar.{kind}"

    def check(look: Look) -> None:
        data = look.bytes(f"backups/{target}")
        same(sorted(_tar(data, kind).items()), sorted(_encoded(keep).items()), "the archive")
        words = look.text(f"backups/{target}.sha256").split()
        same(words, [hashlib.sha256(data).hexdigest(), target], "the checksum file")

    return Built(
        ask(
            rng,
            f"Back up the folder {name}/ as backups/{target}, with members named {name}/... and without any folder "
            "named cache (and what is in it) and any *.log file, at every depth. Hidden files belong to it.",
            f"Beside it write backups/{target}.sha256 in the format of sha256sum, so that `sha256sum -c` works inside "
            f"backups/. {name}/ itself stays as it is.",
        ),
        (
            ("What is there?", f"find {name} -type f | sort"),
            (
                "Make the archive; the patterns of --exclude match at every depth.",
                f"mkdir backups && tar -c{flag}f backups/{target} --exclude=cache --exclude='*.log' {name}",
            ),
            (
                "Check the members: cache_tools and catalog.txt must be there.",
                f"tar -t{flag}f backups/{target} | grep -v '/$' | sort",
            ),
            (
                "The checksum with a name that is right inside backups/.",
                f"cd backups && sha256sum {target} > {target}.sha256 && sha256sum -c {target}.sha256; cd ..",
            ),
        ),
        f"backups/{target} and its checksum are made.",
        files={**keep, **drop},
        check=check,
        closed=(name,),
    )


def update_zip(rng: random.Random) -> Built:
    """One member of a zip archive is replaced, one deleted, the others stay."""
    version = f"{rng.randrange(2, 9)}.{rng.randrange(10)}"
    members = {f"plugin/{word}.txt": prose(rng, 2) for word in rng.sample(WORDS, 6)}
    members["plugin/manifest.ini"] = "[plugin]\nname = sample\nversion = 1.0\nrequires = 1.0\n"
    obsolete = f"plugin/old/{rng.choice(PRODUCTS)}.txt"
    members[obsolete] = prose(rng, 1)
    members["docs/manifest.ini"] = "version = 1.0\n"
    wanted = {path: text for path, text in members.items() if path != obsolete}
    wanted["plugin/manifest.ini"] = members["plugin/manifest.ini"].replace("version = 1.0", f"version = {version}")

    def check(look: Look) -> None:
        same(sorted(_zip(look.bytes("plugin.zip")).items()), sorted(_encoded(wanted).items()), "plugin.zip")
        same(look.files("."), ["plugin.zip"], "the work directory")

    return Built(
        ask(
            rng,
            f"In plugin.zip, change the version in plugin/manifest.ini to {version} (only the line `version = "
            f"...`) and "
            f"remove {obsolete}.",
            "All other members stay, under the same names. Leave nothing but plugin.zip in the work directory.",
        ),
        (
            ("Members and manifest.", "unzip -Z1 plugin.zip | sort; unzip -p plugin.zip plugin/manifest.ini"),
            (
                "Edit the one member in a scratch folder.",
                f"mkdir /tmp/z && unzip -q plugin.zip plugin/manifest.ini -d /tmp/z && sed -i 's/^version = "
                f".*/version = {version}/' /tmp/z/plugin/manifest.ini",
            ),
            (
                "Put it back under the same name and delete the other.",
                f'zip="$PWD/plugin.zip"; (cd /tmp/z && zip -q "$zip" plugin/manifest.ini) && zip -q -d plugin.zip '
                f"{obsolete}; rm -r /tmp/z",
            ),
            (
                "Verify.",
                "unzip -tq plugin.zip; unzip -Z1 plugin.zip | sort; unzip -p plugin.zip plugin/manifest.ini; ls",
            ),
        ),
        f"plugin.zip has version {version} and no {obsolete}.",
        script=_pack(members, "zip -q -X -r /root/work/plugin.zip plugin docs"),
        check=check,
    )


def join_parts(rng: random.Random) -> Built:
    """Parts of an archive, one of them twice, are joined after their checksums and unpacked."""
    name = rng.choice(PRODUCTS)
    files = {f"{name}/{rng.choice(('a', 'b'))}/{word}.txt": f"{rng.random()}\n" * 12 for word in rng.sample(WORDS, 8)}
    wrong = rng.randrange(1, 3)
    command = (
        f"{_TAR} -cf whole.tar {name}\nmkdir /root/work/parts\nsplit -n 4 -d -a 1 whole.tar "
        f"/root/work/parts/{name}.tar.\n"
        f"cd /root/work/parts\nsha256sum {name}.tar.0 {name}.tar.1 {name}.tar.2 {name}.tar.3 > ../parts.sha256\n"
        f"mv {name}.tar.{wrong} {name}.tar.{wrong}.retry\nhead -c 900 {name}.tar.{wrong}.retry > {name}.tar.{wrong}"
    )

    def check(look: Look) -> None:
        same(look.files(f"out/{name}"), sorted(path.removeprefix(f"{name}/") for path in files), f"out/{name}")
        same(look.files("out"), sorted(files), "out")
        sound = [f"parts/{name}.tar.{number}{'.retry' * (number == wrong)}" for number in range(4)]
        same(_tar(b"".join(look.bytes(path) for path in sound), ""), _encoded(files), "the sound parts")
        same(len(look.bytes(f"parts/{name}.tar.{wrong}")), 900, "the damaged part")
        same(len(look.text("parts.sha256").splitlines()), 4, "parts.sha256")

    return Built(
        ask(
            rng,
            f"The archive {name}.tar came in four parts, parts/{name}.tar.0 to .3; parts.sha256 has their "
            f"checksums. One "
            "part was damaged on the way and was sent again, with .retry at the end of its name.",
            f"Put the archive together from the right parts and unpack it into out/ (so that there is out/{name}/...). "
            "Do not change parts/ and parts.sha256.",
        ),
        (
            ("What came?", "ls parts; cat parts.sha256 | cut -c65-"),
            (
                "Which part is damaged?",
                "cd parts && sha256sum -c ../parts.sha256; sha256sum *.retry | cut -c1-64 | grep -f - "
                "../parts.sha256 | cut -c67-; cd ..",
            ),
            (
                f"The retry is right for part {wrong}. Join in order and unpack.",
                f"mkdir out && cat "
                f"{' '.join(f'parts/{name}.tar.{n}' + ('.retry' if n == wrong else '') for n in range(4))} | tar "
                f"-xf - -C out",
            ),
            ("See what came out.", "find out -type f | sort; ls parts"),
        ),
        f"out/{name}/ is unpacked from the four sound parts.",
        script=_pack(files, command),
        after={f"out/{path}": content for path, content in files.items()},
        check=check,
    )


TASKS: Sequence[Builder] = (
    zip_to_tar,
    nested_archives,
    pick_members,
    quarantine_corrupt,
    backup_project,
    update_zip,
    join_parts,
)
