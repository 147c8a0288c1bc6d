"""Tasks about processes: listings, signals, control scripts, schedules, exit statuses."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

from pivotgym.envs.terminal.bundled.draw import PEOPLE, SERVICES, WORDS, ask
from pivotgym.envs.terminal.bundled.look import Look, Wrong, decode, lines, same
from pivotgym.envs.terminal.bundled.spec import Builder, Built, Expected


def stale_pid_files(rng: random.Random) -> Built:
    """PID files whose process is gone, or is another program by now, are removed after a recorded listing."""
    names = rng.sample(SERVICES, 8)
    pids = rng.sample(range(200, 30000), 12)
    rows = [(1, "root", "/sbin/init")]
    files: dict[str, str] = {}
    stale = []
    for number, name in enumerate(names):
        files[f"run/{name}.pid"] = f"{pids[number]}\n"
        state = rng.choice(("runs", "gone", "other")) if number > 2 else ("runs", "gone", "other")[number]
        if state == "runs":
            rows.append((pids[number], "svc", f"/opt/bin/{name} --config /etc/{name}.conf"))
        elif state == "other":
            rows.append(
                (pids[number], rng.choice(PEOPLE), rng.choice(("vim notes.txt", f"less /var/log/{name}.log", "-bash")))
            )
        if state != "runs":
            stale.append(f"{name}.pid")
    rows += [(pid, "svc", f"/opt/bin/{name} --worker") for pid, name in zip(pids[8:], names, strict=False)]
    files["ps.txt"] = "    PID USER     COMMAND\n" + "".join(
        f"{pid:7} {user:8} {args}\n" for pid, user, args in sorted(rows)
    )
    files["run/README"] = "One NAME.pid for every /opt/bin/NAME.\n"
    find = (
        "for f in run/*.pid; do\n"
        '  n="$(basename "$f" .pid)"\n'
        '  awk -v p="$(cat "$f")" -v c="/opt/bin/$n" \'$1 == p && $3 == c { ok = 1 } END { exit !ok }\' ps.txt '
        '|| echo "$n.pid"\n'
        "done"
    )
    return Built(
        ask(
            rng,
            "After a crash, run/ holds PID files of services that do not run any more. ps.txt is the process list from "
            "that machine. A PID file NAME.pid is valid only if the process with its number is /opt/bin/NAME; numbers "
            "may have been given to other programs since.",
            "Delete the invalid PID files and list their names in stale.txt, sorted, one a line. Keep everything else.",
        ),
        (
            ("Files, numbers, processes.", "cat ps.txt; grep -H . run/*"),
            ("A file is valid if its number belongs to the program of its name. Those that are not:", find),
            ("Write the list and delete.", f"{find} > stale.txt; (cd run && xargs -d '\\n' rm -- < ../stale.txt)"),
            ("Check.", "cat stale.txt; ls run"),
        ),
        f"{len(stale)} PID files were invalid; they are deleted and listed in stale.txt.",
        files=files,
        after={**{f"run/{name}": None for name in stale}, "stale.txt": lines(sorted(stale))},
        closed=("run",),
    )


def memory_by_user(rng: random.Random) -> Built:
    """Whose processes hold most memory, from a recorded ``ps aux``."""
    users = rng.sample(PEOPLE, 5)
    total: Counter[str] = Counter()
    rows = []
    for number in range(34):
        user = rng.choice(users) if number > 4 else users[number]
        rss = rng.randrange(900, 400_000)
        total[user] += rss
        cpu, size = rng.randrange(0, 90) / 10, rss * rng.randrange(2, 9)
        command = rng.choice(
            ("python3 train.py", "/usr/bin/vim", "node server.js", "sleep 100000", "java -Xmx4g -jar app.jar")
        )
        rows.append(
            f"{user:9} {rng.randrange(200, 30000):6} {cpu:4.1f} {rss / 160_000:4.1f} {size:8} {rss:7} "
            f"pts/{number % 7}    S    09:{number:02}   0:{number:02} {command}"
        )
    head = "USER         PID %CPU %MEM      VSZ     RSS TTY      STAT START   TIME COMMAND"
    ranked = total.most_common()
    command = "awk 'NR > 1 { rss[$1] += $6 } END { for (u in rss) print u, rss[u] }' ps.txt | sort -k2,2nr"
    return Built(
        ask(
            rng,
            "ps.txt is the output of `ps aux` on a machine that ran out of memory. Add up the resident memory (RSS, in "
            "KiB) of each user's processes and write memory.txt: `USER KIB`, most first, one user a line.",
            "Then tell me whose processes hold most; the last line of your final message has to be `ANSWER: USER`.",
        ),
        (
            ("The columns.", "head -n 4 ps.txt; wc -l ps.txt"),
            ("RSS is column 6; VSZ in column 5 is not meant.", command),
            ("Into the file.", f"{command} > memory.txt; cat memory.txt"),
        ),
        f"{ranked[0][0]} holds most: {ranked[0][1]} KiB.\n\nANSWER: {ranked[0][0]}",
        files={"ps.txt": "\n".join([head, *rows]) + "\n"},
        after={"memory.txt": lines([f"{user} {rss}" for user, rss in ranked])},
        answer=ranked[0][0],
    )


def kill_order(rng: random.Random) -> Built:
    """All descendants of a process, children before their parents."""
    pids = rng.sample(range(100, 9999), 22)
    parent = {pids[0]: 1, pids[1]: 1}
    for number, pid in enumerate(pids[2:], 2):
        parent[pid] = pids[rng.randrange(max(0, number - 7), number)]
    root = pids[1] if rng.random() < 0.5 else pids[2]
    parent[pids[3]], parent[pids[4]] = root, pids[3]

    def below(pid: int) -> list[int]:
        return [found for child in sorted(parent) if parent[child] == pid for found in [*below(child), child]]

    family = below(root)
    names = {pid: rng.choice(("worker", "render", "fetch", "sh -c loop")) for pid in pids}
    listing = "   PID   PPID COMMAND\n     1      0 init\n" + "".join(
        f"{pid:6} {parent[pid]:6} {names[pid]}\n" for pid in sorted(pids)
    )
    walk = (
        "below() {\n"
        "  local c\n"
        '  for c in $(awk -v p="$1" \'$2 == p { print $1 }\' ps.txt); do below "$c"; echo "$c"; done\n'
        f"}}\nbelow {root} > kill.txt"
    )

    def ordered(data: bytes) -> None:
        words = decode(data, "kill.txt").split()
        same(sorted(words), sorted(map(str, family)), "the list of processes")
        for pid in family:
            if parent[pid] in family and words.index(str(pid)) > words.index(str(parent[pid])):
                raise Wrong(f"{parent[pid]} comes before its child {pid}")

    return Built(
        ask(
            rng,
            f"ps.txt lists the processes of a machine with their parents. Process {root} is going to be shut down with "
            "everything it started, directly or not.",
            f"Write the PIDs of all its descendants (without {root} itself) to kill.txt, one a line, so that every "
            "process comes before its parent.",
        ),
        (
            ("Look at the listing.", "cat ps.txt"),
            ("A walk that prints children before parents.", walk),
            ("Check: the list, and how many there are.", "cat kill.txt; wc -l < kill.txt; sort kill.txt | uniq -d"),
            (
                "Nothing outside the list may have a parent in it.",
                f"awk 'NR == FNR {{ k[$1]; next }} $2 in k && !($1 in k)' kill.txt ps.txt; grep -cx {root} kill.txt",
            ),
        ),
        f"kill.txt has the {len(family)} descendants of {root}, children first.",
        files={"ps.txt": listing},
        after={"kill.txt": ordered},
    )


def control_script(rng: random.Random) -> Built:
    """A start and stop script learns to see whether the process is really there."""
    name = rng.choice(SERVICES)
    worker = (
        "#!/bin/bash\n# Started by ctl.sh only. Needs a moment to stop.\n"
        "trap 'sleep 0.2; echo down >> run/history; exit 0' TERM\necho up >> run/history\n"
        "while :; do sleep 0.05; done\n"
    )
    head = (
        f'#!/bin/bash\n# Controls {name}: start, stop, status.\ncd "$(dirname "$0")" || exit '
        f"1\npidfile=run/{name}.pid\n"
    )
    broken = (
        f'{head}case "$1" in\nstart)\n  [ -e "$pidfile" ] && {{ echo "already running"; exit 1; }}\n'
        '  bash worker.sh > /dev/null 2>&1 &\n  echo $! > "$pidfile"\n  echo started ;;\n'
        'stop)\n  kill "$(cat "$pidfile")"\n  echo stopped ;;\n'
        'status)\n  if [ -e "$pidfile" ]; then echo running; else echo "not running"; exit 3; fi ;;\nesac\n'
    )
    right = (
        f'{head}\nalive() {{ [ -s "$pidfile" ] && kill -0 "$(cat "$pidfile")" 2> /dev/null; }}\n\ncase "$1" in\n'
        'start)\n  alive && { echo "already running"; exit 1; }\n  bash worker.sh > /dev/null 2>&1 &\n'
        '  echo $! > "$pidfile"\n  echo started ;;\n'
        'stop)\n  alive || { rm -f "$pidfile"; echo "not running"; exit 3; }\n  kill "$(cat "$pidfile")"\n'
        '  while alive; do sleep 0.05; done\n  rm -f "$pidfile"\n  echo stopped ;;\n'
        'status)\n  if alive; then echo running; else echo "not running"; exit 3; fi ;;\nesac\n'
    )
    say = 's() { bash ctl.sh "$1"; echo "$1 $?"; }\n'
    scenario = (
        f"({say}s status; s start; sleep 0.2; s status; s start; p=$(cat run/{name}.pid); s stop; kill -0 "
        f"$p 2> /dev/null && echo alive; s status; s stop)"
    )
    wanted = (
        "not running\nstatus 3\nstarted\nstart 0\nrunning\nstatus 0\nalready running\nstart "
        "1\nstopped\nstop 0\nnot running\nstatus 3\nnot running\nstop 3"
    )

    def check(look: Look) -> None:
        look.write("run/history", "")
        look.write(f"run/{name}.pid", "999999\n")
        same(look.run(scenario).output.strip(), wanted, "what ctl.sh says")
        same(look.text("run/history"), "up\ndown\n", "what the worker did")
        same(look.absent(f"run/{name}.pid"), True, "that there is no PID file after stop")

    return Built(
        ask(
            rng,
            f"ctl.sh controls a worker, but after a crash it is confused by the old run/{name}.pid. Please correct it:",
            "- the worker runs only if the process of the PID file exists; a PID file without process means `not "
            "running`\n"
            "- `start` prints `started` (status 0), or `already running` (status 1)\n"
            "- `stop` waits until the process has ended, removes the PID file and prints `stopped` (status 0), "
            "or prints "
            "`not running` (status 3)\n- `status` prints `running` (status 0) or `not running` (status 3)",
            "worker.sh stays as it is, and leave no worker running.",
        ),
        (
            ("Read both scripts.", "cat ctl.sh worker.sh; ls run"),
            ("What does it say now?", "bash ctl.sh status; bash ctl.sh start"),
            (
                "As described. I rewrite it around one function that asks whether the process is there.",
                f"cat > ctl.sh <<'EOF'\n{right}EOF",
            ),
            ("Go through all cases in one command, so that no worker is left.", scenario),
            ("No PID file, no process.", "ls run; rm -f run/history; bash ctl.sh status"),
        ),
        "ctl.sh looks at the process now, waits when stopping and removes the PID file.",
        files={"ctl.sh": broken, "worker.sh": worker, f"run/{name}.pid": "999999\n"},
        after={"ctl.sh": lambda data: None},
        ignore=frozenset({f"run/{name}.pid"}),
        check=check,
    )


def clean_exit(rng: random.Random) -> Built:
    """A script removes its scratch folder however it ends, with the right status."""
    word = rng.choice(WORDS)
    script = (
        "#!/bin/bash\n# Counts the words of a file: job.sh INPUT OUTPUT\n"
        f'scratch="$(mktemp -d "scratch/{word}.XXXXXX")"\n'
        'tr -s "[:space:]" "\\n" < "$1" > "$scratch/words" || exit 2\n'
        'sleep "${PAUSE:-0}"\n'
        'sort "$scratch/words" | uniq -c | sort -k1,1nr -k2 > "$scratch/counted"\n'
        'mv "$scratch/counted" "$2"\nrm -r "$scratch"\n'
    )
    traps = "trap 'rm -rf \"$scratch\"' EXIT\\ntrap 'exit 130' INT\\ntrap 'exit 143' TERM"
    test = (
        "(PAUSE=0.4 bash job.sh text.txt /tmp/o & p=$!\n"
        "until ls scratch | grep -q .; do sleep 0.02; done; sleep 0.1\n"
        'kill -TERM $p; wait $p 2> /dev/null; echo "status $?"; ls -A scratch)'
    )
    text = "".join(" ".join(rng.choices(WORDS[:9], k=6)) + "\n" for _ in range(5))

    def check(look: Look) -> None:
        same(sorted(look.tree("scratch")), ["", ".keep"], "scratch/")
        for line, status in (
            ("bash job.sh text.txt out.check", 0),
            ("bash job.sh missing.txt out.check2 2> /dev/null", 2),
            (
                "PAUSE=0.4 bash job.sh text.txt out.check3 & p=$!; until compgen -G 'scratch/*' > /dev/null; do "
                "sleep 0.02; done; sleep 0.1; kill -TERM $p; wait $p 2> /dev/null",
                143,
            ),
        ):
            same(look.run(line).status, status, f"the status of {line.split(' 2>')[0][:60]}")
            same(sorted(look.tree("scratch")), ["", ".keep"], "scratch/ after a run")
        count = Counter(text.split())
        wanted = [f"{number} {name}" for name, number in sorted(count.items(), key=lambda row: (-row[1], row[0]))]
        same([" ".join(line.split()) for line in look.text("out.check").splitlines()], wanted, "the result")
        same(
            (look.absent("out.check2"), look.absent("out.check3")),
            (True, True),
            "that there is no result of a failed run",
        )

    return Built(
        ask(
            rng,
            "job.sh leaves its folder in scratch/ behind when its input is missing or somebody stops it with a signal. "
            "Change the script so that the folder is removed however it ends, and that the exit status is 143 after "
            "SIGTERM, 130 after SIGINT, 2 for missing input and 0 otherwise, as far as it is not so already.",
            "Its results stay the same. scratch/ itself (with .keep) stays, the leftovers of earlier runs in it go.",
        ),
        (
            ("Read the script, see the leftovers.", "cat job.sh; ls -A scratch | sed 's/\\..*/.*/'"),
            (
                "A trap on EXIT for the folder, and traps that end the script with the right status.",
                f'sed -i "/^scratch=/a {traps.replace(chr(34), chr(92) + chr(34)).replace("$", chr(92) + "$")}" '
                f"job.sh && sed -i '/^rm -r /d' job.sh && cat job.sh",
            ),
            (
                "Remove what earlier runs left, then try the three ways to end.",
                'rm -r scratch/*; bash job.sh text.txt /tmp/o; echo "status $?"; head -n 2 /tmp/o; bash job.sh '
                'nothing /tmp/o 2> /dev/null; echo "status $?"; ls -A scratch',
            ),
            ("And a signal.", test),
        ),
        "job.sh removes its folder in every case; the statuses are as asked for.",
        files={"job.sh": script, "text.txt": text, "scratch/.keep": ""},
        script=f"mkdir scratch/{word}.aaaaaa scratch/{word}.bbbbbb\necho x > scratch/{word}.aaaaaa/words\n",
        after={"job.sh": lambda data: None},
        check=check,
    )


def edit_crontab(rng: random.Random) -> Built:
    """One job is switched off, one moved, one added."""
    names = rng.sample(SERVICES, 6)
    rows = ["# jobs of this machine", "MAILTO=ops@example.org", ""]
    for name in names:
        time = f"{rng.randrange(60)} {rng.randrange(24)} * * {rng.choice(('*', '0', '1-5'))}"
        rows += [f"# {name}", f"{time} /opt/bin/{name} --batch  >> /var/log/{name}.log 2>&1"]
    off, move = rng.sample(names, 2)
    hour, minute = rng.randrange(1, 6), rng.choice((5, 20, 35, 50))
    new = f"{minute} {hour} * * 1-5"
    added = f"*/15 * * * * /opt/bin/{off}-lite"

    def check_file(data: bytes) -> None:
        found = [line.split() for line in decode(data, "crontab.txt").rstrip().splitlines()]
        wanted = []
        for row in rows:
            words = row.split()
            if f"/opt/bin/{off}" in words:
                words = ["#", *words]
            elif f"/opt/bin/{move}" in words:
                words = [*new.split(), *words[5:]]
            wanted.append(words)
        wanted.append(added.split())
        spaced = [
            ["#", line[0][1:], *line[1:]] if line and line[0][:1] == "#" and len(line[0]) > 1 else line
            for line in found
        ]
        same(spaced, wanted, "crontab.txt")

    return Built(
        ask(
            rng,
            "Please change crontab.txt (a crontab in the usual format) so:",
            f"- the job {off} is switched off: put a # before its line, do not delete it\n"
            f"- {move} runs at {hour:02}:{minute:02} from Monday to Friday instead (write the days as 1-5)\n"
            f"- at the end of the file a new line runs `/opt/bin/{off}-lite` every 15 minutes (as */15)",
            "All other lines stay as and where they are.",
        ),
        (
            ("Read it.", "cat crontab.txt"),
            (
                "Three edits.",
                f"cp crontab.txt /tmp/crontab.old && sed -i -e '/\\/opt\\/bin\\/{off} /s/^/# /' -e "
                f"'/\\/opt\\/bin\\/{move} /s/^\\([^ ]* *\\)\\{{5\\}}/{new} /' crontab.txt && echo '{added}' >> "
                f"crontab.txt",
            ),
            ("Only these lines should differ.", "diff /tmp/crontab.old crontab.txt; rm /tmp/crontab.old"),
        ),
        f"{off} is switched off, {move} runs at {hour:02}:{minute:02} on weekdays, and {off}-lite runs every 15 "
        f"minutes.",
        files={"crontab.txt": "\n".join(rows) + "\n"},
        after={"crontab.txt": check_file},
    )


def run_jobs(rng: random.Random) -> Built:
    """Jobs run once each with a time limit; their ends are reported."""
    files: dict[str, str] = {}
    report = []
    after: dict[str, Expected] = {}
    names = sorted(rng.sample(WORDS, 7))
    ends = ["timeout", "failed 1", *(rng.choice(("ok", "ok", f"failed {rng.randrange(2, 99)}")) for _ in names[2:])]
    rng.shuffle(ends)
    for name, end in zip(names, ends, strict=True):
        body = f"#!/bin/bash\necho ran >> out/{name}.txt\n"
        if end == "timeout":
            body += "echo waiting for the peer\nsleep 600\n"
        elif end.startswith("failed"):
            body += f"echo cannot go on >&2\nexit {end.split()[1]}\n"
        files[f"jobs/{name}.sh"] = body
        after[f"out/{name}.txt"] = "ran\n"
        report.append(f"{name} {end}")
    files["jobs/NOTES"] = "Not a job.\n"
    loop = (
        "for j in jobs/*.sh; do\n"
        '  n="$(basename "$j" .sh)"\n'
        '  timeout 1 bash "$j" > /dev/null 2>&1; s=$?\n'
        '  case $s in 0) r=ok;; 124) r=timeout;; *) r="failed $s";; esac\n'
        '  echo "$n $r" >> report.txt\n'
        "done"
    )

    return Built(
        ask(
            rng,
            "Run every script jobs/*.sh with bash from the current directory, in the order of their names, exactly "
            "once each; stop a job that takes longer than one second.",
            "Write report.txt with a line `NAME RESULT` for each, NAME without .sh; RESULT is `ok`, `failed STATUS` or "
            "`timeout`.",
        ),
        (
            ("What are these jobs? Running one twice would be wrong, so I read first.", "head -n 5 jobs/*"),
            ("timeout reports 124 for a job it stopped.", loop),
            ("Check the report, and that every job ran once.", "cat report.txt; grep -c . out/*"),
        ),
        "All jobs ran once; report.txt has how they ended.",
        files=files,
        script="mkdir out\n",
        after={**after, "report.txt": lines(report)},
        closed=("jobs",),
    )


TASKS: Sequence[Builder] = (
    stale_pid_files,
    memory_by_user,
    kill_order,
    control_script,
    clean_exit,
    edit_crontab,
    run_jobs,
)
