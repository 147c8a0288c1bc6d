"""What of a repository's future a sandbox shows, and how an image's repository is rid of it.

Images of repositories were often made by cloning everything and checking out an old commit, so the fix can be read in
later commits, tags, branches, reflogs or objects that nothing points to. Pruning in place keeps whatever a reflog, a
pack that is marked to be kept, an alternate or a worktree holds on to; so the git folder is made anew here, from the
objects that the starting commit needs, and the old one deleted.
"""

from __future__ import annotations

import base64
import shlex

from pivotgym.envs.sandbox import Sandbox, SandboxError

CHECK_SECONDS = 300.0
"""What looking for the future may take."""
ENVIRONMENT_AUTHOR = "setup@swebench.config"
"""Who commits the changes that SWE-bench's images make to a repository before an agent starts."""

FORGET_PACKAGES = """( rm -rf /root/.cache/pip /root/.cache/uv /root/.cache/pypoetry
rm -rf /home/*/.cache/pip /home/*/.cache/uv /home/*/.cache/pypoetry
for cache in "${PIP_CACHE_DIR:-}" "${UV_CACHE_DIR:-}" "${XDG_CACHE_HOME:-}/pip"; do
  case "$cache" in /*/*) rm -rf -- "$cache";; esac
done
true )"""
"""Bash source that deletes what package managers downloaded: a fixed release may be among it."""

_GIT = """export LC_ALL=C TZ=UTC HOME=/nonexistent
export GIT_NO_REPLACE_OBJECTS=1 GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null
export GIT_CONFIG_COUNT=5 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*'
export GIT_CONFIG_KEY_1=core.hooksPath GIT_CONFIG_VALUE_1=/dev/null
export GIT_CONFIG_KEY_2=core.fsmonitor GIT_CONFIG_VALUE_2=false
export GIT_CONFIG_KEY_3=core.commitGraph GIT_CONFIG_VALUE_3=false
export GIT_CONFIG_KEY_4=gc.auto GIT_CONFIG_VALUE_4=0
"""

_REBUILD = """set -eu
command -v git > /dev/null || { echo 'git is not in this image'; exit 1; }
[ -e .git ] || { echo "no repository in $PWD"; exit 1; }
old=$(git rev-parse --absolute-git-dir)
common=$(cd "$(git rev-parse --git-common-dir)" && pwd -P)
owner=$(stat -c %u:%g .)
head=$(git rev-parse -q --verify 'HEAD^{commit}') || { echo 'HEAD is no commit'; exit 1; }
base=$(git rev-parse -q --verify "${COMMIT:-HEAD}^{commit}") \\
  || { echo "commit $COMMIT is not in this image"; exit 1; }
start=$base
roots=$(git rev-list --max-parents=0 "$base")
if [ "$head" != "$base" ]; then
  # A commit of the image's own on top, which sets up the environment, stays; any other is the future.
  if [ "$(git show -s --format='%ae %P' "$head")" = "$AUTHOR $base" ]; then start=$head
  else git reset -q --hard "$base"; fi
fi
if [ -n "$PATCH" ]; then
  git reset -q --hard "$start"
  printf %s "$PATCH" | base64 -d | git apply --index --whitespace=nowarn -
  when=$(git show -s --format=%ct "$start")
  export GIT_AUTHOR_NAME=agent GIT_AUTHOR_EMAIL=agent@localhost GIT_AUTHOR_DATE="$when +0000"
  export GIT_COMMITTER_NAME=agent GIT_COMMITTER_EMAIL=agent@localhost GIT_COMMITTER_DATE="$when +0000"
  start=$(git commit-tree "$(git write-tree)" -m 'Initial commit')
  base=$start
fi
kind=$(git rev-parse --show-object-format 2> /dev/null || true)
[ "$kind" = sha256 ] || kind=sha1  # an older git repeats what it does not know
new=$(mktemp -d /var/tmp/blind.XXXXXX)
trap 'rm -rf "$new"' EXIT
if [ "$kind" = sha1 ]; then git init -q --template= "$new"
else git init -q --template= --object-format="$kind" "$new"; fi
printf '%s\\n' "$start" | git pack-objects -q --revs "$new/.git/objects/pack/pack" > /dev/null
if [ -z "$PATCH" ] && [ -f "$common/shallow" ]; then
  # Only the cuts that this history meets: the others name commits that are not there.
  git rev-list --parents "$start" > "$new/list"
  while read -r cut; do if grep -q "^$cut" "$new/list"; then echo "$cut"; fi; done < "$common/shallow" > "$new/cuts"
  if [ -s "$new/cuts" ]; then cp "$new/cuts" "$new/.git/shallow"; fi
fi
: > "$new/tags"
if [ -z "$PATCH" ]; then
  now=$(git show -s --format=%ct "$base")
  git for-each-ref --merged="$base" --format='%(objectname) %(*objectname) t%(taggerdate:unix) %(refname)' refs/tags \\
    | while read -r direct a b c; do
        if [ -n "$c" ]; then peeled=$a dated=$b ref=$c; else peeled=$direct dated=$a ref=$b; fi
        dated=${dated#t}
        if [ "${dated:-0}" -le "$now" ]; then printf '%s %s\\n' "$peeled" "$ref"; fi
      done > "$new/tags"
fi
if [ -f "$common/info/exclude" ]; then
  mkdir -p "$new/.git/info"
  cp "$common/info/exclude" "$new/.git/info/exclude"
fi
{
  printf '[core]\\n\\trepositoryformatversion = %s\\n' "$([ "$kind" = sha1 ] && echo 0 || echo 1)"
  printf '\\tfilemode = true\\n\\tbare = false\\n\\tlogallrefupdates = true\\n'
} > "$new/.git/config"
[ "$kind" = sha1 ] || printf '[extensions]\\n\\tobjectformat = %s\\n' "$kind" >> "$new/.git/config"
printf '[user]\\n\\tname = agent\\n\\temail = agent@localhost\\n' >> "$new/.git/config"
echo 'ref: refs/heads/main' > "$new/.git/HEAD"
rm -rf "$old" "$common" .git
# A submodule's history has a future of its own.
find . -name .git -prune -print0 | xargs -0 -r rm -rf
mv "$new/.git" .git
git update-ref --no-deref refs/heads/main "$start"
while read -r commit ref; do git update-ref "$ref" "$commit"; done < "$new/tags"
rm -rf .git/logs
git pack-refs --all
git read-tree HEAD
git update-index -q --refresh || true
rm -rf .git/logs .git/ORIG_HEAD .git/FETCH_HEAD
chown -R "$owner" .git
"""

