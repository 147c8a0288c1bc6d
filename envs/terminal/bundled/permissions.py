"""Tasks about permission bits: trees, world-writable files, keys, shared folders, setuid, umask, manifests."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from pivotgym.envs.terminal.bundled.draw import PEOPLE, PRODUCTS, SERVICES, WORDS, ask, prose
from pivotgym.envs.terminal.bundled.look import Look, lines, modes, same
from pivotgym.envs.terminal.bundled.spec import Builder, Built

_SHOW = "-printf '%m %p\\n' | sort -k2"


def _chmod(root: str, bits: Mapping[str, int]) -> str:
    """Bash source that gives a tree these modes; folders that are not there are made, files have to be."""
    folders = [path for path in bits if path.endswith("/") or not path]
    made = "".join(f"mkdir -p '{root}/{path}'\n" for path in folders)
    # Deepest first: a folder may lose the right to be entered.
    order = sorted(bits, key=lambda path: -path.count("/"))
    return made + "".join(f"chmod {bits[path]:04o} '{root}/{path}'\n" for path in order)


def _plain(bits: Mapping[str, int]) -> dict[str, int]:
    return {path.rstrip("/"): mode for path, mode in bits.items()}


def web_tree(rng: random.Random) -> Built:
    """Folders, pages and scripts of a site get their usual modes; the neighbour stays."""
    site, other = rng.choice((("htdocs", "upload"), ("public", "private"), ("www", "intranet")))
    bits, files, wanted = {"": 0o700}, dict[str, str](), {"": 0o755}
    for folder in ("css/", "pages/", "pages/en/", "cgi-bin/"):
        bits[folder], wanted[folder] = rng.choice((0o700, 0o777, 0o2750)), 0o755
    for number in range(10):
        folder, end = rng.choice((("css/", "css"), ("pages/", "html"), ("pages/en/", "html"), ("cgi-bin/", "cgi")))
        path = f"{folder}{rng.choice(WORDS)}{number}.{end}"
        files[f"{site}/{path}"] = prose(rng, 1)
        bits[path] = rng.choice((0o600, 0o666, 0o777, 0o400))
        wanted[path] = 0o755 if end == "cgi" else 0o644
    files[f"{site}/cgi-bin/status.cgi"], bits["cgi-bin/status.cgi"], wanted["cgi-bin/status.cgi"] = (
        "#!/bin/sh\n",
        0o640,
        0o755,
    )
    near = {"": 0o711, "a.html": 0o600, "b.cgi": 0o644}
    files |= {f"{other}/a.html": "a\n", f"{other}/b.cgi": "b\n"}

    def check(look: Look) -> None:
        modes(look, site, _plain(wanted))
        modes(look, other, near)

    return Built(
        ask(
            rng,
            f"The permissions below {site}/ are a mess. Set them (with {site}/ itself) so: folders 755, files 644, but "
            "files ending in .cgi 755. No setuid, setgid or sticky bits.",
            f"{other}/ is none of our business.",
        ),
        (
            ("How is it now?", f"find {site} {other} {_SHOW}"),
            (
                "Some folders have setgid, which a numeric chmod keeps on folders: clear it explicitly.",
                f"find {site} -type d -exec chmod u=rwx,go=rx,ug-s,-t {{}} +",
            ),
            (
                "Then the files.",
                f"find {site} -type f ! -name '*.cgi' -exec chmod 644 {{}} + && find {site} -type f -name '*.cgi' "
                f"-exec chmod 755 {{}} +",
            ),
            ("Check.", f"find {site} {other} {_SHOW}"),
        ),
        f"{site}/ has 755 for folders and CGI scripts, 644 for other files.",
        files=files,
        script=_chmod(site, bits) + _chmod(other, near),
        check=check,
        closed=(site, other),
    )


def world_writable(rng: random.Random) -> Built:
    """Others lose the right to write, nothing else changes; sticky folders are meant so."""
    bits, files = {"": 0o755, "spool/": 0o1777, "etc/": 0o755, "etc/conf.d/": 0o777, "var/": 0o755}, dict[str, str]()
    for number in range(12):
        path = f"{rng.choice(('spool/', 'etc/', 'etc/conf.d/', 'var/'))}{rng.choice(WORDS)}{number}"
        files[f"tree/{path}"] = prose(rng, 1)
        bits[path] = rng.choice((0o644, 0o666, 0o777, 0o602, 0o755, 0o640))
    bits["var/known"], files["tree/var/known"] = 0o662, "known\n"
    sticky = {path for path, mode in bits.items() if mode & 0o1000}
    found = sorted(path.rstrip("/") for path, mode in bits.items() if mode & 2 and path not in sticky)
    wanted = {path: mode & ~2 if path not in sticky else mode for path, mode in bits.items()}
    search = "find tree ! -type l -perm -o+w ! \\( -type d -perm -1000 \\)"

    def check(look: Look) -> None:
        modes(look, "tree", _plain(wanted))
        same(look.tree("tree")["etc/link"].kind, "link", "tree/etc/link")

    return Built(
        ask(
            rng,
            "Our audit complains about files and folders below tree/ that everybody may write. List their paths "
            "(tree/..., sorted, one a line) in writable.txt and take the write permission away from others, but no "
            "other bit from anybody.",
            "Folders with the sticky bit (like /tmp) are meant to be writable: neither list nor change them. The same "
            "holds for symbolic links.",
        ),
        (
            ("An overview.", f"find tree {_SHOW}"),
            ("Writable by others, without links and sticky folders.", f"{search} | sort | tee writable.txt"),
            ("Take away only o+w.", "xargs -d '\\n' chmod o-w < writable.txt"),
            ("Check.", f"{search} | wc -l; find tree ! -type l {_SHOW}"),
        ),
        f"{len(found)} paths are listed in writable.txt and not writable by others any more.",
        files=files,
        script=_chmod("tree", bits) + "ln -s ../var/known tree/etc/link\n",
        after={"writable.txt": lines([f"tree/{path}" for path in found])},
        check=check,
    )


def ssh_folder(rng: random.Random) -> Built:
    """Keys and settings of ssh get the modes it insists on; keys are told by their content."""
    user = rng.choice(PEOPLE)
    bits, wanted, files = {"": 0o777}, {"": 0o700}, dict[str, str]()
    for number, name in enumerate(rng.sample(WORDS, 4)):
        key = f"{name}_{rng.choice(('rsa', 'key', 'deploy'))}"
        files[f"{user}/.ssh/{key}"] = (
            f"-----BEGIN OPENSSH PRIVATE KEY-----\n{rng.randbytes(18).hex()}\n-----END OPENSSH PRIVATE KEY-----\n"
        )
        bits[key], wanted[key] = rng.choice((0o644, 0o664, 0o755, 0o400)), 0o600
        if number:
            files[f"{user}/.ssh/{key}.pub"] = f"ssh-ed25519 {rng.randbytes(12).hex()} {user}@host\n"
            bits[f"{key}.pub"], wanted[f"{key}.pub"] = rng.choice((0o600, 0o666)), 0o644
    for name, mode in (("config", 0o600), ("authorized_keys", 0o600), ("known_hosts", 0o644)):
        files[f"{user}/.ssh/{name}"], bits[name], wanted[name] = f"# {name}\n", 0o666, mode
    home = {"": 0o775, "notes.txt": 0o664, ".profile": 0o755}
    files |= {f"{user}/notes.txt": prose(rng, 1), f"{user}/.profile": "umask 022\n"}

    def check(look: Look) -> None:
        expected = {f".ssh/{path}".rstrip("/"): mode for path, mode in wanted.items()}
        modes(look, user, {**expected, **home, "": 0o755})

    return Built(
        ask(
            rng,
            f"ssh refuses the keys of {user}. Correct the permissions in {user}/.ssh: the folder 700; private "
            f"keys (any "
            "file that contains a private key, whatever its name), config and authorized_keys 600; public keys (*.pub) "
            "and known_hosts 644.",
            f"The home folder {user}/ itself has to be 755. All else in it stays.",
        ),
        (
            ("See what is there.", f"find {user} {_SHOW}"),
            ("Private keys are known by their first line.", f"grep -lE 'BEGIN .*PRIVATE KEY' {user}/.ssh/* | sort"),
            (
                "Set folder and files.",
                f"cd {user}/.ssh && chmod 755 .. && chmod 700 . && grep -lE 'BEGIN .*PRIVATE KEY' * | xargs chmod "
                f"600 && chmod 600 config authorized_keys && chmod 644 *.pub known_hosts; cd ../..",
            ),
            ("Check.", f"find {user} {_SHOW}"),
        ),
        f"The permissions of {user}/.ssh are as ssh wants them.",
        files=files,
        script=_chmod(f"{user}/.ssh", bits) + _chmod(user, home),
        check=check,
    )


def shared_folder(rng: random.Random) -> Built:
    """A group's folder: setgid on folders, group may write, executables stay executable, drafts stay private."""
    bits, wanted, files = {"": 0o755}, {"": 0o2770}, dict[str, str]()
    private = f"{rng.choice(PEOPLE)}-private/"
    for folder in ("plans/", "plans/2024/", "tools/", private):
        bits[folder] = 0o700 if folder == private else rng.choice((0o755, 0o750, 0o700))
        wanted[folder] = bits[folder] if folder == private else 0o2770
    for number in range(11):
        folder = rng.choice(("plans/", "plans/2024/", "tools/", private))
        path = f"{folder}{rng.choice(WORDS)}{number}"
        files[f"team/{path}"] = prose(rng, 1)
        bits[path] = mode = rng.choice((0o644, 0o600, 0o755, 0o640, 0o700))
        wanted[path] = mode if folder == private else 0o770 if mode & 0o100 else 0o660
    prune = f"-path team/{private.rstrip('/')} -prune -o"

    def check(look: Look) -> None:
        modes(look, "team", _plain(wanted))

    return Built(
        ask(
            rng,
            "team/ is to become a folder in which a group works together:",
            "- folders (team/ too): mode 2770, so that new files get the group of the folder\n"
            "- files: 660, or 770 if their owner may execute them now",
            f"Leave team/{private} with all its contents alone.",
        ),
        (
            ("The present state.", f"find team {_SHOW}"),
            ("Folders first, the private one pruned.", f"find team {prune} -type d -exec chmod 2770 {{}} +"),
            (
                "Executables before the others, or they could not be told apart any more.",
                f"find team {prune} -type f -perm -u+x -exec chmod 770 {{}} + && find team {prune} -type f ! "
                f"-perm -u+x -exec chmod 660 {{}} +",
            ),
            ("Check.", f"find team {_SHOW}"),
        ),
        f"team/ is set up for the group; {private} is as it was.",
        files=files,
        script=_chmod("team", bits),
        check=check,
        closed=("team",),
    )


