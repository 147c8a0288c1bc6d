"""Plausible wrong ends of the bundled tasks.

By task: cases of (name, commands, answer or None). The commands run after the expert's own; a case whose commands begin
with ``INSTEAD`` replaces them. Without an answer the expert's last message ends the episode. All use seed 0.
"""

from __future__ import annotations

INSTEAD = "# instead of the expert\n"

WRONG: dict[str, list[tuple[str, str, str | None]]] = {
    "files.photos_by_month": [
        (
            "one picture in the wrong month",
            "cd photos; f=$(find . -type f | sort | head -n 1); mkdir -p 2020/01; mv $f 2020/01",
            None,
        ),
        ("a folder below the wrong one", "mkdir out; mv photos out/", None),
    ],
    "files.remove_duplicates": [
        ("a file that is no duplicate is gone too", "rm store/mail/size-b.txt", None),
        ("the list names one file less", "sed -i 1d removed.txt", None),
        ("one duplicate is back", "f=$(head -n 1 removed.txt); echo x > $f", None),
    ],
    "files.tidy_names": [
        ("also outside", "mv 'other/Do Not Touch (1).txt' other/do_not_touch_1.txt", None),
        (
            "one name forgotten",
            "f=$(find shared -name '*_*' | sort | head -n 1); mv $f ${f%/*}/Forgotten\\ One.md",
            None,
        ),
    ],
    "files.expire_logs": [
        ("the pinned ones too", "xargs rm -f < pinned.txt", None),
        ("by date only, not by name", "rm logs/db/schema.txt", None),
    ],
    "files.repair_links": [
        ("absolute", "cd links; for l in *; do ln -sfn $(readlink -f $l) $l; done", None),
        (
            "copies instead of links",
            "cd links; for l in *; do [ -e $l ] && cp --remove-destination $(readlink -f $l) $l; done; true",
            None,
        ),
    ],
    "files.largest_files": [
        ("one line less", "sed -i '$d' largest.txt", None),
        ("blanks instead of tabs", "sed -i 's/\\t/ /' largest.txt", None),
        (
            "hidden folders forgotten",
            INSTEAD
            + "find project -path '*/.*' -prune -o -type f -printf '%s\\t%p\\n' | sort -rn | head -n 4 > largest.txt",
            None,
        ),
    ],
    "files.mirror": [
        (
            "extra files stay",
            INSTEAD
            + "cp -r $(ls -d */ | grep -vE 'backup|replica|mirror')/. $(ls -d backup replica mirror 2> /dev/null)/",
            None,
        ),
        ("an empty folder stays", "mkdir -p $(ls -d backup replica mirror 2> /dev/null)/old", None),
    ],
    "text.top_clients": [
        (
            "only the newest log",
            INSTEAD + "awk '$9 == 404 { print $1 }' access.log | sort | uniq -c | sort -rn | head -n 3 | awk '{ print "
            "$2, $1 }' > top.txt",
            None,
        ),
        ("columns the wrong way round", "awk '{ print $2, $1 }' top.txt > t && mv t top.txt", None),
    ],
    "text.regional_sales": [
        (
            "cancelled orders count",
            INSTEAD + 'python3 -c "\nimport csv\nfrom collections import Counter\nc = Counter()\nfor r in '
            "csv.DictReader(open('orders.csv')): c[r['region']] += int(r['quantity']) * "
            "float(r['unit_price'])\nprint('region,revenue')\nfor k in sorted(c): print(f'{k},{c[k]:.2f}')\" "
            "> revenue.csv",
            None,
        ),
        ("no header", "sed -i 1d revenue.csv", None),
    ],
    "text.one_section": [
        ("every section", "sed -i 's/^port = .*/port = 8977/' services.ini", None),
        ("the comment behind the value is lost", "sed -i 's/  ; see the manual//' services.ini", None),
    ],
    "text.errors_by_hour": [
        ("hours without errors are missing", "sed -i '/ 0$/d' histogram.txt", None),
        (
            "every line with the word",
            INSTEAD + "for h in 08 09 10 11 12 13 14 15; do echo $h $(grep ' '$h: service.log | grep -c ERROR); done > "
            "histogram.txt",
            None,
        ),
    ],
    "text.join_tables": [
        ("not sorted", "tac joined.tsv > t && mv t joined.tsv", None),
        ("one unknown order missing", "sed -i 1d unknown.txt", None),
    ],
    "text.line_endings": [
        ("batch files too", "find docs -name '*.bat' -exec sed -i 's/\\r$//' {} +", None),
        ("one file forgotten", "f=$(find docs -name '*.md' | sort | head -n 1); sed -i 's/$/\\r/' $f", None),
    ],
    "text.redact": [
        ("the last group too", "sed -i 's/\\*\\*\\*\\* [0-9]\\{4\\}/**** ****/' logs/*.log", None),
        (
            "one log forgotten",
            INSTEAD + "sed -i -E -e 's/[A-Za-z0-9._-]+@[A-Za-z0-9.-]+\\.[A-Za-z]+/[mail]/g' -e 's/[0-9]{4} [0-9]{4} "
            "[0-9]{4} ([0-9]{4})/**** **** **** \\1/g' logs/*.log",
            None,
        ),
    ],
    "git.blame_regression": [
        (
            "the commit after",
            "cd /root/work/shop; git rev-list --reverse $(cat ../culprit.txt)..main | head -n 1 > ../culprit.txt",
            None,
        ),
        ("left in the middle", "cd /root/work/shop; git checkout -q main~3", None),
        ("short hash", "cd /root/work; cut -c1-7 culprit.txt > t; mv t culprit.txt", None),
    ],
    "git.revert_one": [
        (
            "history rewritten",
            INSTEAD + "cd tool; n=$(git rev-list ':/Switch on'..main | wc -l); git rebase -q --onto main~$((n + 1)) "
            "main~$n main; git commit -q --allow-empty -m 'Revert Switch on'",
            None,
        ),
        ("later work lost", "git rm -q src/kernel.txt; git commit -q --amend --no-edit", None),
    ],
    "git.merge_conflict": [
        (
            "the smaller timeout",
            "sed -i 's/^timeout = .*/timeout = 30/' app.conf; git commit -q -a --amend --no-edit",
            None,
        ),
        (
            "squashed",
            INSTEAD + "cd app; git merge --squash -q -X theirs feature; git commit -q -m 'Merge feature'",
            None,
        ),
        ("not committed", INSTEAD + "cd app; git merge --no-commit -X theirs feature", None),
    ],
    "git.restore_deleted": [
        (
            "the first version",
            "git checkout -q $(git rev-list --max-parents=0 HEAD) -- scripts; git commit -q --amend --no-edit",
            None,
        ),
        ("another message", "git commit -q --amend -m 'Bring the script back'", None),
    ],
    "git.pick_fixes": [
        ("a feature too", "git cherry-pick $(git rev-list --grep='^feature' -n 1 main) > /dev/null", None),
        ("main is checked out", "git checkout -q main", None),
        (
            "newest first",
            INSTEAD + "cd product; git checkout -q release; for c in $(git rev-list --grep='^fix:' release..main); do "
            "git cherry-pick $c > /dev/null; done",
            None,
        ),
    ],
    "git.count_authors": [
        (
            "the whole history",
            "cd code; (echo author,commits; git log --format=%an main -- src/ | sort | uniq -c | sort -k1,1nr "
            "-k2,2 | awk '{ print $2 \",\" $1 }') > ../authors.csv",
            None,
        ),
        ("in the repository instead", "mv authors.csv code/", None),
    ],
    "git.stop_tracking": [
        ("a broken index", "printf 'DIRC\\0\\0\\0\\2\\0\\0\\0\\11short' > .git/index", None),
        ("deleted from disk", "rm -r build", None),
        ("the old entry is lost", "sed -i '/swp/d' .gitignore; git commit -q -a --amend --no-edit", None),
        ("not committed", "git reset -q --soft HEAD~1", None),
    ],
    "archives.zip_to_tar": [
        (
            "gzip under another name",
            INSTEAD
            + "unzip -q delivery.zip -d t -x '__MACOSX/*' '*.DS_Store'; cd t; tar -czf ../$(ls).tar.xz *; cd ..; "
            "rm -r t",
            None,
        ),
        (
            "with the rubbish",
            INSTEAD
            + "unzip -q delivery.zip -d t; tar -C t -cJf $(ls t | grep -v MAC).tar.xz $(ls t | grep -v MAC); rm -r t",
            None,
        ),
        ("the source is gone", "rm delivery.zip", None),
    ],
    "archives.nested_archives": [
        ("the source is another archive", "tar -cJf backup.tar.xz restored /etc/hostname 2> /dev/null; true", None),
        ("leftovers", "cp backup.tar.xz copy.tar.xz", None),
        ("the wrong file", "echo other > restored/search.conf", None),
    ],
    "archives.pick_members": [
        ("the archive is a new one", "tar -czf invoices.tar.gz selected", None),
        ("a file of another year too", "echo x > selected/extra.csv", None),
        ("one is missing", "rm selected/always.csv", None),
    ],
    "archives.quarantine_corrupt": [
        ("the file without checksum too", "mv downloads/ribbon-8.dat corrupt/", None),
        ("copied, not moved", "cp corrupt/*.dat downloads/", None),
    ],
    "archives.backup_project": [
        ("a bomb", "head -c 30000000 /dev/zero | gzip > backups/drill-backup.tar.gz", None),
        (
            "the archive changed after its checksum",
            "tar -czf backups/drill-backup.tar.gz --exclude=cache --exclude='*.log' --exclude='*tools' drill",
            None,
        ),
        ("with a path in the checksum file", "sha256sum backups/*.tar.* > t; mv t $(ls backups/*.sha256)", None),
        ("the folder lost its log", "rm drill/run.log", None),
    ],
    "archives.update_zip": [
        (
            "the other manifest too",
            "mkdir docs; echo 'version = 4.8' > docs/manifest.ini; zip -q plugin.zip docs/manifest.ini; rm -r docs",
            None,
        ),
        ("unpacked files are left", "unzip -q plugin.zip", None),
    ],
    "archives.join_parts": [
        ("the parts are gone", "rm parts/*.retry; cat parts/*.tar.? > /dev/null; rm parts/*.tar.1", None),
        ("unpacked one level too high", "mv out/drill/* out/; rmdir out/drill", None),
    ],
    "permissions.web_tree": [
        (
            "setgid is left",
            INSTEAD + "find public -type d -exec chmod 755 {} +; find public -type f -exec chmod 644 {} +; find public "
            "-name '*.cgi' -exec chmod 755 {} +",
            None,
        ),
        ("the neighbour too", "chmod 755 private", None),
    ],
    "permissions.world_writable": [
        ("sticky folders too", "chmod o-w tree/spool", None),
        ("the group cannot write any more either", "chmod -R g-w tree/var", None),
    ],
    "permissions.ssh_folder": [
        ("keys by name only", "chmod 664 jonas/.ssh/engine_deploy", None),
        ("another file changed", "chmod 600 jonas/notes.txt", None),
    ],
    "permissions.shared_folder": [
        ("everything executable", "chmod -R u=rwX,g=rwx,o= team/plans", None),
        ("the private folder too", "chmod 2770 team/elena-private", None),
    ],
    "permissions.setuid_audit": [
        ("the allowed ones too", "find rootfs -type f -exec chmod ug-s {} +", None),
        ("the folder too", "chmod g-s rootfs/sbin", None),
        ("paths of this machine", "sed -i 's, /, rootfs/,' setuid.txt", None),
    ],
    "permissions.umask_script": [
        ("only the caller's umask", "sed -i '/^umask/d' install.sh", None),
        ("the running installation too", "chmod 750 old", None),
    ],
    "permissions.match_manifest": [
        ("one mode more", "chmod 644 'easel/bin/carbon 4'", None),
        ("one changed path missing", "sed -i 1d changed.txt", None),
    ],
    "processes.stale_pid_files": [
        (
            "a number that is in use elsewhere counts as valid",
            "echo 6966 > run/mailer.pid; sed -i /mailer/d stale.txt",
            None,
        ),
        ("a valid one is gone", "rm run/catalog.pid", None),
    ],
    "processes.memory_by_user": [
        (
            "virtual memory",
            "awk 'NR > 1 { s[$1] += $5 } END { for (u in s) print u, s[u] }' ps.txt | sort -k2,2nr > memory.txt",
            None,
        ),
        ("another user named", "true", "It is bruno.\n\nANSWER: bruno"),
        ("no answer line", "true", "greta holds most."),
    ],
    "processes.kill_order": [
        ("parents first", "tac kill.txt > t && mv t kill.txt", None),
        ("children only", INSTEAD + "awk '$2 == 9249 { print $1 }' ps.txt > kill.txt", None),
    ],
    "processes.control_script": [
        ("stop does not wait", "sed -i '/while alive/d' ctl.sh", None),
        ("the worker was changed", "sed -i 's/sleep 0.2; //' worker.sh", None),
    ],
    "processes.clean_exit": [
        ("no trap for the folder", "sed -i '/EXIT$/d' job.sh", None),
        ("leftovers are left", "mkdir scratch/fabric.cccccc", None),
    ],
    "processes.edit_crontab": [
        ("deleted instead of switched off", "sed -i '/mailer --batch/d' crontab.txt", None),
        ("another line changed", "sed -i 's/^19 5/20 5/' crontab.txt", None),
    ],
    "processes.run_jobs": [
        ("one job twice", "bash jobs/velvet.sh", None),
        ("the timeout as a failure", "sed -i 's/timeout/failed 124/' report.txt", None),
    ],
    "sqlite.city_report": [
        ("cities without orders are missing", "sed -i '/,0$/d' report.csv", None),
        ("the database was changed", "sqlite3 shop.db 'DELETE FROM orders WHERE day < 2024'", None),
    ],
    "sqlite.unique_contacts": [
        ("no index", "sqlite3 contacts.db 'DROP INDEX contacts_mail'", None),
        ("phones are lost", "sqlite3 contacts.db 'UPDATE contacts SET phone = NULL WHERE id = 5'", None),
    ],
    "sqlite.split_names": [
        (
            "cents as text",
            "sqlite3 club.db 'CREATE TABLE t (id INTEGER PRIMARY KEY, first TEXT, last TEXT, cents TEXT); INSERT "
            "INTO t SELECT * FROM members; DROP TABLE members; ALTER TABLE t RENAME TO members'",
            None,
        ),
        ("a table is left behind", "sqlite3 club.db 'CREATE TABLE old AS SELECT * FROM members'", None),
        ("the version is the old one", "sqlite3 club.db 'PRAGMA user_version = 3'", None),
    ],
    "sqlite.import_readings": [
        ("imported twice", "sqlite3 station.db 'INSERT INTO readings SELECT * FROM readings'", None),
        (
            "unknown sensors are imported",
            "sqlite3 station.db \"INSERT INTO readings VALUES ('spare', '2024-04-01T12:00', 9.9)\"",
            None,
        ),
        ("no header", "sed -i 1d rejected.csv", None),
    ],
    "sqlite.remove_orphans": [
        (
            "only tasks",
            INSTEAD + "sqlite3 plan.db 'DELETE FROM tasks WHERE project NOT IN (SELECT id FROM projects)'",
            None,
        ),
        ("off by one", "true", "Done.\n\nANSWER: 19"),
    ],
    "sqlite.fast_query": [
        (
            "a view without end",
            "sqlite3 sales.db 'DROP TABLE sales; CREATE VIEW sales AS WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL "
            "SELECT id + 1 FROM n) SELECT id, 3 AS clerk, id AS day FROM n'",
            None,
        ),
        (
            "columns the wrong way round",
            "sqlite3 sales.db 'DROP INDEX sales_lookup; CREATE INDEX sales_lookup ON sales (day, clerk)'",
            None,
        ),
        ("the old index is gone", "sqlite3 sales.db 'DROP INDEX sales_day'", None),
    ],
    "sqlite.book_transfers": [
        ("all at once", "sqlite3 bank.db \"UPDATE transfers SET state = 'booked'\"", None),
        ("one cent lost", "sqlite3 bank.db \"UPDATE accounts SET balance = balance - 1 WHERE name = 'alba'\"", None),
    ],
    "scripting.fix_functions": [
        ("the test was changed instead", INSTEAD + "sed -i 's/, 1.5)/, 1)/; s/, 2)$/, 5)/' test_stats.py", None),
        (
            "only what the tests show",
            "sed -i 's/(-values.count(value), value))/(-values.count(value), value > 4))/' stats.py",
            None,
        ),
    ],
    "scripting.flatten_json": [
        ("only for the file shown", 'printf \'print(open("people.csv").read(), end="")\' > flatten.py', None),
        ("columns not sorted", "sed -i 's/sorted({\\(.*\\)})$/sorted({\\1}, reverse=True)/' flatten.py", None),
    ],
    "scripting.log_summary": [
        ("another status", "sed -i 's/sys.exit(3)/sys.exit(1)/' summary.py", None),
        ("TIME itself does not count", "sed -i 's/>= options.since/> options.since + \"~\"/' summary.py", None),
    ],
    "scripting.port_to_python3": [
        ("true division", "sed -i 's, // , / ,' report.py; sed -i 's/%3d boxes/%3.1f boxes/' report.py", None),
        ("the expected output itself", 'echo \'print(open("expected.txt").read(), end="")\' > report.py', None),
    ],
    "scripting.merge_settings": [
        (
            "nulls in new objects stay",
            "sed -i 's/found = dict(low) if isinstance(low, dict) else {}/if not isinstance(low, dict): return "
            "high\\n    found = dict(low)/' merge.py",
            None,
        ),
        ("no result written", "rm merged.json", None),
    ],
    "scripting.speed_up": [
        ("a single half counts", "sed -i 's/^    other = .*/&\\n    seen.add(number)/' pairs.py", None),
        ("only pairs of neighbours", "sed -i 's/    seen.add(number)/    seen = {number}/' pairs.py", None),
    ],
    "scripting.retry_script": [
        ("arguments are split", "sed -i 's/\"$@\" \\&\\& exit 0/$* \\&\\& exit 0/' retry.sh", None),
        ("not executable", "chmod -x retry.sh", None),
    ],
}