_OTHERS = """
# Copies of the same repository elsewhere in the image would tell as much.
find / -xdev \\( -path /proc -o -path /sys -o -path /dev \\) -prune -o -name .git -prune -print0 2> /dev/null \\
  | while IFS= read -r -d '' other; do
      [ "$(cd "$(dirname "$other")" && pwd -P)" != "$(pwd -P)" ] || continue
      for root in $roots; do
        if git --git-dir="$other" cat-file -e "$root^{commit}" 2> /dev/null; then rm -rf "$other"; fi
      done
    done
"""

_LOOK = r"""
set -u
say() { printf '%s\n' "$*"; }
[ -e .git ] || { say "no repository in $PWD"; exit 0; }
git=$(git rev-parse --absolute-git-dir) || { say 'git cannot read the repository'; exit 0; }
[ -d .git ] || say "the git folder stands elsewhere: $git"
head=$(git rev-parse -q --verify 'HEAD^{commit}') || { say 'HEAD is no commit'; exit 0; }
base=$(git rev-parse -q --verify "${COMMIT:-HEAD}^{commit}") || base=
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
if [ -z "$base" ]; then
  # The history was dropped: one commit, which has no parents.
  [ "$(git rev-list --count HEAD)" = 1 ] || say 'more than one commit, and the commit it starts at is not among them'
elif [ "$head" != "$base" ] && [ "$(git show -s --format='%ae %P' "$head")" != "$AUTHOR $base" ]; then
  say "HEAD is $head"
fi
git rev-list HEAD | sort > "$work/past"
git rev-list --all --reflog 2> /dev/null | sort -u > "$work/shown"
comm -13 "$work/past" "$work/shown" | sed 's/^/later commit: /'
git rev-list --objects HEAD | cut -d' ' -f1 | sort -u > "$work/needed"
git cat-file --batch-all-objects --batch-check='%(objectname) %(objecttype)' | sort -u > "$work/held"
cut -d' ' -f1 "$work/held" | comm -13 "$work/needed" - | sed 's/^/object that the past does not need: /'
git for-each-ref --format='%(objectname) %(*objectname) %(refname)' | while read -r direct a b; do
  if [ -n "$b" ]; then commit=$a ref=$b; else commit=$direct ref=$a; fi
  case "$ref" in refs/heads/*|refs/tags/*) ;; *) say "reference: $ref"; continue;; esac
  git merge-base --is-ancestor "$commit" HEAD 2> /dev/null || say "reference to later: $ref"
done
git fsck --full --no-reflogs --lost-found 2> /dev/null | grep -E '^(dangling|unreachable|missing)' | sed 's/^/fsck: /'
rm -rf "$git/lost-found"
for name in FETCH_HEAD ORIG_HEAD logs; do  # of what an agent starts with these may name the past
  if [ -e "$git/$name" ]; then
    grep -rhoaE '\b([0-9a-f]{64}|[0-9a-f]{40})\b' "$git/$name" | grep -v '^0*$' | sort -u > "$work/named"
    [ -z "$(comm -13 "$work/past" "$work/named")" ] || say "left in the git folder: $name"
  fi
done
for name in MERGE_HEAD CHERRY_PICK_HEAD REVERT_HEAD REBASE_HEAD BISECT_LOG AUTO_MERGE COMMIT_EDITMSG MERGE_MSG \
    worktrees modules rebase-merge rebase-apply sequencer rr-cache svn lfs objects/info/alternates \
    objects/info/http-alternates refs/stash refs/notes refs/replace refs/remotes refs/original; do
  if [ -d "$git/$name" ]; then
    [ -z "$(find "$git/$name" -type f | head -n 1)" ] || say "left in the git folder: $name"
  elif [ -e "$git/$name" ]; then say "left in the git folder: $name"; fi
done
find "$git/hooks" -type f ! -name '*.sample' 2> /dev/null | sed 's/^/hook: /'
git config --file "$git/config" --name-only --list \
  | grep -E '^(remote|branch|url|credential|http|include|includeif|filter|submodule|svn-remote|alias)\.' \
  | sort -u | sed 's/^/setting: /'
grep -rlaE '[a-z]+://[^/@[:space:]]+:[^/@[:space:]]+@' "$git/config" 2> /dev/null | sed 's/^/credentials: /'
git status --porcelain --untracked-files=no | sed 's/^/not clean: /'
roots=$(git rev-list --max-parents=0 HEAD)
find / -xdev \( -path /proc -o -path /sys -o -path /dev \) -prune -o -name .git -prune -print 2> /dev/null \
  | while IFS= read -r other; do
      [ "$(cd "$(dirname "$other")" && pwd -P)" != "$(pwd -P)" ] || continue
      for root in $roots; do
        if git --git-dir="$other" cat-file -e "$root^{commit}" 2> /dev/null; then say "another copy: $other"; fi
      done
    done
for cache in /root/.cache/pip /home/*/.cache/pip /root/.cache/uv /home/*/.cache/uv; do
  if [ -d "$cache" ] && [ -n "$(find "$cache" -type f | head -n 1)" ]; then say "downloads of packages: $cache"; fi
done
"""
_END = "[nothing more]"