def setuid_audit(rng: random.Random) -> Built:
    """Setuid and setgid files that no list allows lose these bits."""
    bits, files, allowed, found = dict[str, int](), dict[str, str](), [], []
    for number in range(12):
        path = f"{rng.choice(('bin/', 'sbin/', 'lib/helpers/'))}{rng.choice(WORDS)}{number}"
        files[f"rootfs/{path}"] = f"#!/bin/sh\necho {number}\n"
        special = rng.choice((0, 0, 0o4000, 0o2000, 0o6000)) if number else 0o4000
        bits[path] = special | rng.choice((0o755, 0o750, 0o711))
        if special and number % 3 == 1:
            allowed.append(path)
        elif special:
            found.append(path)
    bits["sbin/dmesg"], files["rootfs/sbin/dmesg"] = 0o755, "#!/bin/sh\n"
    folders = {"": 0o755, "bin/": 0o755, "sbin/": 0o2755, "lib/": 0o755, "lib/helpers/": 0o755}
    wanted = {path: mode & 0o777 if path in found else mode for path, mode in bits.items()}
    files["allowed.txt"] = "# reviewed by security\n" + "".join(
        f"/{path}\n" for path in [*sorted(allowed), "sbin/dmesg"]
    )
    report = [f"{bits[path]:04o} /{path}" for path in sorted(found)]
    search = "find rootfs -type f -perm /6000 -printf '%04m /%P\\n' | sort -k2 | grep -vwFf <(grep -v '^#' allowed.txt)"

    def check(look: Look) -> None:
        modes(look, "rootfs", _plain({**folders, **wanted}))

    return Built(
        ask(
            rng,
            "rootfs/ is the tree of an image. Which files in it have the setuid or setgid bit and are not in "
            "allowed.txt "
            "(paths as inside the image)? Write them to setuid.txt, one a line, as `MODE PATH` with four octal digits "
            "and the path as inside the image (`4755 /bin/x`), sorted by path.",
            "Then take both bits away from exactly these files. Their other bits, the allowed files and the folders "
            "stay.",
        ),
        (
            (
                "All files with one of the bits, and the list.",
                "find rootfs -perm /6000 -printf '%04m %y %p\\n' | sort -k3; cat allowed.txt",
            ),
            (
                "The folder is none of it. Without the allowed ones, whole lines of the list.",
                f"{search} | tee setuid.txt",
            ),
            ("Clear the bits.", "cut -d' ' -f2- setuid.txt | sed 's/^/rootfs/' | xargs -d '\\n' chmod ug-s"),
            (
                "Only allowed files and the folder may be left.",
                "find rootfs -perm /6000 -printf '%04m %y %p\\n' | sort -k3; cat setuid.txt",
            ),
        ),
        f"{len(found)} files had setuid or setgid without being allowed; the bits are gone and setuid.txt lists them.",
        files=files,
        script=_chmod("rootfs", {**folders, **bits}),
        after={"setuid.txt": lines(report)},
        check=check,
    )


