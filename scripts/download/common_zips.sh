# shellcheck shell=bash
# Part of common.sh: a zip, unpacked beside its place and moved there.

unpack_zip() { # ZIP FOLDER HOLDS: beside its place first, so that a cut leaves nothing half done
  local zip=$1 folder=$2 holds=$3 work=$2/.unpacking-${1##*/} code=0
  echo "unpacking: $zip"
  rm -rf "$work"
  require_members_inside "$zip"
  require_free "$(unpacked_bytes "$zip")" "the contents of $zip; make room and run this again"
  mkdir -p "$work"
  if has unzip; then # it asks for nothing; 1 is a warning
    unzip -q -o "$zip" -d "$work" </dev/null || code=$(($? > 1))
  else
    python3 -m zipfile -e "$zip" "$work" || code=1
  fi
  if [ $code -ne 0 ]; then
    rm -rf "$work"
    fail "$zip cannot be unpacked, see above; if it is damaged, delete it and run this again"
  fi
  [ "$holds" = "$NONE" ] || [ -e "$work/$holds" ] ||
    fail "$zip holds no $holds, but: $(find "$work" -mindepth 1 -maxdepth 1 | head -n 5 | xargs -n 1 basename | xargs)"
  merge "$work" "$folder" "$zip"
  rm -rf "$work"
}

require_members_inside() { # ZIP
  local outside # a failure to read the zip shows when it is unpacked
  outside=$(names_in "$1" | grep -E -m 1 '^[/\\]|(^|[/\\])\.\.([/\\]|$)') || true
  [ -n "$outside" ] || ! has unzip || outside=$(unzip -Z "$1" 2>/dev/null | grep -m 1 '^l') || true # python3: no links
  [ -z "$outside" ] || fail "$1 has a member that would lead out of its folder: $outside. It is not unpacked."
}

names_in() { # ZIP
  if has unzip; then
    unzip -Z1 "$1" 2>/dev/null
  else
    python3 -c 'import sys, zipfile; print(*zipfile.ZipFile(sys.argv[1]).namelist(), sep="\n")' "$1" 2>/dev/null
  fi
}

unpacked_bytes() { # ZIP; 0 where it cannot be read
  local bytes
  if has unzip; then
    bytes=$(unzip -Zt "$1" 2>/dev/null | sed -n 's/.* \([0-9]*\) bytes uncompressed.*/\1/p') || true
  else
    bytes=$(python3 -c 'import sys, zipfile; print(sum(i.file_size for i in zipfile.ZipFile(sys.argv[1]).infolist()))' \
      "$1" 2>/dev/null) || true
  fi
  echo "${bytes:-0}"
}

merge() { # FROM INTO ZIP: moves what is not there yet; what is there has to be the same
  local entry target
  # shellcheck disable=SC2016 # expanded by sh
  find "$1" -mindepth 1 -maxdepth 1 -print0 | xargs -0 sh -c 'mv -n -- "$@" "$0/"' "$2" 2>/dev/null || true
  while IFS= read -r -d '' entry; do # what was not moved
    target=$2/${entry##*/}
    if [ -d "$entry" ] && [ -d "$target" ]; then
      merge "$entry" "$target" "$3"
    elif [ ! -e "$target" ]; then
      fail "$entry could not be moved to $2"
    elif ! cmp -s "$entry" "$target"; then
      fail "$target is there, and differs from the one in $3. It stays as it is; move it away and run this again."
    fi
  done < <(find "$1" -mindepth 1 -maxdepth 1 -print0)
}