def script(workdir: str, commit: str, patch: str = "") -> str:
    """Bash source that leaves an image's repository without a future; it ends with another status where it cannot.

    The branch ``main`` stands at ``commit``, or at the commit that SWE-bench's images have on top of it. Files that git
    does not track (what was built) stay. Other copies of the repository in the image lose their git folders.

    Args:
        workdir: where the repository is.
        commit: where the agent starts; empty means the commit the image stands at.
        patch: a unified diff to apply; then the result is the only commit.
    """
    data = patch if not patch or patch.endswith("\n") else f"{patch}\n"
    encoded = base64.b64encode(data.encode("utf-8", "surrogateescape")).decode("ascii")
    check = f"""
COMMIT=$base
found=$(set +eu
{_LOOK}
)
[ -z "$found" ] || {{ printf 'the future can still be seen:\\n%s\\n' "$found"; exit 1; }}"""
    begin = f"( {_enter(workdir)}\n{_head(commit)}PATCH={encoded}\n"
    return f"{begin}{_GIT}{_REBUILD}{_OTHERS}{FORGET_PACKAGES}{check}\n)"


def check(box: Sandbox, workdir: str, commit: str) -> list[str]:
    """What a fresh sandbox shows of the repository's future, a line each; empty where it shows nothing.

    Looks at references, reflogs, every object there is, what interrupted commands leave, other repositories it draws
    on, other copies of it, remotes and credentials, hooks, changes of tracked files, and package managers' downloads.
    It believes the sandbox's git, so it says something only of a sandbox in which no agent has been.

    Args:
        box: where to look.
        workdir: where the repository is.
        commit: where the agent starts; what is not its past is the future.

    Raises:
        SandboxError: looking took too long.
    """
    text = f"( {_enter(workdir)}\n{_head(commit)}{_GIT}{_LOOK}\n) 2>&1; echo {shlex.quote(_END)}"
    result = box.run(text, timeout=CHECK_SECONDS, shell=("/bin/bash", "-c"))
    lines = result.output.splitlines()
    if not lines or lines[-1] != _END:
        raise SandboxError(f"the repository cannot be looked at ({result.ending}): {result.output[-300:]}")
    return lines[:-1]


def _head(commit: str) -> str:
    return f"COMMIT={shlex.quote(commit)} AUTHOR={ENVIRONMENT_AUTHOR}\n"


def _enter(workdir: str) -> str:
    folder = shlex.quote(workdir)
    return f"cd {folder} 2> /dev/null || {{ echo no repository in {folder}; exit 1; }}"