def umask_script(rng: random.Random) -> Built:
    """A deployment script makes files that are too open; it is corrected, not its results."""
    service = rng.choice(SERVICES)
    script = (
        "#!/bin/bash\n# Installs the service below the folder given.\nset -eu\n"
        'target="$1"\numask 000\n'
        'mkdir -p "$target/conf" "$target/data/cache"\n'
        f'echo "name={service}" > "$target/conf/main.conf"\n'
        f"printf '#!/bin/sh\\necho {service}\\n' > \"$target/run.sh\"\n"
        'chmod 777 "$target/run.sh"\n'
        'echo empty > "$target/data/cache/index"\n'
        'echo "installed in $target"\n'
    )
    wanted = {
        "": 0o750,
        "conf": 0o750,
        "data": 0o750,
        "data/cache": 0o750,
        "conf/main.conf": 0o640,
        "run.sh": 0o750,
        "data/cache/index": 0o640,
    }
    before = {path: 0o777 if mode == 0o750 else 0o666 for path, mode in wanted.items()}

    def check(look: Look) -> None:
        modes(look, "old", before)
        for target in ("fresh-check", "deep/er/place"):
            result = look.run(f"umask 022; mkdir -p deep/er; bash install.sh {target}")
            same((result.status, result.output.strip()), (0, f"installed in {target}"), "the output of install.sh")
            modes(look, target, wanted)
            same(look.text(f"{target}/conf/main.conf"), f"name={service}\n", "main.conf")
            same(look.text(f"{target}/data/cache/index"), "empty\n", "index")
            same(look.run(f"./{target}/run.sh").output.strip(), service, "the output of run.sh")

    return Built(
        ask(
            rng,
            "install.sh installs a service into the folder it is given, but everything comes out writable for "
            "everybody. Correct the script so that in a new folder, that folder and the ones below it get mode 750, "
            "run.sh 750, all other files 640, whatever the umask of the caller.",
            "What it writes and prints stays the same. Do not touch old/, which is in use.",
        ),
        (
            ("Read the script and see a result of it.", f"cat install.sh; find old {_SHOW}"),
            (
                "The umask is wrong for folders and files, and the chmod for run.sh.",
                "sed -i -e 's/^umask 000$/umask 027/' -e 's/^chmod 777 /chmod 750 /' install.sh",
            ),
            (
                "Try it with another umask of the caller.",
                f"(umask 077; bash install.sh /tmp/try) && find /tmp/try {_SHOW} && rm -r /tmp/try",
            ),
            ("Nothing else should have changed.", f"grep -nE 'umask|chmod' install.sh; find old {_SHOW}"),
        ),
        "install.sh sets umask 027 and gives run.sh 750 now.",
        files={"install.sh": script},
        script="bash install.sh old > /dev/null\n",
        after={"install.sh": lambda data: None},
        check=check,
    )


def match_manifest(rng: random.Random) -> Built:
    """Modes go back to what a manifest says; what the manifest lacks is reported."""
    bits, wanted, files = {"": 0o755}, {"": 0o755}, dict[str, str]()
    name = rng.choice(PRODUCTS)
    unlisted, changed = [], []
    for folder in ("bin/", "etc/", "share/doc/", "share/"):
        bits[folder] = wanted[folder] = 0o755
    for number in range(13):
        path = f"{rng.choice(('bin/', 'etc/', 'share/doc/'))}{rng.choice(WORDS)} {number}"
        files[f"{name}/{path}"] = prose(rng, 1)
        right = rng.choice((0o755, 0o644, 0o600, 0o4755, 0o440))
        bits[path] = rng.choice((right, right, 0o777, 0o664)) if number else 0o777
        if number % 5 == 4:
            unlisted.append(path)
            wanted[path] = bits[path]
        else:
            wanted[path] = right
            changed += [path] if bits[path] != right else []
    listed = [path for path in wanted if path not in unlisted and path and not path.endswith("/")]
    rng.shuffle(listed)
    files["manifest.txt"] = "".join(f"{wanted[path]:04o} {path}\n" for path in listed)
    restore = (
        "while read -r mode path; do\n"
        f'  f="{name}/$path"\n'
        '  [ "$(stat -c %04a "$f")" = "$mode" ] && continue\n'
        '  chmod "$mode" "$f" && echo "$path" >> /tmp/changed\n'
        "done < manifest.txt\nsort /tmp/changed > changed.txt; rm /tmp/changed"
    )

    def check(look: Look) -> None:
        modes(look, name, _plain(wanted))

    return Built(
        ask(
            rng,
            f"manifest.txt gives the mode every file below {name}/ had at delivery (`MODE PATH`, paths relative to "
            f"{name}/, names may have blanks). Give the files these modes again.",
            f"List the paths whose mode was different in changed.txt and the files of {name}/ that are not in the "
            "manifest in unlisted.txt (both as in the manifest, sorted, one a line). Files that are not listed keep "
            "their modes.",
        ),
        (
            ("Look at both.", f"cat manifest.txt; find {name} -type f {_SHOW}"),
            ("Compare and correct line by line; the path is the rest of the line.", restore),
            (
                "Files that the manifest does not have.",
                f"comm -13 <(cut -d' ' -f2- manifest.txt | sort) <(find {name} -type f -printf '%P\\n' | sort) > "
                f"unlisted.txt",
            ),
            (
                "Check against the manifest.",
                f"diff <(sort -k2 manifest.txt) <(find {name} -type f -printf '%04m %P\\n' | sort -k2); cat "
                f"changed.txt; echo; cat unlisted.txt",
            ),
        ),
        f"{len(changed)} files have their mode of the manifest again; {len(unlisted)} files are not in it.",
        files=files,
        script=_chmod(name, bits),
        after={"changed.txt": lines(sorted(changed)), "unlisted.txt": lines(sorted(unlisted))},
        check=check,
    )


TASKS: Sequence[Builder] = (
    web_tree,
    world_writable,
    ssh_folder,
    shared_folder,
    setuid_audit,
    umask_script,
    match_manifest,
)
